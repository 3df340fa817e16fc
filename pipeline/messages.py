"""What travels between the api and the workers, as JSON: job sources, asks and answers.

Messages on the queue carry ids alone. The bodies below lie with the ledger (sources) or as blobs
(asks and their answers, which can hold a patient's metadata). Answers are written as the api serves
them, so that it need not read them.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, LiteralString
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from pipeline.errors import InvalidQuery, KindredError
from pipeline.filters import Filter

Payload = dict[str, Any]

MAX_LIMIT = 1000
MAX_BATCH = 100
MAX_IDS = 10_000
MAX_EXAMPLES = 100
MAX_PICTURES = 16
MAX_GROUP = 100
MAX_ID = 1000  # characters

ImageId = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
FieldName = Annotated[str, Field(min_length=1, max_length=1000)]

# How examples are combined, in Qdrant's words: one search from 2 mean(positive) - mean(negative),
# or each image by its best example.
Strategy = Literal["average_vector", "best_score"]


class Message(BaseModel):
    """Unknown fields are refused: a misspelt option must not be silently ignored."""

    # Errors end up in logs, and inputs can hold patients' data.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


# --- jobs ------------------------------------------------------------------------------------


class DatasetSource(Message):
    """A hub data set, or a folder of parquet or of images that the workers can see."""

    kind: Literal["dataset"] = "dataset"
    dataset: str = Field(min_length=1, max_length=1000, description="Hub name or folder")
    split: str = Field("train", min_length=1, max_length=200)
    revision: str | None = Field(
        None, max_length=200, description="Commit, branch or tag on the hub"
    )
    limit: int | None = Field(None, ge=1, description="Only the first so many rows")
    image_column: str | None = Field(None, description="Default: the first column of images")
    id_column: str | None = Field(None, description="Default: image_id or SOPInstanceUID, if there")


class UploadSource(Message):
    """Files that came through the api; `manifest` is the blob that lists them."""

    kind: Literal["upload"] = "upload"
    manifest: str


Source = Annotated[DatasetSource | UploadSource, Field(discriminator="kind")]


class UploadedFile(Message):
    """One line of an upload's manifest. The file's name is not kept: names can hold patients'."""

    blob: str
    sha256: str
    metadata: dict[str, JsonValue] = Field(default_factory=dict)


class Manifest(Message):
    files: tuple[UploadedFile, ...]


class Rejection(Message):
    """One image that was not taken. `reason` says what is wrong with it, never what is in it."""

    key: str
    row: int
    reason: str


def _is_none(value: Any) -> bool:
    return value is None


def preview_path(image_id: str) -> str:
    """Where the api serves the picture of an image."""
    return f"/v1/images/{quote(image_id, safe='')}/preview"


# --- asks: what needs the store or the model, and is answered by a worker -------------------------


class Crop(Message):
    """A rectangle of a picture, as it is looked at, in fractions of its width and height."""

    left: float = Field(ge=0, lt=1)
    top: float = Field(ge=0, lt=1)
    width: float = Field(gt=0, le=1)
    height: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _inside(self) -> "Crop":
        # What a page computes from pixels can be off by a rounding error.
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
        None, description="Not the searched image, nor any with its value of this field"
    )
    max_hash_distance: int | None = Field(
        None, ge=0, le=64, description="Near-duplicates only: bits by which their hashes may differ"
    )
    score_threshold: float | None = Field(None, ge=-1, le=1, description="Least cosine similarity")

    group_by: FieldName | None = Field(None, description="Images with one value count as one")
    group_size: int = Field(1, ge=1, le=MAX_GROUP, description="Images shown of each group")
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
        """The ids of the held images that it starts from."""
        own = () if self.image_id is None else (self.image_id,)
        return (*own, *self.positive, *self.negative)

    def check_target(self, pictures: int) -> None:
        """Raises InvalidQuery unless exactly one thing is searched for, with what suits it.

        `pictures` is the number of images sent along; they are positive examples.
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
                "Near-duplicates are those of exactly one picture, or image_id.",
                ("max_hash_distance",),
            )
        if self.not_same is not None and not (self.image_id or self.positive):
            raise InvalidQuery(
                "What a picture from outside has in common is not known; this needs image_id or "
                "positive.",
                ("not_same",),
            )


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
INGEST_TASK = "kindred.ingest"
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


class _Shown(Message):
    """An image in an answer. `preview_url` is the path of its picture, for the api's clients."""

    image_id: str
    point_id: str
    payload: Payload
    preview_url: str


class Hit(_Shown):
    """One neighbour.

    `score` is the cosine similarity, 1 for the same direction; under the strategy best_score it is
    Qdrant's own measure, between -1 and 1. `others` are the next best of its group, and
    `hash_distance` counts the differing bits of 64: both only where they were asked for.
    """

    score: float
    others: tuple["Hit", ...] | None = Field(None, exclude_if=_is_none)
    hash_distance: int | None = Field(None, exclude_if=_is_none)


class SearchAnswer(Message):
    results: tuple[Hit, ...]


class BatchAnswer(Message):
    results: tuple[tuple[Hit, ...], ...]


class HeldImage(_Shown):
    """`vector` has length 1, and is there when it was asked for."""

    vector: tuple[float, ...] | None = Field(None, exclude_if=_is_none)


class ImagesAnswer(Message):
    images: tuple[HeldImage, ...]
    cursor: str | None = None


class FacetValue(Message):
    value: str | int | bool
    count: int


class EncoderInfo(Message):
    """What filled a collection. Two of these are the same encoder if and only if they are equal."""

    model: str
    revision: str | None
    weights_sha256: str
    pooling: str
    preprocessing: str
    dimensions: int


Facets = dict[str, tuple[FacetValue, ...]]


class CollectionAnswer(Message):
    """`group_fields` are the indexed fields that results can be grouped by."""

    count: int
    encoder: EncoderInfo
    searches_text: bool
    group_fields: tuple[str, ...]
    facets: Facets


class ValueRange(Message):
    """Numbers, or times in RFC 3339."""

    min: float | str
    max: float | str


class FacetsAnswer(Message):
    """`count` images fit; of them, the values of the fields with how many have each."""

    count: int
    facets: Facets
    ranges: dict[str, ValueRange]


class Receipt(Message):
    """What a deletion took, by image id, in order."""

    id: str
    count: int
    image_ids: tuple[str, ...]


class Problem(Message):
    """An RFC 9457 problem, as an ask or a job keeps it. `type` is the error's slug."""

    type: str
    title: str
    status: int
    detail: str


def problem(error: KindredError) -> Problem:
    """An error as it is kept and shown."""
    place = ".".join(map(str, error.place)) if isinstance(error, InvalidQuery) else ""
    detail = f"{place}: {error}" if place else str(error)
    return Problem(type=error.slug, title=error.title, status=error.status, detail=detail)
