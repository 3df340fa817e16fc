"""Forgets jobs that ended long ago, in the sweep of one worker at a time."""

from typing import Any

from pipeline.ledger.connection import reachable
from pipeline.ledger.records import JobRecord
from pipeline.ledger.script import Script

_PAGE = 200  # jobs in one call


class Retention:
    """Every method raises LedgerUnavailable when Redis is unavailable. Times are in seconds."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def claim_sweep(self, turn: str, seconds: float) -> bool:
        """Whether this turn may sweep, from now on for so long. `turn` is the same only while it
        extends its own claim."""
        return bool(self._script("claim_sweep", turn, int(seconds)))

    def forget_jobs(self, age: float, limit: int) -> int:
        """Jobs that ended so long ago are unknown from now on. How many were, `limit` at most.

        They are among the `forgotten` ones until their blobs are deleted.
        """
        return int(self._script("forget_jobs", age, limit))

    def forgotten(self) -> list[JobRecord]:
        """Jobs that are forgotten, and whose blobs are still to be deleted."""
        redis, key = self._script.redis, self._script.key
        with reachable():
            jobs = sorted(redis.smembers(key("jobs:forgotten")))
            pipe = redis.pipeline()
            for job in jobs:
                pipe.hgetall(key(f"forgotten:{job}"))
                pipe.hgetall(key(f"forgotten:{job}:counts"))
            found = pipe.execute()
        each = zip(jobs, found[::2], found[1::2], strict=True)
        return [JobRecord.of(job, fields or _LOST, counts) for job, fields, counts in each]

    def forgot(self, job: str) -> None:
        """Its blobs are deleted."""
        self._script("forgot_job", job)

    def index_jobs(self) -> None:
        """Finds jobs that have ended and are not known as such.

        Workers of 0.1 and before end jobs so, and a restored ledger has no indexes. It costs one
        look if there are none; else it goes through all jobs, a page at a time.
        """
        if self._script("jobs_are_indexed"):
            return
        start = 0
        while jobs := self._jobs(start):
            self._script("index_jobs", *jobs)
            start += len(jobs)

    def _jobs(self, start: int) -> list[str]:
        with reachable():
            found: list[str] = self._script.redis.zrange(
                self._script.key("jobs"), start, start + _PAGE - 1
            )
        return found


# Of a job whose record did not come with a restored ledger: its blobs go all the same.
_LOST: dict[str, Any] = {
    "operation": "", "queue": "", "request": "", "state": "failed", "created_at": "0"
}  # fmt: skip
