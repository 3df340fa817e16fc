"""What the ledger says of jobs and work items, read from the fields that Redis holds.

Fields that are not known here are ignored: a newer Kindred can have written them.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.base.states import FINAL_STATES, JobState
from pipeline.ledger.replies import named
from pipeline.messages import Problem

PLAN = 0  # the item that opens a job's source and counts it

STANDSTILL = 60  # seconds without a checkpoint after which a job has no speed


@dataclass(frozen=True)
class Lease:
    """What a message says: this item, under this token. A newer lease makes the token stale.

    `operation`, `queue` and `worker` say how to publish it, and to whom; a worker that received it
    needs none of them.
    """

    job: str
    item: int
    token: str
    operation: str = ""
    queue: str = ""
    worker: str = ""


@dataclass(frozen=True)
class Progress:
    """The whole progress of an item: rows before `cursor` are counted, each by its outcome.

    Rows from `cursor` up to `in_flight` are being worked on; if the worker dies, its death is
    attributed to them. `counts` are of the whole item, not of the last batch.
    """

    cursor: int
    in_flight: int
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkItem:
    """An item that a worker has begun. Rows [start, stop); `progress` is where it goes on.

    Rows below `quarantined` were in flight when a worker died and are tried one by one, and alone;
    `crashes` counts how often that ended a worker, for the row at the cursor. `deaths` counts all
    since the cursor moved: of workers that ended before they touched a row as well. `version` is
    that of the source whose rows the job counted.
    """

    lease: Lease
    operation: str
    request: str
    start: int
    stop: int
    progress: Progress
    quarantined: int
    crashes: int
    deaths: int = 0
    version: str = ""

    @classmethod
    def of(cls, lease: Lease, reply: list[Any]) -> "WorkItem":
        job, item, counts = (named(named(reply)[part]) for part in ("job", "item", "counts"))
        size = int(job.get("shard_size", 0))
        start = max(0, (lease.item - 1) * size)
        return cls(
            lease=lease,
            operation=job["operation"],
            request=job["request"],
            start=start,
            stop=min(start + size, int(job.get("total", 0))),
            progress=Progress(int(item.get("cursor", start)), 0, _numbers(counts)),
            quarantined=int(item.get("quarantined", 0)),
            crashes=int(item.get("crashes", 0)),
            deaths=int(item.get("deaths", 0)),
            version=job.get("version", ""),
        )


@dataclass(frozen=True)
class QueueItems:
    """How many items of a queue workers have, and how many wait to be tried alone."""

    leased: int
    quarantined: int


@dataclass(frozen=True)
class JobRecord:
    """Times are seconds since 1970. `notice` says what a running job waits for.

    `counts` has how many rows came to each outcome; an outcome that never came can be missing.
    `skipped` has how many files of its source are no rows, by kind.
    """

    id: str
    operation: str
    queue: str
    request: str
    state: JobState
    total: int | None
    counts: dict[str, int]
    images_per_second: float | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    error: Problem | None
    notice: str | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, job: str, fields: Mapping[str, str], counts: Mapping[str, str]) -> "JobRecord":
        state: Any = fields["state"]
        return cls(
            id=job,
            operation=fields["operation"],
            queue=fields["queue"],
            request=fields["request"],
            state=state,
            total=int(fields["total"]) if "total" in fields else None,
            counts=_numbers(counts),
            images_per_second=_speed(fields, sum(_numbers(counts).values())),
            created_at=float(fields["created_at"]),
            started_at=_time(fields, "started_at"),
            finished_at=_time(fields, "finished_at"),
            error=Problem.model_validate_json(fields["error"]) if "error" in fields else None,
            notice=fields.get("notice"),
            skipped=json.loads(fields.get("skipped", "{}")),
        )

    @property
    def final(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def working(self) -> bool:
        return self.state in ("planning", "running")

    def waiting_for(self, notice: str) -> "JobRecord":
        """With this notice, if it is to go on."""
        return replace(self, notice=notice) if self.working else self

    @property
    def done(self) -> int:
        return sum(self.counts.values())

    @property
    def eta_seconds(self) -> float | None:
        if self.state != "running" or not self.images_per_second or self.total is None:
            return None
        return (self.total - self.done) / self.images_per_second


def _numbers(counts: Mapping[str, str]) -> dict[str, int]:
    return {name: int(count) for name, count in counts.items()}


def _time(fields: Mapping[str, str], name: str) -> float | None:
    return float(fields[name]) if name in fields else None


def _speed(fields: Mapping[str, str], done: int) -> float | None:
    """While a job runs, its speed lately; when it has ended, that of its whole run."""
    if "started_at" not in fields:
        return None
    if "finished_at" in fields:
        return done / max(1e-3, float(fields["finished_at"]) - float(fields["started_at"]))
    weight = float(fields.get("weight", 0))
    if weight <= 0 or time.time() - float(fields["measured_at"]) > STANDSTILL:
        return None
    return float(fields["rate"]) / weight
