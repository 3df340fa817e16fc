"""The api's view of a job, whatever its operation."""

import json
from datetime import UTC, datetime

from pydantic import BaseModel

from pipeline.base.states import JobState
from pipeline.ledger import JobRecord
from pipeline.messages import Problem


class JobView(BaseModel):
    """`counts` has the rows by outcome. When a job has succeeded, they add up to `total`.

    `source` is the kind of source of an ingest. `skipped` counts files that are no rows, by kind.
    The outcomes of a `dry_run` are those that a real run would have.
    """

    id: str
    operation: str
    state: JobState
    final: bool
    source: str | None
    dataset: str | None
    split: str | None
    total: int | None
    counts: dict[str, int]
    embedded: int
    updated: int
    unchanged: int
    rejected: int
    quarantined: int
    skipped: dict[str, int]
    dry_run: bool
    replace_metadata: bool
    images_per_second: float | None
    eta_seconds: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: Problem | None
    notice: str | None

    @classmethod
    def of(cls, job: JobRecord) -> "JobView":
        counts = job.counts
        request = json.loads(job.request) if job.request else {}
        source = request.get("source", {})
        return cls(
            id=job.id,
            operation=job.operation,
            state=job.state,
            final=job.final,
            source=source.get("kind"),
            dataset=source.get("dataset"),
            split=source.get("split"),
            total=job.total,
            counts=counts,
            embedded=counts.get("embedded", 0),
            updated=counts.get("updated", 0),
            unchanged=counts.get("unchanged", 0),
            rejected=counts.get("rejected", 0),
            quarantined=counts.get("quarantined", 0),
            skipped=dict(job.skipped),
            dry_run=request.get("dry_run", False),
            replace_metadata=request.get("replace_metadata", False),
            images_per_second=_rounded(job.images_per_second),
            eta_seconds=_rounded(job.eta_seconds),
            created_at=datetime.fromtimestamp(job.created_at, UTC),
            started_at=_time(job.started_at),
            finished_at=_time(job.finished_at),
            error=job.error,
            notice=job.notice,
        )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
