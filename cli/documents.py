"""The api's JSON documents, as the command line reads them."""

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict, cast

from pipeline.base.states import FINAL_STATES

Document = dict[str, Any]
Action = Literal["cancel", "pause", "resume", "retry"]

# An ingest shows these even where no image came to one of them.
INGESTED = ("embedded", "updated", "unchanged", "rejected", "quarantined")


class Problem(TypedDict):
    type: str
    title: str
    status: int
    detail: str


class Work(TypedDict):
    """What every job has, whatever its operation. `total` is None until the images are counted."""

    id: str
    state: str
    total: NotRequired[int | None]
    operation: NotRequired[str]
    counts: NotRequired[dict[str, int]]
    final: NotRequired[bool]
    images_per_second: NotRequired[float | None]
    eta_seconds: NotRequired[float | None]
    error: NotRequired[Problem | None]
    notice: NotRequired[str | None]
    skipped: NotRequired[dict[str, int]]
    dry_run: NotRequired[bool]


class Job(Work):
    embedded: NotRequired[int]
    updated: NotRequired[int]
    unchanged: NotRequired[int]
    rejected: NotRequired[int]
    quarantined: NotRequired[int]
    created_at: NotRequired[str]
    finished_at: NotRequired[str | None]


class Deletion(Work):
    """`count` and `image_ids` are None until it has succeeded."""

    deleted: NotRequired[int]
    count: int | None
    image_ids: list[str] | None


class Evaluation(Work):
    """`report` is None until it has succeeded."""

    report: NotRequired[Document | None]


class Collection(TypedDict):
    """`workers` is how many serve it now."""

    name: str
    default: bool
    workers: int


class Rejection(TypedDict):
    """`name` is the file's path, or its place in a data set; None where names are not kept.

    `file` is the place of its file among those that were sent or asked for.
    """

    image_id: str
    row: int
    reason: str
    name: NotRequired[str | None]
    file: NotRequired[int | None]


class StoredImage(TypedDict):
    image_id: str
    point_id: str
    payload: Document
    preview_url: str | None
    vector: NotRequired[list[float]]


class Hit(StoredImage):
    score: float
    others: NotRequired[list["Hit"]]
    hash_distance: NotRequired[int]
    closeness: NotRequired[Document]
    close: NotRequired[bool]


class Search(TypedDict):
    """`results` of a batch are lists of hits, or None where `errors` has a problem.

    `no_close_match` is there if the query has `min_closeness`; of a batch it is a list.
    """

    id: str
    state: str
    results: list[Any] | None
    error: Problem | None
    errors: NotRequired[list[Problem | None]]
    closeness: NotRequired[Document]
    no_close_match: NotRequired[bool | list[bool | None]]


class ImagePage(TypedDict):
    images: list[StoredImage]
    cursor: str | None


def is_final(work: Work) -> bool:
    """Whether it has ended. The api says so; its states are ours to know only where it does not."""
    return work.get("final", work["state"] in FINAL_STATES)


def counts_of(work: Work) -> dict[str, int]:
    """Outcome → number of images. `counts` leaves out what never came, and has no order."""
    fields = cast(Mapping[str, int | None], work)
    shown = INGESTED if work.get("operation", "ingest") == "ingest" else ("deleted",)
    counts = {name: count for name in shown if (count := fields.get(name)) is not None}
    return counts | work.get("counts", {})


def problem_line(problem: Problem | None, fallback: str) -> str:
    """`title: detail`, or what there is of it."""
    parts = (
        [str(problem[key]) for key in ("title", "detail") if problem.get(key)] if problem else []
    )
    return ": ".join(parts) or fallback
