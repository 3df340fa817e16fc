"""Images: pages of those that are indexed, one image, its preview, and its deletion."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor

from api.access import require
from api.audit import EntryDep
from api.queries import PATIENCE, AnsweredWithProblem, parse, passed_on
from api.routes import deletions
from api.services import Collection, CollectionDep, new_id
from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.errors import NotFound
from pipeline.base.identity import point_id, sha256
from pipeline.dicom.pseudonyms import ids_of, is_uid, split_frame
from pipeline.lifecycle.receipts import DeleteRequest
from pipeline.messages import (
    MAX_ID,
    MAX_LIMIT,
    Deletion,
    Receipt,
)
from pipeline.messages.filters import Filter
from pipeline.operations.browse import IMAGE, IMAGES, ImageRequest, ImagesRequest
from pipeline.operations.delete import DeletionView
from pipeline.operations.facets import (
    COLLECTION,
    FACETS,
    CollectionRequest,
    FacetsRequest,
)

router = APIRouter(tags=["images"], dependencies=[require("search")])

PREVIEW_SECONDS = 3600  # how long a browser may cache a preview

FilterText = Annotated[str | None, Query(description="Qdrant's filter JSON")]


class _AnyText(Convertor[str]):
    """Matches any text. An id can contain slashes, also as %2F, and newlines.

    Starlette's own convertor stops at a newline.
    """

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", _AnyText())

ImageIdPath = Annotated[str, Path(min_length=1, max_length=MAX_ID)]


@router.get("/images", name="list_images", response_model=IMAGES.answer)
async def stored(
    collection: CollectionDep,
    entry: EntryDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
    filter: FilterText = None,  # noqa: A002
    vectors: Annotated[bool, Query(description="With the vectors")] = False,
) -> Response:
    """A page of the indexed images, in the order of point ids."""
    page = ImagesRequest(filter=_condition(filter), limit=limit, cursor=cursor, vectors=vectors)
    return await passed_on(collection, IMAGES, page, entry)


def _read(blobs: Blobs, name: str) -> bytes | None:
    try:
        return blobs.read(name)
    except FileNotFoundError:
        return None


# The longer path is tried first, since an id can contain slashes.
@router.head("/images/{image_id:any}/preview", include_in_schema=False)
@router.get(
    "/images/{image_id:any}/preview",
    name="get_preview",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 304: {"description": "Not changed"}},
)
async def preview(
    image_id: ImageIdPath, request: Request, collection: CollectionDep, entry: EntryDep
) -> Response:
    """A smaller JPEG of the whole picture."""
    if not request.scope["raw_path"].endswith(b"/preview"):
        if len(image_id) > MAX_ID - len("/preview"):
            raise NotFound("There is no such image.")
        # The id itself ends with /preview, written with %2F.
        return await one(f"{image_id}/preview", collection, entry)
    return await run_in_threadpool(_preview, image_id, request, collection)


def _preview(image_id: str, request: Request, collection: Collection) -> Response:
    ids = [image_id]
    if is_uid(split_frame(image_id)[0]):  # as a file has it
        ids += ids_of(collection.pseudonyms, ids)[image_id]
    found = (_read(collection.blobs, preview_name(point_id(each))) for each in ids)
    data = next(filter(None, found), None)
    if data is None:
        raise NotFound("There is no preview of this image.")
    tag = f'"{sha256(data)[:32]}"'
    headers = {"Cache-Control": f"private, max-age={PREVIEW_SECONDS}", "ETag": tag}
    if tag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)


@router.get("/images/{image_id:any}", name="get_image", response_model=IMAGE.answer)
async def one(image_id: ImageIdPath, collection: CollectionDep, entry: EntryDep) -> Response:
    """One image by its id, or by the SOP Instance UID of its file."""
    return await passed_on(collection, IMAGE, ImageRequest(image_id=image_id), entry)


@router.delete(
    "/images/{image_id:any}",
    name="delete_image",
    response_model=Receipt,
    responses={202: {"model": DeletionView, "description": "It still runs; see `Location`"}},
    dependencies=[require("admin")],
)
async def delete(image_id: ImageIdPath, collection: CollectionDep) -> Any:
    """Deletes the image for good, as `POST /v1/deletions` does; 404 if there is no such image."""
    identifier = new_id()
    request = DeleteRequest(wanted=Deletion(image_ids=(image_id,)), must_exist=True)
    job = await deletions.start(collection, identifier, request, PATIENCE)
    if job.error is not None:
        raise AnsweredWithProblem(job.error)
    if job.final:
        return await run_in_threadpool(collection.receipts.receipt, identifier)
    location = f"{collection.base}/deletions/{identifier}"
    view = await run_in_threadpool(deletions.view_of, collection, job)
    return JSONResponse(view.model_dump(mode="json"), 202, {"Location": location})


@router.get("/collection", name="get_collection", response_model=COLLECTION.answer)
async def about(collection: CollectionDep) -> Response:
    """The number of indexed images, their encoder, and the values of the main fields."""
    return await passed_on(collection, COLLECTION, CollectionRequest())


@router.get("/facets", name="get_facets", response_model=FACETS.answer)
async def facets(
    collection: CollectionDep,
    filter: FilterText = None,  # noqa: A002
) -> Response:
    """How many images match a filter, and their values, by which to filter further."""
    return await passed_on(collection, FACETS, FacetsRequest(filter=_condition(filter)))


def _condition(text: str | None) -> Filter | None:
    return None if text is None else parse(Filter, text, ("filter",))
