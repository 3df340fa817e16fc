"""Requests: searches and whatever else a worker answers within seconds.

Redis holds their state and none of their content.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pipeline.base.errors import NotFound
from pipeline.base.states import FINAL_STATES, RequestState
from pipeline.ledger.connection import reachable
from pipeline.ledger.replies import named
from pipeline.ledger.script import Script
from pipeline.ledger.workers import WorkerLedger
from pipeline.messages import Problem

# Seconds until a queued request is published again, in case its message was lost. A second message
# is harmless.
LOOK_AGAIN = 10.0

# A request waits for an unavailable service this often, and for so many seconds, before it fails. A
# restart of Redis or Qdrant takes less. A server that hangs costs half a minute each time.
MOST_REQUEUES = 3
PATIENCE = 30.0

_TOO_OLD = Problem(
    type="unavailable",
    title="No worker answered",
    status=503,
    detail="No worker took this in time. See whether a worker is running, then repeat it.",
)
_POISON = Problem(
    type="unavailable",
    title="No worker could answer",
    status=500,
    detail="Three workers ended while they worked on this. It was given up; the others go on.",
)


@dataclass(frozen=True)
class RequestRecord:
    id: str
    operation: str
    state: RequestState
    error: Problem | None

    @property
    def final(self) -> bool:
        return self.state in FINAL_STATES

    @classmethod
    def told(cls, request_id: str, told: str) -> "RequestRecord | None":
        """What was told of its end, if that is all: of a failure the ledger has the reason."""
        state, _, operation = told.partition(" ")
        return cls(request_id, operation, "succeeded", None) if state == "succeeded" else None


@dataclass(frozen=True)
class Limits:
    """How many messages may wait on a Celery queue, and how many requests of one caller."""

    queue: str
    backlog: int
    share: int


@dataclass(frozen=True)
class Claim:
    """A request that a worker may answer. `epoch` is that of `Tombstones` when it was claimed."""

    operation: str
    epoch: int


class RequestLedger:
    """`ttl`: seconds until a request that nobody answers fails; `keep`: until it is forgotten.

    Every method raises LedgerUnavailable when Redis is unavailable.
    """

    def __init__(
        self, script: Script, workers: WorkerLedger, *, ttl: float, keep: float, lease: float
    ) -> None:
        self._script = script
        self._workers = workers
        self._ttl, self._keep, self._lease = ttl, keep, lease

    def create(
        self, request_id: str, operation: str, caller: str = "", limits: Limits | None = None
    ) -> Literal["queue", "caller"] | None:
        """`caller`: whose share of the backlog it takes until it is answered; "" for nobody's.

        Which of the limits was reached, if one was: then it is not created.
        """
        # Kept longer than it can stay unanswered, so that its end can always be read.
        keep = int(self._ttl + self._keep)
        most = () if limits is None else (limits.queue, limits.backlog, limits.share)
        reached: Literal["queue", "caller"] | None = self._script(
            "create_request", request_id, operation, keep, LOOK_AGAIN, caller, *most
        )
        return reached

    def waiting(self, queue: str, caller: str) -> tuple[int, int]:
        """How many messages wait on a Celery queue, and how many requests of this caller."""
        messages, requests = self._script("waiting_requests", queue, caller)
        return int(messages), int(requests)

    def claim(self, request_id: str, owner: str) -> Claim | None:
        """None when there is nothing (more) to do."""
        found = self._script("claim_request", request_id, owner, self._lease)
        if found is None:
            return None
        claim = named(found)
        return Claim(claim["operation"], int(claim["epoch"]))

    def succeed(self, request_id: str, epoch: int = 0) -> bool:
        """Whether the answer stands: its blob is written, and no images were deleted since `epoch`.

        One that does not stand is to be computed again.
        """
        return bool(self._script("succeed_request", request_id, epoch))

    def fail(self, request_id: str, problem: Problem) -> None:
        self._script("finish_request", request_id, "failed", problem.model_dump_json())

    def requeue(self, request_id: str, delay: float) -> bool:
        """A service is unavailable: the reconciler sends it again after `delay` seconds.

        False: it has waited long enough. It was not put back, and the caller fails it.
        """
        return bool(self._script("requeue_request", request_id, delay, MOST_REQUEUES, PATIENCE))

    def reclaim(self, alone: str = "") -> list[tuple[str, str]]:
        """Requests to publish again, as (id, operation); those that are too old fail."""
        found = self._script(
            "reclaim_requests", self._workers.alive_for, alone, self._ttl, LOOK_AGAIN,
            _TOO_OLD.model_dump_json(), _POISON.model_dump_json(),
        )  # fmt: skip
        return [(again["id"], again["operation"]) for again in map(named, found)]

    def expired(self) -> list[str]:
        """Requests whose blobs can go, some at a time; until they are forgotten."""
        gone: list[str] = self._script("expired_requests")
        return gone

    def forget(self, request_id: str) -> None:
        """Its blobs have gone, so it is unknown from now on."""
        self._script("forget_request", request_id)

    def finished(self) -> list[str]:
        """All requests that have ended and are not yet forgotten: those that can have an answer.

        It goes through those of an hour, a page at a time.
        """
        before = self._all("requests")
        kept = self._all("requests:expiry")
        return sorted(kept - before - self._all("requests"))  # one can come or end meanwhile

    def _all(self, name: str) -> set[str]:
        with reachable():
            pairs = self._script.redis.zscan_iter(self._script.key(name), count=1000)
            return {request for request, _ in pairs}

    def get(self, request_id: str) -> RequestRecord:
        """Raises NotFound."""
        with reachable():
            fields: dict[str, Any] = self._script.redis.hgetall(
                self._script.key(f"request:{request_id}")
            )
        if not fields:
            raise NotFound(f"There is no search {request_id}, or its results have expired.")
        error = Problem.model_validate_json(fields["error"]) if "error" in fields else None
        return RequestRecord(request_id, fields["operation"], fields["state"], error)
