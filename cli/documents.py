"""The api's JSON documents, as the command line reads them."""

from typing import Any, Literal, NotRequired, TypedDict

Document = dict[str, Any]
Action = Literal["cancel", "pause", "resume", "retry"]

FINAL = frozenset({"succeeded", "completed_with_rejections", "failed", "cancelled"})
LOST = frozenset({"failed", "cancelled"})


class Problem(TypedDict):
    type: str
    title: str
    status: int
    detail: str


class Job(TypedDict):
    """`total` is None until the source has been counted."""

    id: str
    state: str
    total: int | None
    embedded: int
    unchanged: int
    rejected: int
    images_per_second: float | None
    eta_seconds: float | None
    created_at: str
    finished_at: str | None
    error: Problem | None
    notice: str | None


class Rejection(TypedDict):
    key: str
    row: int
    reason: str


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


class Search(TypedDict):
    """`results` of a batch are lists of hits."""

    id: str
    state: str
    results: list[Any] | None
    error: Problem | None


class ImagePage(TypedDict):
    images: list[StoredImage]
    cursor: str | None


def problem_line(problem: Problem | None, fallback: str) -> str:
    """`title: detail`, or what there is of it."""
    parts = (
        [str(problem[key]) for key in ("title", "detail") if problem.get(key)] if problem else []
    )
    return ": ".join(parts) or fallback
