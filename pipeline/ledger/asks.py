"""Asks: searches and whatever else a worker must answer. Redis holds their state and no content."""

from dataclasses import dataclass
from typing import Literal

from pipeline.base.errors import NotFound
from pipeline.ledger.script import Script, reachable
from pipeline.ledger.workers import WorkerLedger
from pipeline.messages import Problem

RequestState = Literal["queued", "running", "succeeded", "failed"]

# Until a queued ask is published again, in case its message was lost. A second message is harmless.
LOOK_AGAIN = 10.0

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
    kind: str
    state: RequestState
    error: Problem | None

    @property
    def final(self) -> bool:
        return self.state in ("succeeded", "failed")


class RequestLedger:
    """`ttl`: seconds until an ask that nobody answers fails; `keep`: until it is forgotten."""

    def __init__(
        self, script: Script, workers: WorkerLedger, *, ttl: float, keep: float, lease: float
    ) -> None:
        self._script = script
        self._workers = workers
        self._ttl, self._keep, self._lease = ttl, keep, lease

    def create(self, ask: str, kind: str) -> None:
        # Kept longer than it can stay unanswered, so that its end can always be read.
        self._script("create_ask", ask, kind, int(self._ttl + self._keep), LOOK_AGAIN)

    def take(self, ask: str, owner: str) -> str | None:
        """The ask's kind; None when there is nothing (more) to do."""
        kind: str | None = self._script("take_ask", ask, owner, self._lease)
        return kind

    def renew(self, ask: str, owner: str, kind: str) -> None:
        """A sign of life, of what can take long. A search cannot: one that does is given up."""
        if kind == "delete":
            self._script("renew_ask", ask, owner, self._lease)

    def succeed(self, ask: str) -> None:
        """The answer's blob is written before."""
        self._script("settle_ask", ask, "succeeded", "")

    def fail(self, ask: str, problem: Problem) -> None:
        self._script("settle_ask", ask, "failed", problem.model_dump_json())

    def requeue(self, ask: str, delay: float) -> None:
        """A service was away: the reconciler sends it again after `delay` seconds."""
        self._script("requeue_ask", ask, delay)

    def reclaim(self, alone: str = "") -> list[tuple[str, str]]:
        """Asks to publish again, as (id, kind); what is too old is failed."""
        found = self._script(
            "reclaim_asks", self._workers.alive_for, alone, self._ttl, LOOK_AGAIN,
            _TOO_OLD.model_dump_json(), _POISON.model_dump_json(),
        )  # fmt: skip
        return list(zip(found[::2], found[1::2], strict=True))

    def expired(self) -> list[str]:
        """Asks whose blobs can go, some at a time; until they are forgotten."""
        gone: list[str] = self._script("expired_asks")
        return gone

    def forget(self, ask: str) -> None:
        """Its blobs have gone."""
        self._script("forget_ask", ask)

    def get(self, ask: str) -> RequestRecord:
        with reachable():
            fields: dict[str, str] = self._script.redis.hgetall(f"kindred:ask:{ask}")
        if not fields:
            raise NotFound(f"There is no search {ask}, or its results have expired.")
        error = Problem.model_validate_json(fields["error"]) if "error" in fields else None
        return RequestRecord(ask, fields["kind"], fields["state"], error)  # type: ignore[arg-type]
