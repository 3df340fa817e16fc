"""Browse: pages of the indexed images, and one image."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import Field

from pipeline.base.errors import InvalidQuery
from pipeline.base.identity import point_id
from pipeline.dicom.pseudonyms import no_image
from pipeline.messages import MAX_LIMIT, Message, StoredImage, preview_path, unsealed
from pipeline.messages.base import ImageId
from pipeline.messages.filters import Filter
from pipeline.operations.base import Call, query

if TYPE_CHECKING:
    from pipeline.operations.context import Context
    from pipeline.store import Record


class ImagesRequest(Message):
    """A page of images in the order of point ids, with their vectors if requested."""

    filter: Filter | None = None
    limit: int = Field(50, ge=1, le=MAX_LIMIT)
    cursor: str | None = None
    vectors: bool = False


class ImagesAnswer(Message):
    images: tuple[StoredImage, ...]
    cursor: str | None = None


class ImageRequest(Message):
    """One image's metadata, and the URL of its preview."""

    image_id: ImageId


def _images(context: Context, request: ImagesRequest, call: Call) -> ImagesAnswer:
    condition = context.fields.originals.filter(request.filter)
    context.fields.check_filter(condition)
    records, following = context.store.scroll(
        request.limit,
        filter=condition,
        cursor=None if request.cursor is None else _cursor(request.cursor),
        vectors=request.vectors,
    )
    images = tuple(_shown(record, call.base) for record in records)
    return ImagesAnswer(images=images, cursor=None if following is None else str(following))


def _image(context: Context, request: ImageRequest, call: Call) -> StoredImage:
    point = point_id(context.fields.originals.stored_id(request.image_id))
    record = context.store.retrieve([point]).get(point)
    if record is None:
        raise no_image(request.image_id)
    return _shown(record, call.base)


def _cursor(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise InvalidQuery("This cursor is not valid.", ("cursor",)) from error


def _shown(record: Record, base: str) -> StoredImage:
    image_id = record.payload["image_id"]
    payload, sealed = unsealed(record.payload)
    return StoredImage.model_construct(
        image_id=image_id,
        point_id=str(record.id),
        payload=payload,
        viewer=sealed,
        preview_url=preview_path(image_id, base),
        vector=None if record.vector is None else tuple(record.vector.tolist()),
    )


IMAGES = query("images", ImagesRequest, ImagesAnswer, _images)
IMAGE = query("image", ImageRequest, StoredImage, _image)
