"""A search query, as clients send it over HTTP and on the command line."""

from collections.abc import Iterator
from typing import Literal, LiteralString

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.base.errors import InvalidQuery
from pipeline.messages.base import FieldName, ImageId, Message
from pipeline.messages.filters import Filter

MAX_LIMIT = 1000
MAX_IDS = 10_000
MAX_EXAMPLES = 100
MAX_GROUP = 100

# How examples are combined, in Qdrant's terms: average_vector is one search from
# 2 mean(positive) - mean(negative); best_score compares each image with its best example.
Strategy = Literal["average_vector", "best_score"]


class Crop(Message):
    """A rectangle of a picture, in fractions of its upright width and height."""

    left: float = Field(ge=0, lt=1)
    top: float = Field(ge=0, lt=1)
    width: float = Field(gt=0, le=1)
    height: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _inside(self) -> "Crop":
        # A rectangle that the page computes from pixels can be off by a rounding error.
        if self.left + self.width > 1 + 1e-6 or self.top + self.height > 1 + 1e-6:
            raise PydanticCustomError("crop", "the rectangle reaches outside the picture")
        return self


class SearchQuery(Message):
    """Starts from `image_id`, `text`, `vector`, `positive` examples, or pictures sent along."""

    image_id: ImageId | None = None
    text: str | None = Field(None, min_length=1, max_length=2000, description="Words")
    vector: tuple[float, ...] | None = Field(None, min_length=1, max_length=65536)
    positive: tuple[ImageId, ...] = Field((), max_length=MAX_EXAMPLES, description="Like these")
    negative: tuple[ImageId, ...] = Field((), max_length=MAX_EXAMPLES, description="Unlike those")
    strategy: Strategy | None = Field(None, description="How examples are combined")
    crop: Crop | None = Field(None, description="Only this part of the picture")

    filter: Filter | None = Field(None, description="Qdrant's filter JSON")
    ids: tuple[str, ...] | None = Field(
        None, max_length=MAX_IDS, description="Only these image ids"
    )
    not_ids: tuple[str, ...] | None = Field(
        None, max_length=MAX_IDS, description="Not these image ids"
    )
    not_same: FieldName | None = Field(
        None, description="Neither the searched image, nor any with the same value of this field"
    )
    exclude_same_lesion: bool = Field(
        False, description="Neither the searched image, also if sent along, nor any of its lesion"
    )
    max_hash_distance: int | None = Field(
        None,
        ge=0,
        le=256,
        description="Near-duplicates only: bits of 256 by which their hashes may differ",
    )
    score_threshold: float | None = Field(None, ge=-1, le=1, description="Least cosine similarity")

    group_by: FieldName | None = Field(None, description="Images with one value count as one")
    group_size: int = Field(1, ge=1, le=MAX_GROUP, description="Images shown of each group")
    exact: bool = Field(False, description="Compare with every image: slower where there are many")
    limit: int = Field(10, ge=1, le=MAX_LIMIT)
    offset: int = Field(0, ge=0, le=100_000)
    include: tuple[str, ...] | None = Field(None, description="Only these payload fields")
    exclude: tuple[str, ...] | None = Field(None, description="All payload fields but these")

    @model_validator(mode="after")
    def _consistent(self) -> "SearchQuery":
        for wrong, why in self._contradictions():
            if wrong:
                raise PydanticCustomError("query", why)
        return self

    def _contradictions(self) -> Iterator[tuple[bool, LiteralString]]:
        yield (
            self.include is not None and self.exclude is not None,
            "include and exclude cannot be used together",
        )
        yield (
            bool(self.ids) and set(self.ids or ()) <= set(self.not_ids or ()),
            "no image can fit: not_ids excludes all of ids",
        )
        yield (
            bool(set(self.positive) & set(self.negative)),
            "an image cannot be both a positive and a negative example",
        )
        yield self.group_by is None and self.group_size > 1, "group_size needs group_by"
        yield (
            self.group_by is not None and self.max_hash_distance is not None,
            "near-duplicates are not grouped: leave out group_by or max_hash_distance",
        )

    @property
    def named(self) -> tuple[str, ...]:
        """The ids of the indexed images that the search starts from."""
        own = () if self.image_id is None else (self.image_id,)
        return (*own, *self.positive, *self.negative)

    def check_target(self, pictures: int) -> None:
        """Raises InvalidQuery unless the query has exactly one target, and options that suit it.

        `pictures` is the number of pictures sent along; they are positive examples.
        """
        named = [n for n in ("image_id", "text", "vector") if getattr(self, n) is not None]
        examples = bool(self.positive) or pictures > 0
        if len(named) + examples != 1:
            raise InvalidQuery(
                "Name exactly one of image_id, text, vector and positive, or send a picture.",
                ("image_id",),
            )
        if (self.negative or self.strategy) and not examples:
            raise InvalidQuery(
                "Negative examples and a strategy need positive ones, or a picture.", ("negative",)
            )
        one = self.image_id is not None or (pictures == 1 and not self.positive)
        if self.crop is not None and not one:
            raise InvalidQuery("A crop needs exactly one picture, or image_id.", ("crop",))
        if self.max_hash_distance is not None and (not one or self.negative):
            raise InvalidQuery(
                "Near-duplicates need exactly one picture, or image_id.",
                ("max_hash_distance",),
            )
        if self.not_same is not None and not (self.image_id or self.positive):
            raise InvalidQuery(
                "The fields of a picture from outside are not known; this needs image_id or "
                "positive.",
                ("not_same",),
            )
