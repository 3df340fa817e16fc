"""Quarantine: images that may have names in their pixels, for an admin to look at, and then to
release, to mask and release, or to refuse."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from api.access import require
from api.audit import Entry, EntryDep
from api.problems import documented
from api.routes.images import ImageIdPath
from api.services import Collection, CollectionDep, new_id
from pipeline.base.blobs import withheld_folder
from pipeline.base.errors import InvalidQuery, NotFound
from pipeline.base.identity import point_id
from pipeline.ledger.withheld import Withheld
from pipeline.messages import (
    MOST_RECTANGLES,
    Message,
    Rectangle,
    WithheldImage,
    quarantine_path,
)
from pipeline.messages.base import ImageId
from pipeline.operations.ingest import INGEST, IngestRequest
from pipeline.operations.job import JobView
from pipeline.sources.quarantine import PICTURE, PREVIEW, QuarantineSource, ReleasedImage

router = APIRouter(prefix="/quarantine", tags=["quarantine"], dependencies=[require("admin")])

MOST = 1000  # images in one call
_MISSING_OR_BUSY = documented(404, 409)

ImageIds = Annotated[tuple[ImageId, ...], Field(min_length=1, max_length=MOST)]
Rectangles = Annotated[tuple[Rectangle, ...], Field(max_length=MOST_RECTANGLES)]


class QuarantinedView(WithheldImage):
    """`releasing` is the job that embeds it now, if one does."""

    releasing: str | None
    preview_url: str
    picture_url: str


class QuarantineView(Message):
    """`count` is how many wait in all. `cursor` leads to the next page; null on the last one."""

    images: tuple[QuarantinedView, ...]
    count: int
    cursor: int | None


class Mask(Message):
    """`rectangles`, in pixels of the picture, are made black first."""

    rectangles: Rectangles = ()


class Release(Mask):
    """`rectangles` are made black in each of the images."""

    image_ids: ImageIds


class Images(Message):
    image_ids: ImageIds


class RefusedView(Message):
    """How many images were refused, or are allowed again."""

    count: int


@router.get("", name="list_quarantine")
def waiting(
    collection: CollectionDep,
    entry: EntryDep,
    limit: Annotated[int, Query(ge=0, le=200)] = 50,
    cursor: Annotated[int, Query(ge=0, lt=2**53)] = 0,
) -> QuarantineView:
    """The images that wait, a page at a time, the oldest first; with `limit=0` their number."""
    ledger = collection.ledger.withheld
    found = ledger.page(cursor, limit + 1)
    views = [view for each in found[:limit] if (view := _view(collection, each)) is not None]
    entry.shown = [view.image_id for view in views]
    following = found[max(0, limit - 1)].place if len(found) > limit else None
    return QuarantineView(images=tuple(views), count=ledger.count(), cursor=following)


@router.post("/release", name="release_images", status_code=202, responses=_MISSING_OR_BUSY)
def release_all(
    wanted: Release, collection: CollectionDep, response: Response, entry: EntryDep
) -> JobView:
    """Starts a job that embeds them. Each leaves quarantine when it is indexed."""
    return _release(collection, wanted.image_ids, wanted.rectangles, response, entry)


@router.post("/refuse", name="refuse_images", responses=_MISSING_OR_BUSY)
def refuse_all(wanted: Images, collection: CollectionDep, entry: EntryDep) -> RefusedView:
    """Deletes what waits of them. The same pictures are rejected from now on."""
    return _refuse(collection, wanted.image_ids, entry)


@router.post("/allow", name="allow_images")
def allow(wanted: Images, collection: CollectionDep, entry: EntryDep) -> RefusedView:
    """Takes back that they were refused: ingested again, they wait in quarantine again."""
    entry.images = list(wanted.image_ids)
    points = [point_id(image_id) for image_id in wanted.image_ids]
    return RefusedView(count=collection.ledger.withheld.allow(points))


@router.get(
    "/{image_id:any}/picture",
    name="get_quarantined_picture",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
)
def picture(image_id: ImageIdPath, collection: CollectionDep) -> Response:
    """The whole picture as a PNG, as it would be embedded."""
    return _blob(collection, image_id, PICTURE, "image/png")


@router.get(
    "/{image_id:any}/preview",
    name="get_quarantined_preview",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}},
)
def preview(image_id: ImageIdPath, collection: CollectionDep) -> Response:
    """A smaller JPEG of the whole picture."""
    return _blob(collection, image_id, PREVIEW, "image/jpeg")


@router.post(
    "/{image_id:any}/release", name="release_image", status_code=202, responses=_MISSING_OR_BUSY
)
def release(
    image_id: ImageIdPath,
    collection: CollectionDep,
    response: Response,
    entry: EntryDep,
    mask: Mask | None = None,
) -> JobView:
    """Starts a job that embeds one image, with rectangles made black if it names some."""
    return _release(collection, (image_id,), (mask or Mask()).rectangles, response, entry)


@router.post("/{image_id:any}/refuse", name="refuse_image", responses=_MISSING_OR_BUSY)
def refuse(image_id: ImageIdPath, collection: CollectionDep, entry: EntryDep) -> RefusedView:
    """Deletes what waits of one image. The same picture is rejected from now on."""
    return _refuse(collection, (image_id,), entry)


@router.get("/{image_id:any}", name="get_quarantined_image")
def one(image_id: ImageIdPath, collection: CollectionDep) -> QuarantinedView:
    """What is known of one image that waits, and where text is known or was found."""
    view = _view(collection, _find(collection, (image_id,))[0])
    if view is None:
        raise _unknown(image_id)
    return view


def _release(
    collection: Collection,
    image_ids: Sequence[str],
    rectangles: tuple[Rectangle, ...],
    response: Response,
    entry: Entry,
) -> JobView:
    entry.images = list(image_ids)
    names = [each.name for each in _find(collection, image_ids)]
    known = [
        _known(collection, name, image_id) for name, image_id in zip(names, image_ids, strict=True)
    ]
    for image in known:
        _check(rectangles, image)
    images = tuple(
        ReleasedImage(name=name, image_id=image.image_id, sha256=image.sha256)
        for name, image in zip(names, known, strict=True)
    )
    request = IngestRequest(source=QuarantineSource(images=images, masks=rectangles))
    job = entry.job = new_id()
    body = request.model_dump_json(exclude_none=True)
    collection.ledger.withheld.release(names, job, (INGEST.name, INGEST.queue), body)
    collection.dispatch()
    response.headers["Location"] = f"{collection.base}/jobs/{job}"
    return JobView.of(collection.ledger.jobs.get(job))


def _refuse(collection: Collection, image_ids: Sequence[str], entry: Entry) -> RefusedView:
    entry.images = list(image_ids)
    names = [each.name for each in _find(collection, image_ids)]
    collection.quarantine.refuse(names)
    return RefusedView(count=len(names))


def _find(collection: Collection, image_ids: Sequence[str]) -> list[Withheld]:
    """One for each id, which may be named once. Raises NotFound and InvalidQuery."""
    if len(set(image_ids)) < len(image_ids):
        raise InvalidQuery("Name each image once.", ("image_ids",))
    points = [point_id(image_id) for image_id in image_ids]
    found = collection.ledger.withheld.find(points)
    for image_id, point in zip(image_ids, points, strict=True):
        if point not in found:
            raise _unknown(image_id)
    return [found[point] for point in points]


def _known(collection: Collection, name: str, image_id: str) -> WithheldImage:
    known = collection.quarantine.known(name)
    if known is None:
        raise _unknown(image_id)
    return known


def _check(rectangles: Sequence[Rectangle], image: WithheldImage) -> None:
    """A rectangle beside the picture would cover nothing, and whoever drew it would not know."""
    for number, each in enumerate(rectangles):
        if each.left >= image.width or each.top >= image.height:
            detail = f"It lies outside of the picture, {image.width} × {image.height} pixels."
            raise InvalidQuery(detail, ("rectangles", number))


def _view(collection: Collection, each: Withheld) -> QuarantinedView | None:
    """None if it has left quarantine just now."""
    known = collection.quarantine.known(each.name)
    if known is None:
        return None
    path = quarantine_path(known.image_id, collection.base)
    return QuarantinedView(
        **dict(known),
        releasing=each.releasing,
        preview_url=f"{path}/preview",
        picture_url=f"{path}/picture",
    )


def _blob(collection: Collection, image_id: str, blob: str, media: str) -> Response:
    [found] = _find(collection, (image_id,))
    try:
        data = collection.blobs.read(f"{withheld_folder(found.name)}/{blob}")
    except FileNotFoundError:
        raise _unknown(image_id) from None
    return Response(data, media_type=media)  # which no browser keeps, as no answer of ours


def _unknown(image_id: str) -> NotFound:
    return NotFound(f"There is no image {image_id} in quarantine.")
