"""What needs the store or the model, and is answered by a worker."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.messages.base import FieldName, ImageId, Message
from pipeline.messages.filters import Filter
from pipeline.messages.queries import MAX_IDS, MAX_LIMIT, SearchQuery

MAX_BATCH = 100
MAX_PICTURES = 16


class SearchAsk(Message):
    """`images` are the blobs of pictures sent along."""

    kind: Literal["search"] = "search"
    query: SearchQuery
    images: tuple[str, ...] = Field((), max_length=MAX_PICTURES)


class BatchAsk(Message):
    kind: Literal["batch"] = "batch"
    searches: tuple[SearchQuery, ...] = Field(min_length=1, max_length=MAX_BATCH)


class ImagesAsk(Message):
    """A page of what is held, with its vectors if they are wanted."""

    kind: Literal["images"] = "images"
    filter: Filter | None = None
    limit: int = Field(50, ge=1, le=MAX_LIMIT)
    cursor: str | None = None
    vectors: bool = False


class ImageAsk(Message):
    """One image's metadata, and where its preview lies."""

    kind: Literal["image"] = "image"
    image_id: ImageId


class Deletion(Message):
    """What is to be deleted, in one of three ways.

    Images by their ids; all images that share an identifier (a lesion, a patient), also those that
    would come later; or whatever is held now and fits a filter.
    """

    image_ids: tuple[ImageId, ...] | None = Field(None, min_length=1, max_length=MAX_IDS)
    field: FieldName | None = Field(None, description="An identifier, as lesion_id")
    value: str | int | None = Field(None, description="Its value")
    filter: Filter | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "Deletion":
        if (self.field is None) != (self.value is None):
            raise PydanticCustomError("deletion", "field and value belong together")
        if sum(way is not None for way in (self.image_ids, self.field, self.filter)) != 1:
            raise PydanticCustomError(
                "deletion", "expected one of image_ids, field with value, and filter"
            )
        if self.filter is not None and not self.filter.given():
            raise PydanticCustomError("deletion", "an empty filter would delete everything")
        return self


class DeleteAsk(Message):
    """`id` names the deletion, so that one that is repeated goes on with its receipt."""

    kind: Literal["delete"] = "delete"
    id: str
    wanted: Deletion
    held: bool = Field(False, description="Whether an image that is not held is an error")


class LiftAsk(Message):
    """Lets what a deletion took be ingested again."""

    kind: Literal["lift"] = "lift"
    id: str


class ReceiptAsk(Message):
    """What a deletion has taken so far."""

    kind: Literal["receipt"] = "receipt"
    id: str


class CollectionAsk(Message):
    kind: Literal["collection"] = "collection"


class FacetsAsk(Message):
    """What there is to filter by, among the images that fit already."""

    kind: Literal["facets"] = "facets"
    filter: Filter | None = None


Ask = Annotated[
    SearchAsk
    | BatchAsk
    | ImagesAsk
    | ImageAsk
    | DeleteAsk
    | LiftAsk
    | ReceiptAsk
    | CollectionAsk
    | FacetsAsk,
    Field(discriminator="kind"),
]

# Names on the queue, and in Flower. Every task takes one id and nothing else.
ASK_TASKS: dict[str, str] = {
    "search": "kindred.search",
    "batch": "kindred.search",
    "images": "kindred.images",
    "image": "kindred.images",
    "delete": "kindred.delete",
    "lift": "kindred.delete",
    "receipt": "kindred.delete",
    "collection": "kindred.collection",
    "facets": "kindred.collection",
}
