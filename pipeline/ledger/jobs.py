"""Jobs whose totals reconcile. The files of `lua/` hold the rules; this one holds the calls."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import inf
from typing import Literal

from pipeline.base.errors import Conflict, InvalidQuery, NotFound
from pipeline.base.states import FINAL_STATES, JobState
from pipeline.ledger.connection import reachable
from pipeline.ledger.records import JobRecord, Lease, Progress, QueueItems, WorkItem
from pipeline.ledger.replies import named
from pipeline.ledger.script import Script
from pipeline.ledger.workers import SERVICES, WorkerLedger
from pipeline.messages import Problem

_CLAIMS_SECONDS = 7 * 86_400  # an upload has no end that the ledger would see

_ENDED = 200  # jobs that one turn puts away

_PAGE = 500  # jobs that are looked up at once

_LEASES = 8  # that one call hands out, in less than a millisecond of Redis' time

_ELSEWHERE_SECONDS = 60  # until a host may have the source that it lacked

Action = Literal["cancel", "pause", "resume", "retry"]


class JobLedger:
    """Every method raises LedgerUnavailable when Redis is unavailable. `lease` is in seconds."""

    def __init__(self, script: Script, workers: WorkerLedger, lease: float) -> None:
        self._script = script
        self._workers = workers
        self._lease = lease

    def create(self, job: str, operation: str, queue: str, request: str) -> None:
        """`request` is kept as it is; a job that exists already stays as it is."""
        self._script("create_job", job, operation, queue, request)

    def dispatch(self) -> list[Lease]:
        """Leases items of every queue to workers with free lanes; the caller publishes each to its
        worker."""
        leased = some = self._dispatch_some()
        while len(some) == _LEASES:
            some = self._dispatch_some()
            leased = leased + some
        return leased

    def _dispatch_some(self) -> list[Lease]:
        some = self._script("dispatch", self._lease, self._workers.alive_for, _LEASES)
        return [Lease(**{**each, "item": int(each["item"])}) for each in map(named, some)]

    def begin(self, lease: Lease, owner: str) -> WorkItem | None:
        """None: the message is stale or the job does not run, so there is nothing to do."""
        reply = self._script("begin", *_args(lease), owner, self._lease)
        return None if reply is None else WorkItem.of(lease, reply)

    def checkpoint(self, lease: Lease, progress: Progress, part: str = "") -> bool:
        """Whether to go on. False: the job was stopped, or another worker has the lease by now.

        `part` names the blob that has rejected rows of this item; it counts up to the cursor.
        """
        counts = [part for pair in progress.counts.items() for part in pair]
        reply = self._script(
            "checkpoint", *_args(lease), self._lease, progress.cursor, progress.in_flight,
            len(progress.counts), *counts, *([part] if part else []),
        )  # fmt: skip
        return named(reply).get("state") in ("planning", "running")

    def holds(self, lease: Lease) -> bool:
        """Whether no other worker can have the item by now."""
        return bool(self._script("has_lease", *_args(lease)))

    def finish(self, lease: Lease) -> None:
        self._script("finish", *_args(lease))

    def planned(
        self,
        lease: Lease,
        total: int,
        shard_size: int,
        version: str = "",
        skipped: Mapping[str, int] | None = None,
    ) -> None:
        """`version` tells the source that was counted from what it may become. `skipped` has how
        many of its files are no rows, by kind."""
        told = json.dumps(dict(skipped or {}))
        self._script("planned", lease.job, lease.token, total, shard_size, version, told)

    def claim_ids(self, scope: str, claims: Mapping[str, str]) -> list[str]:
        """For each image id (its point's, in hex), which row has it: the first that claimed it.

        `scope` is a job, or an upload that became several. A row's text is its own, at most 100
        characters. About 140 bytes of Redis for each image, until the job ends or for a week.
        """
        pairs = [part for pair in claims.items() for part in pair]
        return [str(row) for row in self._script("claim_ids", scope, _CLAIMS_SECONDS, *pairs)]

    def replan(self, lease: Lease) -> int:
        """The job begins anew because its source has changed. How often it has done so by now."""
        return int(self._script("replan", *_args(lease)))

    def release(self, lease: Lease, *, crashed: bool = False) -> None:
        """Gives an item back. `crashed`: as if the worker had died of the rows in flight."""
        self._script("release", *_args(lease), int(crashed))

    def retry_later(
        self, lease: Lease, delay: float, notice: str, *, elsewhere: bool = False
    ) -> None:
        """Gives an item back: a service is unavailable. It is sent again after `delay` seconds.

        `notice` says what the job waits for; it may be empty where heartbeats say it.
        `elsewhere`: for a minute, this worker gets nothing of the job, because its host lacks the
        source.
        """
        avoid = _ELSEWHERE_SECONDS if elsewhere else 0
        self._script("retry_later", *_args(lease), delay, notice, avoid)

    def fail(self, job: str, problem: Problem) -> None:
        self._script("fail_job", job, problem.model_dump_json())

    def reclaim(self, alone: str = "", pause: float = 0) -> int:
        """Takes back the leases of the dead, unless somebody has within the last `pause` seconds.

        `alone` names a worker that must be the only one.
        """
        return int(self._script("reclaim", self._workers.alive_for, alone, pause))

    def transition(self, job: str, action: Action) -> JobRecord:
        """Raises NotFound for an unknown job and Conflict where its state does not allow that."""
        reply = named(self._script("transition", _checked(job), action))
        if reply.get("error") == "unknown":
            raise _unknown(job)
        if reply.get("error") == "not_allowed":
            raise Conflict(f"Job {job} is in state {reply['state']}; it takes no {action}.")
        return self.get(job)

    def items_of(self, queue: str) -> QueueItems:
        with reachable():
            pipe = self._script.redis.pipeline(transaction=False)
            pipe.zcard(self._script.key(f"leases:{queue}"))
            pipe.llen(self._script.key(f"quarantine:{queue}"))
            return QueueItems(*map(int, pipe.execute()))

    def get(self, job: str) -> JobRecord:
        """Raises NotFound."""
        found = self._read([_checked(job)])
        if not found:
            raise _unknown(job)
        return found[0]

    def unknown(self, jobs: Sequence[str]) -> list[str]:
        """Those that there never were, or that are forgotten."""
        found: list[str] = []
        for start in range(0, len(jobs), _PAGE):
            page = jobs[start : start + _PAGE]
            with reachable():
                scores = self._script.redis.zmscore(self._script.key("jobs"), page)
            found += [job for job, score in zip(page, scores, strict=True) if score is None]
        return found

    def recent(self, limit: int = 100) -> list[JobRecord]:
        """The newest first."""
        with reachable():
            jobs: list[str] = self._script.redis.zrevrange(self._script.key("jobs"), 0, limit - 1)
        return self._read(jobs) if jobs else []

    def page(
        self, limit: int, cursor: str | None = None, states: Collection[JobState] = ()
    ) -> tuple[list[JobRecord], str | None]:
        """Jobs in these states, or in any: the newest first, and the cursor of the next page.

        A cursor names the last job of a page, so jobs that come meanwhile change no page after it.
        Raises InvalidQuery for one that is not ours, or whose job is forgotten by now.
        """
        found: list[JobRecord] = []
        after = cursor
        while len(found) <= limit and (jobs := self._after(after, limit + 1, states)):
            found += [job for job in self._read(jobs) if not states or job.state in states]
            after = jobs[-1]
        return found[:limit], found[limit - 1].id if len(found) > limit else None

    def _after(self, cursor: str | None, limit: int, states: Collection[JobState]) -> list[str]:
        """The ids of the next jobs behind the one that the cursor names."""
        redis, jobs = self._script.redis, self._script.key("jobs")
        with reachable():
            if states:
                return self._after_in(cursor, limit, states)
            last = -1 if cursor is None else redis.zrevrank(jobs, cursor)
            if last is None:
                raise _invalid()
            found: list[str] = redis.zrevrange(jobs, last + 1, last + limit)
        return found

    def _after_in(self, cursor: str | None, limit: int, states: Collection[JobState]) -> list[str]:
        """Looks only at open jobs, and at the newest that ended in each of these states."""
        redis, key = self._script.redis, self._script.key
        found: dict[str, float] = {}
        score = inf if cursor is None else redis.zscore(key("jobs"), cursor)
        if score is None:
            raise _invalid()
        for state in FINAL_STATES.intersection(states):
            index = key(f"jobs:{state}")
            same = redis.zcount(index, score, score)  # as a rule only the cursor's own
            found |= redis.zrevrangebyscore(index, score, "-inf", 0, limit + same, withscores=True)
        if not FINAL_STATES.issuperset(states) and (open_ := redis.smembers(key("jobs:open"))):
            scores = zip(open_, redis.zmscore(key("jobs"), [*open_]), strict=True)
            found |= {job: at for job, at in scores if at is not None}
        behind = [
            (at, job) for job, at in found.items() if cursor is None or (at, job) < (score, cursor)
        ]
        return [job for _, job in sorted(behind, reverse=True)[:limit]]

    def ended(self) -> list[str]:
        """Jobs that have reached their end, and whose data nobody has put away yet (`tidied`).

        Some of them, if they are many.
        """
        with reachable():
            return sorted(self._script.redis.srandmember(self._script.key("jobs:ended"), _ENDED))

    def unfinished(self) -> list[str]:
        """Jobs that have not ended, and some of those that are to be put away."""
        with reachable():
            return [*self._script.redis.smembers(self._script.key("jobs:open")), *self.ended()]

    def tidied(self, job: str) -> None:
        """What the job needed for its work is put away."""
        self._script("tidied", job)

    def rejected_parts(self, job: str, row: int, limit: int) -> list[tuple[str, int]]:
        """Of the blobs that have rejected rows beyond this one, the first: name, and its last row
        but one that counts. In the order of their rows."""
        with reachable():
            found = self._script.redis.zrangebyscore(
                self._key(job, ":rejected"), f"({row}", "+inf", 0, limit, withscores=True
            )
        return [(name, int(stop)) for name, stop in found]

    def rejections_in_redis(self, job: str) -> Iterator[str]:
        """As JSON, in no special order: what workers of 0.1 and before wrote of rejected rows."""
        with reachable():
            for _, line in self._script.redis.hscan_iter(self._key(job, ":rejections"), count=500):
                yield line

    def _read(self, jobs: Sequence[str]) -> list[JobRecord]:
        """Those that exist. In one transaction: a job's state and its counts belong together."""
        with reachable():
            pipe = self._script.redis.pipeline(transaction=True)
            for job in jobs:
                pipe.hgetall(self._key(job))
                pipe.hgetall(self._key(job, ":counts"))
            found = pipe.execute()
        each = zip(jobs, found[::2], found[1::2], strict=True)
        records = [JobRecord.of(job, fields, counts) for job, fields, counts in each if fields]
        working = any(record.working for record in records)
        notice = self._notice() if working else None
        return [record.waiting_for(notice) for record in records] if notice else records

    def _notice(self) -> str | None:
        """What all jobs wait for now, if no worker can work."""
        away = self._workers.away()
        return " ".join(away[name].sentence(SERVICES[name]) for name in sorted(away)) or None

    def _key(self, job: str, part: str = "") -> str:
        return self._script.key(f"job:{job}{part}")


def _args(lease: Lease) -> tuple[str, int, str]:
    return lease.job, lease.item, lease.token


def _checked(job: str) -> str:
    """Ours have no colon. With one, the key would be that of a part of another job."""
    if ":" in job:
        raise _unknown(job)
    return job


def _unknown(job: str) -> NotFound:
    return NotFound(f"There is no job {job}, or it ended so long ago that it was forgotten.")


def _invalid() -> InvalidQuery:
    return InvalidQuery("This cursor is not valid.", ("cursor",))
