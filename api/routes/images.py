"""Images: uploads as jobs, pages of what is held, one image, its preview, and its removal."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from pydantic import TypeAdapter

from api.access import require
from api.asking import parse, passed_on
from api.audit import EntryDep
from api.services import Services, ServicesDep, new_id
from api.views import JobView
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
    FacetsAnswer,
    FacetsAsk,
    HeldImage,
    ImageAsk,
    ImagesAnswer,
    ImagesAsk,
    Manifest,
    UploadedFile,
    UploadSource,
)

router = APIRouter(prefix="/v1", tags=["images"], dependencies=[require("search")])

MAX_FILES = 1000
PREVIEW_SECONDS = 3600  # how long a browser may keep a preview before it asks again

FilterText = Annotated[str | None, Query(description="Qdrant's filter JSON")]

_metadata: TypeAdapter[list[dict[str, Any]]] = TypeAdapter(list[dict[str, Any]])


@router.post("/images", status_code=202, dependencies=[require("ingest")])
def upload(
    files: Annotated[list[UploadFile], File(max_length=MAX_FILES)],
    services: ServicesDep,
    response: Response,
    entry: EntryDep,
    metadata: Annotated[str | None, Form(description="JSON list, one object a file")] = None,
) -> JobView:
    """Ingests files; an `image_id` in the metadata is the image's identity, else its SHA-256 is."""
    described = _described(metadata, len(files))
    job = entry.job = new_id()
    kept = tuple(
        _keep(services, f"{upload_folder(job)}/{number}", file.file.read(), described[number])
        for number, file in enumerate(files)
    )
    manifest = f"{upload_folder(job)}/manifest.json"
    services.blobs.write(manifest, Manifest(files=kept).model_dump_json().encode())
    services.start_job(job, UploadSource(manifest=manifest))
    response.headers["Location"] = f"/v1/jobs/{job}"
    return JobView.of(services.ledger.jobs.get(job))


@router.get("/images", response_model=ImagesAnswer)
async def held(
    services: ServicesDep,
    entry: EntryDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
    filter: FilterText = None,  # noqa: A002
    vectors: Annotated[bool, Query(description="With the vectors")] = False,
) -> Response:
    """A page of what is held, in the order of point ids."""
    ask = ImagesAsk(filter=_condition(filter), limit=limit, cursor=cursor, vectors=vectors)
    return await passed_on(services, ask, entry)


# Ids can hold slashes, so the longer path is tried first.
@router.get(
    "/images/{image_id:path}/preview",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 304: {"description": "Not changed"}},
)
def preview(image_id: str, request: Request, services: ServicesDep) -> Response:
    """A JPEG of the whole picture, made smaller."""
    try:
        data = services.blobs.read(preview_name(point_id(image_id)))
    except FileNotFoundError:
        raise NotHeld("There is no preview of this image.") from None
    tag = f'"{sha256(data)[:32]}"'
    headers = {"Cache-Control": f"private, max-age={PREVIEW_SECONDS}", "ETag": tag}
    if tag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)


@router.get("/images/{image_id:path}", response_model=HeldImage)
async def one(image_id: str, services: ServicesDep, entry: EntryDep) -> Response:
    return await passed_on(services, ImageAsk(image_id=image_id), entry)


@router.delete(
    "/images/{image_id:path}", response_model=DeleteAnswer, dependencies=[require("admin")]
)
async def delete(image_id: str, services: ServicesDep) -> Response:
    """Gone from the store and the blobs. A later ingest of the same source brings it back."""
    return await passed_on(services, DeleteAsk(image_id=image_id))


@router.get("/collection", response_model=CollectionAnswer)
async def collection(services: ServicesDep) -> Response:
    """How many images are held, what embedded them, and the values of the main fields."""
    return await passed_on(services, CollectionAsk())


@router.get("/facets", response_model=FacetsAnswer)
async def facets(
    services: ServicesDep,
    filter: FilterText = None,  # noqa: A002
) -> Response:
    """How many images fit a filter, and the values that they have: what else to filter by."""
    return await passed_on(services, FacetsAsk(filter=_condition(filter)))


def _condition(text: str | None) -> Filter | None:
    return None if text is None else parse(Filter, text.encode(), ("filter",))


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
