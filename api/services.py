"""The services that all routes share: ledger, blobs, queue, and the waiting room for answers."""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Literal
from uuid import uuid4

from celery import Celery
from fastapi import Depends, Path, Request
from starlette.concurrency import run_in_threadpool

from api.access import LOCAL, AccessControl, Caller
from api.waiting import WaitingRoom
from pipeline.base.asking import Asked, ask_blobs
from pipeline.base.blobs import Blobs, request_folder
from pipeline.base.errors import LedgerUnavailable, NotFound, RateLimited
from pipeline.base.keys import Keys
from pipeline.base.outage import Away, Outage
from pipeline.base.sealing import seal
from pipeline.base.settings import Settings
from pipeline.dicom.describing import Policy
from pipeline.dicom.frames import parse
from pipeline.dicom.pseudonyms import Pseudonyms, may_name_patient
from pipeline.ledger import Ledger, Ledgers, RequestRecord
from pipeline.ledger.requests import Limits
from pipeline.lifecycle.audit_reports import LabelAudits
from pipeline.lifecycle.quarantine import Quarantine
from pipeline.lifecycle.receipts import Receipts
from pipeline.messages import Message
from pipeline.operations.base import Operation, queue_name
from pipeline.operations.registry import operation
from pipeline.sources.allowed import AllowedSources
from workers.queue import make_app, publish_lease, publish_query

BACKLOG_SECONDS = 5  # until a caller should try again after the queue was too long

# One caller's part of the backlog: a quarter, but at least a few.
PARTS_OF_BACKLOG = 4
LEAST_SHARE = 4

# The most that a call to an object store may take. A person waits for it, and so does each of the
# threads that all calls share.
BLOB_SECONDS = 12.0

BASE = "/v1"  # the default collection; any one is /v1/collections/{name}


@dataclass(frozen=True)
class Services:
    """The services of the whole process."""

    settings: Settings
    ledgers: Ledgers
    queue: Celery
    waiting: WaitingRoom
    access: AccessControl
    allowed: AllowedSources
    broker: Outage = field(default_factory=lambda: Outage("api", "Redis"))
    _blobs: dict[str, Blobs] = field(default_factory=dict)
    _asked: dict[str, Asked] = field(default_factory=dict)

    @classmethod
    def open(cls, settings: Settings, keys: Keys) -> "Services":
        ledgers = Ledgers(settings.redis_url, settings.timing)
        return cls(
            settings=settings,
            ledgers=ledgers,
            queue=make_app(settings.redis_url, current=False),
            waiting=WaitingRoom(settings.redis_url),
            access=AccessControl(keys, ledgers.sessions, ledgers.calls, settings.rate_limit),
            allowed=AllowedSources.of(settings.sources),
        )

    def collection(self, name: str | None = None) -> "Collection":
        """Without a name, the default one. Raises NotFound if no worker has opened it."""
        default = self.settings.collection
        if name not in (None, default) and name not in self.ledgers.names():
            raise NotFound("There is no such collection.")
        chosen = name or default
        if chosen not in self._blobs:
            blobs = Blobs(self.settings.blobs_of(chosen), BLOB_SECONDS)
            self._asked[chosen] = Asked(blobs.outage, partial(ask_blobs, blobs))
            self._blobs[chosen] = blobs
        path = BASE if name is None else f"{BASE}/collections/{name}"
        base = self.settings.root_path + path
        return Collection(base, self.ledgers.of(chosen), self._blobs[chosen], self)

    def default_and_opened(self) -> "list[Collection]":
        """All of `names`."""
        return [self.collection(name) for name in self.names()]

    def blobs_away(self, name: str) -> Away | None:
        """Whether those of a collection are away for this process; asks them if they seem so."""
        return self._asked[name].look()

    def names(self) -> list[str]:
        """All collections that a worker has opened, and the default one."""
        return sorted({self.settings.collection, *self.ledgers.names()})


@dataclass(frozen=True)
class Collection:
    """One collection, for one call. `base` is the path under which clients call it.

    `caller` is the id of the key that calls; without keys, the address from which the call comes.
    """

    base: str
    ledger: Ledger
    blobs: Blobs
    services: Services
    caller: str = ""

    @property
    def name(self) -> str:
        return self.ledger.collection

    @property
    def receipts(self) -> Receipts:
        return Receipts(self.blobs, self.ledger.tombstones, lambda: self.pseudonyms)

    @property
    def dicom(self) -> Policy:
        """How DICOM files of this collection are described."""
        settings = self.services.settings
        return Policy(
            self.pseudonyms,
            settings.dicom_dates,
            settings.keep_dicom,
            frames=parse(settings.dicom_frames),
            trusted=frozenset(settings.dicom_trusted),
        )

    @property
    def pseudonyms(self) -> Pseudonyms:
        return self.ledger.pseudonyms.get(self.services.settings.pseudonym_key)

    @property
    def quarantine(self) -> Quarantine:
        return Quarantine(self.blobs, self.ledger.withheld)

    @property
    def label_audits(self) -> LabelAudits:
        return LabelAudits(self.blobs, self.ledger, lambda: self.pseudonyms)

    def own_blobs(self) -> Away | None:
        """Whether they are away for this process."""
        return self.services.blobs_away(self.name)

    def start_job(self, job: str, wanted: Operation, request: str) -> None:
        """The job is accepted once it is in the ledger; publishing only makes it start sooner."""
        self.ledger.jobs.create(job, wanted.name, wanted.queue, request)
        self.dispatch()

    def dispatch(self) -> None:
        """What is asked for is in the ledger by now: a Redis that goes away here delays the start,
        until a worker dispatches, and is no reason to ask again."""
        with suppress(LedgerUnavailable):
            self._publish_leases()

    def _publish_leases(self) -> None:
        for lease in self.ledger.jobs.dispatch():
            publish_lease(self.services.queue, self.name, operation(lease.operation), lease)

    def refuse_when_full(self) -> None:
        """Call it before storing anything of a query. Raises RateLimited if too many wait."""
        limits = self._limits
        waiting, own = self.ledger.requests.waiting(limits.queue, self.caller)
        if waiting >= limits.backlog:
            raise _full("queue", limits)
        if own >= limits.share:
            raise _full("caller", limits)

    @property
    def _limits(self) -> Limits:
        backlog = self.services.settings.search_backlog
        return Limits(queue_name(self.name, "search"), backlog, share_of(backlog))

    def submit(
        self, wanted: Operation, body: Message, identifier: str, limits: Limits | None = None
    ) -> None:
        """Gives a query to the workers. Only the blobs contain its body."""
        envelope = wanted.envelope(self.base, body)
        if may_name_patient(envelope):  # an earlier version's worker reads only what is not sealed
            envelope = seal(envelope, self.pseudonyms.keys)
        self.blobs.write(f"{request_folder(identifier)}/request.json", envelope)
        reached = self.ledger.requests.create(identifier, wanted.name, self.caller, limits)
        if reached and limits:
            self.blobs.delete(request_folder(identifier))
            raise _full(reached, limits)
        publish_query(self.services.queue, self.name, wanted, identifier)

    def submit_unless_full(self, wanted: Operation, body: Message, identifier: str) -> None:
        """Raises RateLimited, with nothing stored. In one call to Redis with the rest."""
        self.submit(wanted, body, identifier, self._limits)

    def request(self, identifier: str) -> RequestRecord:
        """A request as it is now. Raises NotFound."""
        told = self.services.waiting.told(identifier)
        return RequestRecord.told(identifier, told) or self.ledger.requests.get(identifier)


def _full(reached: Literal["queue", "caller"], limits: Limits) -> RateLimited:
    if reached == "queue":
        return RateLimited("Too many searches are waiting. Try again soon.", BACKLOG_SECONDS)
    return RateLimited(
        f"{limits.share} searches of your own are waiting; others have their turn. "
        "Try again when some of them are answered.",
        BACKLOG_SECONDS,
    )


def share_of(backlog: int) -> int:
    """How many requests of one caller may be open at once."""
    return min(backlog, max(LEAST_SHARE, backlog // PARTS_OF_BACKLOG))


def new_id() -> str:
    return str(uuid4())


async def _services(request: Request) -> Services:  # async, else FastAPI runs it in a thread
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]


async def _collection(request: Request, services: ServicesDep) -> Collection:
    name = request.path_params.get("collection")
    if name is None:  # as a rule, and it asks nobody
        collection = services.collection()
    else:
        collection = await run_in_threadpool(services.collection, name)
    return replace(collection, caller=_whose(request))


def _whose(request: Request) -> str:
    caller: Caller = request.state.caller  # set by the gate
    address = request.client.host if request.client else ""
    return address if caller == LOCAL else caller.id


CollectionDep = Annotated[Collection, Depends(_collection)]


async def named_collection(
    collection: Annotated[str, Path(description="As `GET /v1/collections` lists them")],
) -> None:
    """Documents the path of the calls below /v1/collections/{collection}."""
