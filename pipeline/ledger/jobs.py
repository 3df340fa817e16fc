"""Jobs with closed accounts. `ledger.lua` holds the rules; this file is their types."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter

from pipeline.base.errors import Conflict, NotFound
from pipeline.ledger.script import Script, reachable
from pipeline.ledger.workers import WorkerLedger
from pipeline.messages import Problem, Rejection, Source

JobState = Literal[
    "planning", "running", "paused", "succeeded", "completed_with_rejections", "failed", "cancelled"
]
FINAL_STATES = frozenset({"succeeded", "completed_with_rejections", "failed", "cancelled"})
Action = Literal["cancel", "pause", "resume", "retry"]

PLAN = 0  # the unit that opens a job's source and counts it

_source: TypeAdapter[Source] = TypeAdapter(Source)


@dataclass(frozen=True)
class Lease:
    """What a message says: this unit, under this token. A newer lease makes the token stale."""

    job: str
    unit: int
    token: str


@dataclass(frozen=True)
class Progress:
    """All that a shard has come to: rows before `cursor` are accounted for.

    Rows from `cursor` up to `hand` are in the worker's hand and are blamed if it dies.
    """

    cursor: int
    hand: int
    embedded: int = 0
    unchanged: int = 0
    rejected: int = 0


@dataclass(frozen=True)
class Unit:
    """A unit that a worker has begun. Rows [start, stop); `progress` is where it goes on.

    Rows below `careful` were in the hand of a worker that died and are tried one by one, and
    alone; `crashes` counts how often that ended a worker, for the row at the cursor. `deaths`
    counts all since the cursor moved: of workers that ended before they touched a row as well.
    `version` is that of the source whose rows the job counted.
    """

    lease: Lease
    source: Source
    start: int
    stop: int
    progress: Progress
    careful: int
    crashes: int
    deaths: int = 0
    version: str = ""


@dataclass(frozen=True)
class JobRecord:
    """Times are seconds since 1970. `notice` says what a running job waits for."""

    id: str
    source: Source
    state: JobState
    total: int | None
    embedded: int
    unchanged: int
    rejected: int
    images_per_second: float | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    error: Problem | None
    notice: str | None = field(default=None)

    @property
    def final(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def done(self) -> int:
        return self.embedded + self.unchanged + self.rejected

    @property
    def eta_seconds(self) -> float | None:
        if self.state != "running" or not self.images_per_second or self.total is None:
            return None
        return (self.total - self.done) / self.images_per_second


class JobLedger:
    """Every method raises LedgerUnavailable when Redis is away."""

    def __init__(self, script: Script, workers: WorkerLedger, lease: float) -> None:
        self._script = script
        self._workers = workers
        self._lease = lease

    def create(self, job: str, source: Source) -> None:
        self._script("create_job", job, source.model_dump_json())

    def dispatch(self, lanes: int = 1) -> list[Lease]:
        """Leases units while workers have free lanes; the caller publishes each of them."""
        leased = self._script("dispatch", self._lease, self._workers.alive_for, lanes)
        return [Lease(job, int(unit), token) for job, unit, token in leased]

    def begin(self, lease: Lease, owner: str) -> Unit | None:
        """None: the message is stale, or the job stands still; there is nothing to do."""
        found = self._script("begin", *_args(lease), owner, self._lease)
        return None if found is None else _unit(lease, found)

    def checkpoint(
        self, lease: Lease, progress: Progress, rejections: Sequence[Rejection] = ()
    ) -> bool:
        """Whether to go on. False: the job was stopped, or the lease is another's by now."""
        rows = [item for r in rejections for item in (r.row, r.model_dump_json())]
        p = progress
        state = self._script(
            "checkpoint", *_args(lease), self._lease,
            p.cursor, p.hand, p.embedded, p.unchanged, p.rejected, *rows,
        )  # fmt: skip
        return state in ("planning", "running")

    def finish(self, lease: Lease) -> None:
        self._script("finish", *_args(lease))

    def planned(self, lease: Lease, total: int, shard_size: int, version: str = "") -> None:
        """`version` tells the source that was counted from what it may become."""
        self._script("planned", lease.job, lease.token, total, shard_size, version)

    def replan(self, lease: Lease) -> int:
        """The job begins anew, since its source has changed. How often it has done so by now."""
        return int(self._script("replan", *_args(lease)))

    def renew(self, lease: Lease) -> None:
        """A sign of life, of work that does not checkpoint."""
        self._script("renew", *_args(lease), self._lease)

    def release(self, lease: Lease, *, crashed: bool = False) -> None:
        """Gives a unit back. `crashed`: the rows in hand are blamed, as if the worker had died."""
        self._script("release", *_args(lease), int(crashed))

    def retry_later(self, lease: Lease, delay: float, notice: str) -> None:
        """Gives a unit back because a service is away; it is sent again after `delay` seconds."""
        self._script("retry_later", *_args(lease), delay, notice)

    def fail(self, job: str, problem: Problem) -> None:
        self._script("fail_job", job, problem.model_dump_json())

    def reclaim(self, alone: str = "") -> int:
        """Takes back the leases of the dead. `alone` names a worker that must be the only one."""
        return int(self._script("reclaim", self._workers.alive_for, alone))

    def transition(self, job: str, action: Action) -> JobRecord:
        """Raises NotFound for an unknown job and Conflict where its state does not allow that."""
        state = self._script("transition", _checked(job), action)
        if state is None:
            raise _unknown(job)
        if state.startswith("!"):
            raise Conflict(f"Job {job} is in state {state[1:]}; it takes no {action}.")
        return self.get(job)

    def get(self, job: str) -> JobRecord:
        with reachable():
            fields: dict[str, str] = self._script.redis.hgetall(f"kindred:job:{_checked(job)}")
        if not fields:
            raise _unknown(job)
        return _record(job, fields)

    def recent(self, limit: int = 100) -> list[JobRecord]:
        """The newest first."""
        with reachable():
            jobs: list[str] = self._script.redis.zrevrange("kindred:jobs", 0, limit - 1)
            pipe = self._script.redis.pipeline(transaction=False)
            for job in jobs:
                pipe.hgetall(f"kindred:job:{job}")
            found = pipe.execute()
        return [_record(job, fields) for job, fields in zip(jobs, found, strict=True) if fields]

    def rejections(self, job: str, cursor: int, limit: int) -> tuple[list[Rejection], int | None]:
        """A page of rejected rows in no special order, and the cursor of the next one."""
        self.get(job)
        with reachable():
            following, found = self._script.redis.hscan(
                f"kindred:job:{job}:rejections", cursor, count=limit
            )
        page = [Rejection.model_validate_json(line) for line in found.values()]
        return sorted(page, key=lambda r: r.row), int(following) or None


def _args(lease: Lease) -> tuple[str, int, str]:
    return lease.job, lease.unit, lease.token


def _checked(job: str) -> str:
    """Ours have no colon, and with one the key would be that of something else of a job's."""
    if ":" in job:
        raise _unknown(job)
    return job


def _unknown(job: str) -> NotFound:
    return NotFound(f"There is no job {job}.")


def _unit(lease: Lease, found: list[str]) -> Unit:
    total, size, cursor, careful, crashes, *counts, deaths = map(int, found[1:-1])
    start = max(0, (lease.unit - 1) * size)
    return Unit(
        lease=lease,
        source=_source.validate_json(found[0]),
        start=start,
        stop=min(start + size, total),
        progress=Progress(start if cursor < 0 else cursor, 0, *counts),
        careful=careful,
        crashes=crashes,
        deaths=deaths,
        version=found[-1],
    )


def _record(job: str, fields: dict[str, str]) -> JobRecord:
    def number(name: str) -> float | None:
        return float(fields[name]) if name in fields else None

    record: dict[str, Any] = {
        "id": job,
        "source": _source.validate_json(fields["source"]),
        "state": fields["state"],
        "total": int(fields["total"]) if "total" in fields else None,
        "embedded": int(fields["embedded"]),
        "unchanged": int(fields["unchanged"]),
        "rejected": int(fields["rejected"]),
        "created_at": float(fields["created_at"]),
        "started_at": number("started_at"),
        "finished_at": number("finished_at"),
        "error": Problem.model_validate_json(fields["error"]) if "error" in fields else None,
        "notice": fields.get("notice"),
    }
    return JobRecord(**record, images_per_second=_speed(fields))


def _speed(fields: dict[str, str]) -> float | None:
    """Lately, while a job runs; over its whole run, when it has ended."""
    if "started_at" not in fields:
        return None
    if "finished_at" in fields:
        done = sum(int(fields[name]) for name in ("embedded", "unchanged", "rejected"))
        return done / max(1e-3, float(fields["finished_at"]) - float(fields["started_at"]))
    weight = float(fields.get("weight", 0))
    if weight <= 0 or time.time() - float(fields["measured_at"]) > 60:  # nothing moves
        return None
    return float(fields["rate"]) / weight
