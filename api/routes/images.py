"""Images: uploads as jobs, pages of what is held, one image, its preview, and its removal."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, Response, UploadFile
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from api.asking import ask_and_wait, parse
from api.services import Services, ServicesDep, new_id
from api.views import CollectionView, ImagesView, ImageView, JobView
from pipeline.blobs import preview_name, upload_folder
from pipeline.errors import InvalidQuery, NotHeld
from pipeline.filters import Filter
from pipeline.identity import point_id, sha256
from pipeline.messages import (
    MAX_LIMIT,
    CollectionAnswer,
    CollectionAsk,
    DeleteAnswer,
    DeleteAsk,
    ImageAsk,
    ImagesAnswer,
    ImagesAsk,
    Manifest,
    UploadedFile,
    UploadSource,
)

router = APIRouter(prefix="/v1", tags=["images"])

MAX_FILES = 1000
PREVIEW_SECONDS = 3600  # how long a browser may keep a preview before it asks again

_metadata: TypeAdapter[list[dict[str, Any]]] = TypeAdapter(list[dict[str, Any]])


@router.post("/images", status_code=202)
def upload(
    files: Annotated[list[UploadFile], File(max_length=MAX_FILES)],
    services: ServicesDep,
    response: Response,
    metadata: Annotated[str | None, Form(description="JSON list, one object a file")] = None,
) -> JobView:
    """Ingests files; an `image_id` in the metadata is the image's identity, else its SHA-256 is."""
    described = _described(metadata, len(files))
    job = new_id()
    kept = tuple(
        _keep(services, f"{upload_folder(job)}/{number}", file.file.read(), described[number])
        for number, file in enumerate(files)
    )
    manifest = f"{upload_folder(job)}/manifest.json"
    services.blobs.write(manifest, Manifest(files=kept).model_dump_json().encode())
    services.start_job(job, UploadSource(manifest=manifest))
    response.headers["Location"] = f"/v1/jobs/{job}"
    return JobView.of(services.ledger.jobs.get(job))


@router.get("/images")
async def held(
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
    filter: Annotated[str | None, Query(description="Qdrant's filter JSON")] = None,  # noqa: A002
    vectors: Annotated[bool, Query(description="With the vectors")] = False,
) -> ImagesView:
    """A page of what is held, in the order of point ids."""
    condition = None if filter is None else parse(Filter, filter.encode(), ("filter",))
    ask = ImagesAsk(filter=condition, limit=limit, cursor=cursor, vectors=vectors)
    found = ImagesAnswer.model_validate_json(await ask_and_wait(services, ask))
    return ImagesView(images=[ImageView.of(i) for i in found.images], cursor=found.cursor)


# Ids can hold slashes, so the longer path is tried first.
@router.get(
    "/images/{image_id:path}/preview",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}},
)
def preview(image_id: str, services: ServicesDep) -> Response:
    """A JPEG of the whole picture, made smaller."""
    try:
        data = services.blobs.read(preview_name(point_id(image_id)))
    except FileNotFoundError:
        raise NotHeld("There is no preview of this image.") from None
    headers = {"Cache-Control": f"private, max-age={PREVIEW_SECONDS}"}
    return Response(data, media_type="image/jpeg", headers=headers)


@router.get("/images/{image_id:path}")
async def one(image_id: str, services: ServicesDep) -> ImageView:
    answer = await ask_and_wait(services, ImageAsk(image_id=image_id))
    return ImageView.of(ImagesAnswer.model_validate_json(answer).images[0])


@router.delete("/images/{image_id:path}")
async def delete(image_id: str, services: ServicesDep) -> DeleteAnswer:
    """Gone from the store and the blobs. A later ingest of the same source brings it back."""
    answer = await ask_and_wait(services, DeleteAsk(image_id=image_id))
    return DeleteAnswer.model_validate_json(answer)


@router.get("/collection")
async def collection(services: ServicesDep) -> CollectionView:
    """How many images are held, what embedded them, and the values of the main fields."""
    answer = await ask_and_wait(services, CollectionAsk())
    found = CollectionAnswer.model_validate_json(answer)
    return await run_in_threadpool(CollectionView.model_validate, found.model_dump())


def _keep(services: Services, blob: str, data: bytes, metadata: dict[str, Any]) -> UploadedFile:
    services.blobs.write(blob, data)
    return UploadedFile(blob=blob, sha256=sha256(data), metadata=metadata)


def _described(metadata: str | None, files: int) -> list[dict[str, Any]]:
    if metadata is None:
        return [{} for _ in range(files)]
    try:
        described = _metadata.validate_python(json.loads(metadata))
    except (ValueError, RecursionError):
        raise InvalidQuery("metadata must be a JSON list of objects.", ("metadata",)) from None
    if len(described) != files:
        detail = f"metadata describes {len(described)} files, but {files} were sent."
        raise InvalidQuery(detail, ("metadata",))
    return described
