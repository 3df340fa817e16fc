"""What the api answers with."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

from pipeline.ledger import JobRecord, JobState
from pipeline.messages import DatasetSource, Hit, Problem, Rejection


class JobView(BaseModel):
    """A job that succeeded has total = embedded + unchanged + rejected."""

    id: str
    state: JobState
    dataset: str | None
    split: str | None
    total: int | None
    embedded: int
    unchanged: int
    rejected: int
    images_per_second: float | None
    eta_seconds: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: Problem | None
    notice: str | None

    @classmethod
    def of(cls, job: JobRecord) -> "JobView":
        source = job.source
        named = source if isinstance(source, DatasetSource) else None
        return cls(
            id=job.id,
            state=job.state,
            dataset=named and named.dataset,
            split=named and named.split,
            total=job.total,
            embedded=job.embedded,
            unchanged=job.unchanged,
            rejected=job.rejected,
            images_per_second=_rounded(job.images_per_second),
            eta_seconds=_rounded(job.eta_seconds),
            created_at=_time(job.created_at),
            started_at=None if job.started_at is None else _time(job.started_at),
            finished_at=None if job.finished_at is None else _time(job.finished_at),
            error=job.error,
            notice=job.notice,
        )


class JobsView(BaseModel):
    jobs: list[JobView]


class RejectionsView(BaseModel):
    rejections: list[Rejection]
    cursor: int | None


class SearchView(BaseModel):
    """`results` is there when the search has succeeded: a list, or for a batch a list of lists."""

    id: str
    state: Literal["queued", "running", "succeeded", "failed"]
    results: list[Hit] | list[list[Hit]] | None = None
    error: Problem | None = None


class DeletionView(BaseModel):
    """`count` and `image_ids` are there when it has succeeded."""

    id: str
    state: Literal["queued", "running", "succeeded", "failed"]
    count: int | None = None
    image_ids: tuple[str, ...] | None = None
    error: Problem | None = None


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _rounded(value: float | None) -> Any:
    return None if value is None else round(value, 2)
