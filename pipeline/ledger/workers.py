"""Heartbeats: which workers live, what they embed with, and how much they take at once."""

import contextlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from pipeline.base.errors import LedgerUnavailable
from pipeline.base.outage import Away
from pipeline.ledger.connection import reachable
from pipeline.ledger.records import Lease
from pipeline.ledger.replies import named
from pipeline.ledger.script import Script
from pipeline.messages import EncoderInfo
from pipeline.messages.base import read

# What a worker needs beside Redis, by name, as the subject of a sentence.
SERVICES = {"store": "The vector store", "blobs": "The blobs' store"}

# Seconds for which the word of a worker that could not start counts. Its supervisor starts it again
# after half a minute at most, and then it loads its model.
STUCK = 120

# Missed beats until a worker counts as gone, and others get its work.
BEATS = 5


class WorkerInfo(BaseModel):
    """What a worker says of itself. `ready`: it has embedded a test image.

    `lanes` has the items that it takes at once, by queue; `processes` is how many workers were
    started with it on its host, itself included. `away` has the services that it does not reach.
    """

    # A newer Kindred can say more of its workers.
    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    ready: bool
    lanes: dict[str, int]
    device: str
    dtype: str
    encoder: EncoderInfo
    processes: int = 1
    away: Mapping[str, Away] = Field(default_factory=dict)


def away_for_all(workers: Sequence[WorkerInfo]) -> dict[str, Away]:
    """What keeps every one of these workers from its work, by service, the earliest of each.

    Empty if one of them can work, or if there are none.
    """
    found: dict[str, Away] = {}
    if not all(worker.away for worker in workers):
        return found
    for name, away in (pair for worker in workers for pair in worker.away.items()):
        if name in SERVICES and (name not in found or away.since < found[name].since):
            found[name] = away
    return found


class WorkerLedger:
    """`heartbeat` is the interval of the beats, and `lease` what a lease lasts, in seconds.

    Every method but `leave` raises LedgerUnavailable when Redis is unavailable.
    """

    def __init__(self, script: Script, heartbeat: float, lease: float) -> None:
        self._script = script
        self._lease = lease
        self.alive_for = heartbeat * BEATS

    def beat(self, info: WorkerInfo, metrics: str = "", held: Iterable[Lease] = ()) -> int:
        """Renews the leases that the worker has begun and still holds.

        `metrics` is any text; an empty one leaves the one before. Returns how many leases in a row
        were for this worker and were not begun.
        """
        lanes = [part for pair in info.lanes.items() for part in pair]
        leases = [part for lease in held for part in (lease.job, lease.item, lease.token)]
        missed = self._script(
            "heartbeat", info.name, self.alive_for, info.model_dump_json(), metrics, self._lease,
            len(info.lanes), *lanes, *leases,
        )  # fmt: skip
        return int(missed)

    def claim_encoder(self, name: str, encoder: EncoderInfo) -> EncoderInfo | None:
        """Claims the collection for the encoder of this worker, which is about to open the store.

        None: it is this encoder's. Otherwise replies the encoder that has it, because a worker with
        that one lives. The claim lasts while such a worker beats or opens the store, until it
        leaves; the record lasts longer, and yields to the next encoder. So ask the store first
        whether another encoder has filled it: the ledger does not know.
        """
        identity = json.dumps(encoder.identity)
        other = self._script(
            "claim_encoder", name, self.alive_for, identity, encoder.model_dump_json()
        )
        return None if other is None else read(EncoderInfo, other)

    def leave(self, name: str) -> None:
        """A courtesy: a worker that cannot say that it leaves is missed soon enough."""
        with contextlib.suppress(LedgerUnavailable):
            self._script.once("leave", name)

    def departed(self) -> list[str]:
        """Workers that have gone, for two hours: their queues on the broker can still be there."""
        gone: list[str] = self._script("departed")
        return gone

    def alive(self) -> list[WorkerInfo]:
        return [WorkerInfo.model_validate_json(text) for _, text in self._live("info")]

    def away(self) -> dict[str, Away]:
        """The services without which no worker can work now, or start."""
        workers = self.alive()
        if not workers:
            return self.stuck()
        return away_for_all([one for one in workers if one.ready] or workers)

    def cannot_start(self, service: str, cause: str) -> None:
        """A worker ends, since this service is away. For a while, others are told (`stuck`)."""
        known = self.stuck().get(service)
        away = Away(since=time.time() if known is None else known.since, cause=cause)
        with contextlib.suppress(LedgerUnavailable), reachable():
            self._script.redis.set(self._stuck(service), away.model_dump_json(), ex=STUCK)

    def can_start(self, service: str) -> None:
        """This service is away no more."""
        with reachable():
            self._script.redis.delete(self._stuck(service))

    def stuck(self) -> dict[str, Away]:
        """What kept workers from starting, as of late. It says nothing while one lives."""
        names = [*SERVICES]
        with reachable():
            found = self._script.redis.mget([self._stuck(name) for name in names])
        pairs = zip(names, found, strict=True)
        return {name: Away.model_validate_json(text) for name, text in pairs if text}

    def _stuck(self, service: str) -> str:
        return self._script.key(f"workers:stuck:{service}")

    def metrics(self) -> list[tuple[str, str]]:
        """The name and the metrics of every live worker that has sent some."""
        return self._live("metrics")

    def _live(self, what: str) -> list[tuple[str, str]]:
        found = self._script("live_workers", self.alive_for, what)
        return [(worker["name"], worker["text"]) for worker in map(named, found)]
