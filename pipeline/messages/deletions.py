"""A request to delete images, and the receipt of a deletion."""

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.messages.base import FieldName, ImageId, Message
from pipeline.messages.filters import Filter
from pipeline.messages.queries import MAX_IDS


class Deletion(Message):
    """Names the images to delete, in one of three ways.

    By their ids; by an identifier that they share (a lesion, a patient), which also covers images
    that come later; or by a filter that indexed images match.
    """

    image_ids: tuple[ImageId, ...] | None = Field(None, min_length=1, max_length=MAX_IDS)
    field: FieldName | None = Field(None, description="An identifier, such as lesion_id")
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


class Receipt(Message):
    """The images that a deletion deleted, in the order of their ids."""

    id: str
    count: int
    image_ids: tuple[str, ...]
