"""What travels between the api and the workers, as JSON: job sources, asks and answers.

Messages on the queue carry ids alone. The bodies below lie with the ledger (sources) or as blobs
(asks and their answers, which can hold a patient's metadata).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from pipeline.errors import InvalidQuery, KindredError
from pipeline.filters import Filter

Payload = dict[str, Any]

MAX_LIMIT = 1000
MAX_BATCH = 100
MAX_IDS = 10_000


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


# --- asks: what needs the store or the model, and is answered by a worker -------------------------


class SearchQuery(Message):
    """Exactly one of `image_id`, `text` and `vector`, or an image sent along."""

    image_id: str | None = Field(None, min_length=1, max_length=1000)
    text: str | None = Field(None, min_length=1, max_length=2000)
    vector: tuple[float, ...] | None = Field(None, min_length=1, max_length=65536)
    filter: Filter | None = Field(None, description="Qdrant's filter JSON")
    ids: tuple[str, ...] | None = Field(
        None, max_length=MAX_IDS, description="Only these image ids"
    )
    not_ids: tuple[str, ...] | None = Field(
        None, max_length=MAX_IDS, description="Not these image ids"
    )
    limit: int = Field(10, ge=1, le=MAX_LIMIT)
    offset: int = Field(0, ge=0, le=100_000)
    score_threshold: float | None = Field(None, ge=-1, le=1, description="Least cosine similarity")
    include: tuple[str, ...] | None = Field(None, description="Only these payload fields")
    exclude: tuple[str, ...] | None = Field(None, description="All payload fields but these")

    @model_validator(mode="after")
    def _one_selection(self) -> "SearchQuery":
        if self.include is not None and self.exclude is not None:
            raise ValueError("include and exclude cannot be used together")
        return self

    @property
    def targets(self) -> int:
        """How many of image_id, text and vector are given."""
        return sum(target is not None for target in (self.image_id, self.text, self.vector))


class SearchAsk(Message):
    """`image` is the blob of an uploaded picture and stands in place of the query's target."""

    kind: Literal["search"] = "search"
    query: SearchQuery
    image: str | None = None


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
    image_id: str = Field(min_length=1, max_length=1000)


class DeleteAsk(Message):
    kind: Literal["delete"] = "delete"
    image_id: str = Field(min_length=1, max_length=1000)


class CollectionAsk(Message):
    kind: Literal["collection"] = "collection"


Ask = Annotated[
    SearchAsk | BatchAsk | ImagesAsk | ImageAsk | DeleteAsk | CollectionAsk,
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
    "collection": "kindred.collection",
}


class Hit(Message):
    """One neighbour. `score` is the cosine similarity, 1 for the same direction."""

    image_id: str
    point_id: str
    score: float
    payload: Payload


class SearchAnswer(Message):
    results: tuple[Hit, ...]


class BatchAnswer(Message):
    results: tuple[tuple[Hit, ...], ...]


class HeldImage(Message):
    """`vector` has length 1, and is there when it was asked for."""

    image_id: str
    point_id: str
    payload: Payload
    vector: tuple[float, ...] | None = None


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


class CollectionAnswer(Message):
    count: int
    encoder: EncoderInfo
    facets: dict[str, tuple[FacetValue, ...]]


class DeleteAnswer(Message):
    image_id: str
    deleted: bool


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
