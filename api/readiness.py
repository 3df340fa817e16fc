"""What a search needs, part by part: Redis, a worker, the vector store and the blobs.

The api has no way to the vector store. What it says of that, and of the blobs, is what the workers
say in their heartbeats; of the blobs also what it has met itself.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

from api.services import Collection, Services
from pipeline.base.errors import (
    BlobsUnavailable,
    KindredError,
    LedgerUnavailable,
    StoreUnavailable,
    Unavailable,
)
from pipeline.base.outage import Away
from pipeline.ledger import WorkerInfo
from pipeline.ledger.workers import SERVICES, away_for_all

# `partial`: some workers do not reach it, and others work on. `read-only`: it takes no writes.
# `unknown`: nobody is there who could say it.
State = Literal["ok", "partial", "read-only", "away", "unknown"]

_ERRORS: Mapping[str, type[Unavailable]] = {"store": StoreUnavailable, "blobs": BlobsUnavailable}
_NO_WORKER = (
    "No worker is ready. A worker that has just started loads its model first; if its encoder"
    " fails, its log says so."
)


class Part(BaseModel):
    """`since` and `cause`, in our words, are there where not all is well."""

    state: State
    since: datetime | None = None
    cause: str | None = None

    @classmethod
    def of(cls, state: State, away: Away) -> "Part":
        since = datetime.fromtimestamp(round(away.since), UTC)
        return cls(state=state, since=since, cause=away.cause)


_OK, _UNKNOWN = Part(state="ok"), Part(state="unknown")


class Receivers(BaseModel):
    """The processes of `kindred dicom`: our AE titles, and how many associations are open."""

    titles: list[str]
    processes: int
    associations: int


class Readiness(BaseModel):
    """`workers` counts those whose encoder is well; `receivers` is there if images are received."""

    status: Literal["ready"] = "ready"
    workers: int = 0
    broker: Part = _OK
    store: Part = _UNKNOWN
    blobs: Part = _UNKNOWN
    receivers: Receivers | None = None


class NotReady(KindredError):
    """`error` says why no search can be answered, and `found` which parts are well."""

    def __init__(self, error: Unavailable, found: Readiness) -> None:
        super().__init__(str(error))
        self.error, self.found = error, found

    @property
    def parts(self) -> dict[str, Any]:
        return self.found.model_dump(mode="json", exclude={"status"})


def readiness(services: Services) -> Readiness:
    """Of the default collection. Raises NotReady, or what else keeps an api from working."""
    collection = services.collection()
    try:
        with services.broker.watching():
            services.ledgers.check_schema()
            services.ledgers.check_eviction()
            workers, stuck = _ready(collection), {}
            receivers = _receivers(collection)
            if not workers:
                stuck = collection.ledger.workers.away()
    except LedgerUnavailable as error:
        away = services.broker.look()
        broker = _OK if away is None else Part.of("away", away)
        raise NotReady(error, Readiness(broker=broker)) from None
    parts = {name: _part(name, workers) for name in SERVICES}
    parts |= {name: Part.of("away", away) for name, away in stuck.items()}
    parts["blobs"] = _with_own(parts["blobs"], collection)
    found = Readiness(workers=len(workers), receivers=receivers, **parts)
    why = _trouble(away_for_all(workers) or stuck)
    if why is None and not workers:
        why = Unavailable(_NO_WORKER)
    if why is not None:
        raise NotReady(why, found)
    return found


def trouble(collection: Collection) -> Unavailable | None:
    """Why no worker can answer a query, as the error that it would give; None if one can."""
    return _trouble(collection.ledger.workers.away())


def _ready(collection: Collection) -> list[WorkerInfo]:
    return [worker for worker in collection.ledger.workers.alive() if worker.ready]


def _receivers(collection: Collection) -> Receivers | None:
    found = [info for info, _ in collection.ledger.receivers.alive()]
    if not found:
        return None
    associations = sum(info.associations for info in found)
    titles = sorted({info.title for info in found})
    return Receivers(titles=titles, processes=len(found), associations=associations)


def _trouble(hindering: Mapping[str, Away]) -> Unavailable | None:
    for name, away in hindering.items():
        if name != "store" or not away.writes_only:
            return _ERRORS[name](away.sentence(SERVICES[name]))
    return None


def _part(name: str, workers: Sequence[WorkerInfo]) -> Part:
    if not workers:
        return _UNKNOWN
    away = [worker.away[name] for worker in workers if name in worker.away]
    if not away:
        return _OK
    first = min(away, key=lambda each: each.since)
    if len(away) < len(workers):
        return Part.of("partial", first)
    return Part.of("read-only" if all(each.writes_only for each in away) else "away", first)


def _with_own(blobs: Part, collection: Collection) -> Part:
    """With what the api has met itself."""
    own = collection.own_blobs()
    if own is None or blobs.state == "away":
        return blobs
    return Part.of("read-only" if own.writes_only else "away", own)
