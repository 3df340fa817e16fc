"""A search query, as clients send it over HTTP and on the command line."""

from collections.abc import Container, Iterator
from typing import Annotated, Literal, LiteralString

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
# best_match is ours, and compares groups: of each example the most similar image of the group, and
# of these similarities the mean.
Strategy = Literal["average_vector", "best_score", "best_match"]

# The field by which the images of a DICOM series belong together.
SERIES = "series_id"

# What a search can start from as a whole, and the field whose value its images share.
COLLECTED = {"series": SERIES, "study": "study_id", "accession": "accession_id"}

Keys = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...],
    Field(min_length=1, max_length=64),
]


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
    """Starts from `image_id`, `text`, `vector`, `positive` examples, or pictures sent along.

    Or from all images of a `series`, a `study` or an `accession`, by key or by original number.
    With a `text_weight`, from an image, or examples, and `text` together.
    """

    image_id: ImageId | None = None
    text: str | None = Field(None, min_length=1, max_length=2000, description="Words")
    text_weight: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Beside an image: 0 searches by the image alone, 1 by the text alone",
    )
    vector: tuple[float, ...] | None = Field(None, min_length=1, max_length=65536)
    positive: tuple[ImageId, ...] = Field((), max_length=MAX_EXAMPLES, description="Like these")
    negative: tuple[ImageId, ...] = Field((), max_length=MAX_EXAMPLES, description="Unlike those")
    strategy: Strategy | None = Field(None, description="How examples are combined")
    crop: Crop | None = Field(None, description="Only this part of the picture")
    frame: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Of a DICOM file sent along, counted from 1; without it, the middle one",
    )
    series: Keys | None = Field(None, description="All images of it: key or Series Instance UID")
    study: Keys | None = Field(None, description="All images of it: key or Study Instance UID")
    accession: Keys | None = Field(None, description="All images of it: key or Accession Number")

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
        False,
        description="Neither the searched image, also if sent along, nor any of its lesion; of "
        "DICOM, nor any of its series",
    )
    max_hash_distance: int | None = Field(
        None,
        ge=0,
        le=256,
        description="Near-duplicates only: bits of 256 by which their hashes may differ",
    )
    score_threshold: float | None = Field(None, ge=-1, le=1, description="Least cosine similarity")
    min_closeness: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Mark hits of which a smaller share of neighbours agreed; needs an evaluation",
    )

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
        yield (
            self.group_by is None and self.group_size > 1 and not self.compares_groups,
            "group_size needs group_by",
        )
        yield (
            self.group_by is not None and self.max_hash_distance is not None,
            "near-duplicates are not grouped: leave out group_by or max_hash_distance",
        )
        yield (
            self.compares_groups and self.strategy not in (None, "best_match"),
            "series, study and accession have the strategy best_match",
        )
        yield (
            self.compares_groups and (bool(self.negative) or self.crop is not None),
            "best_match takes neither negative examples nor a crop",
        )
        yield (
            self.compares_groups and self.max_hash_distance is not None,
            "near-duplicates are of one image: leave out best_match or max_hash_distance",
        )

    @property
    def collected(self) -> tuple[str, tuple[str, ...]] | None:
        """The field and the values of the images that the search starts from as a whole."""
        for name, field in COLLECTED.items():
            if (values := getattr(self, name)) is not None:
                return field, values
        return None

    @property
    def compares_groups(self) -> bool:
        return self.strategy == "best_match" or self.collected is not None

    @property
    def grouped_by(self) -> str | None:
        """The field whose values make groups; None if there are none."""
        return self.group_by or (SERIES if self.compares_groups else None)

    @property
    def named(self) -> tuple[str, ...]:
        """The ids of the indexed images that the search starts from."""
        own = () if self.image_id is None else (self.image_id,)
        return (*own, *self.positive, *self.negative)

    def is_of_one_image(self, pictures: int) -> bool:
        """Whether hits are scored by their cosine to one image, as those of an evaluation are.

        Words, and the mean of several images, lie elsewhere: their cosines mean something else.
        """
        one = (self.image_id or self.vector) is not None or len(self.positive) + pictures == 1
        plain = not self.negative and self.strategy != "best_score" and not self.compares_groups
        return one and self.text is None and plain

    def check_target(self, pictures: int, known: Container[str] = ()) -> None:
        """Raises InvalidQuery unless the query has exactly one target, and options that suit it.

        `pictures` is the number of pictures sent along; they are positive examples. `known` are
        the fields that are known of all of them.
        """
        targets = ("image_id", "text", "vector", *COLLECTED)
        named = [n for n in targets if getattr(self, n) is not None]
        examples = bool(self.positive) or pictures > 0
        if self.text_weight is not None:
            self._check_mixed(examples=examples)
            named.remove("text")
        if len(named) + examples != 1:
            raise InvalidQuery(
                "Name exactly one of image_id, text, vector, positive, series, study and "
                "accession, or send a picture.",
                ("image_id",),
            )
        if (self.negative or self.strategy) and not examples:
            raise InvalidQuery(
                "Negative examples and a strategy need positive ones, or a picture.", ("negative",)
            )
        one = self.image_id is not None or (pictures == 1 and not self.positive)
        alone = one and not self.negative and self.text_weight is None
        if self.crop is not None and not one:
            raise InvalidQuery("A crop needs exactly one picture, or image_id.", ("crop",))
        if self.max_hash_distance is not None and not alone:
            raise InvalidQuery(
                "Near-duplicates need exactly one picture, or image_id.",
                ("max_hash_distance",),
            )
        if self.min_closeness is not None and not self.is_of_one_image(pictures):
            raise InvalidQuery(
                "Closeness is known where a search starts from one image: leave out min_closeness.",
                ("min_closeness",),
            )
        self._check_frames(pictures)
        indexed = self.image_id or self.positive or self.collected
        if self.not_same is not None and not (indexed or (pictures and self.not_same in known)):
            raise InvalidQuery(
                "The fields of a picture from outside are not known; this needs image_id or "
                "positive.",
                ("not_same",),
            )

    def _check_mixed(self, *, examples: bool) -> None:
        if self.text is None or not (examples or self.image_id is not None):
            raise InvalidQuery(
                "A text_weight says how much the text counts beside an image. It needs text, and "
                "image_id, positive or a picture.",
                ("text_weight",),
            )
        if self.strategy not in (None, "average_vector"):
            raise InvalidQuery(
                "Beside text, examples have the strategy average_vector.", ("strategy",)
            )

    def _check_frames(self, pictures: int) -> None:
        if self.frame is not None and (pictures == 0 or self.compares_groups):
            raise InvalidQuery("A frame is one of a DICOM file that is sent along.", ("frame",))
        if self.strategy == "best_match" and (self.text or self.vector):
            raise InvalidQuery("best_match needs pictures, or series.", ("strategy",))
