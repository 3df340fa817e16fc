"""Runs what a message names: a work item of a job, or a query."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from pipeline import metrics
from pipeline.base.blobs import pictures_folder, request_folder
from pipeline.base.errors import (
    BlobsUnavailable,
    KindredError,
    LedgerUnavailable,
    QueryGone,
    SourceElsewhere,
    SourceUnavailable,
    Unavailable,
)
from pipeline.base.logs import where
from pipeline.base.sealing import is_sealed, unseal
from pipeline.images.decoders import ImageDecoders
from pipeline.ledger import PLAN, Claim, Lease, Ledger, WorkerInfo, WorkItem
from pipeline.ledger.requests import PATIENCE
from pipeline.messages import Problem, problem
from pipeline.operations.context import Context
from pipeline.operations.registry import operation
from workers.health import Probe, end_process
from workers.services import Services

logger = logging.getLogger("kindred.worker")

# Seconds until work that met an unavailable service is tried again.
SERVICE_DELAY = 2.0
SOURCE_DELAY = 10.0  # each try to prepare a source on a full disk fills that disk again

_BROKEN = Problem(
    type="internal-error",
    title="Internal error",
    status=500,
    detail="This is a fault of ours, not of the request. The worker's log says where it happened.",
)
# How many workers may end before the next row of a work item is done. This is more than it takes to
# reject a row: it is for deaths with no row in flight, such as when opening the source ends a
# process.
DEATHS = 20
# So many leases in a row that a worker does not begin, each within ten seconds, end it if it has
# begun nothing else for as long: its connection to the broker has died in silence.
MISSED = 6
SILENCE = 60.0  # seconds
_UNREADABLE = Problem(
    type="source-error",
    title="The source cannot be read",
    status=422,
    detail="Worker after worker ended while reading this source; it was given up.",
)


@dataclass(frozen=True)
class Result:
    """What became of a task. `reason` is the title of a problem, which names no image."""

    state: Literal["done", "given back", "failed"]
    reason: str = ""


DONE = Result("done")


def given_back(reason: str) -> Result:
    """The ledger has the work again, and will send it again."""
    return Result("given back", reason)


def failed(reason: str) -> Result:
    return Result("failed", reason)


@dataclass(frozen=True)
class Runtime:
    """One model and one store, shared by all threads of the process.

    `alone` is our name if we own the store: then no other worker's lease can be valid.
    """

    name: str
    context: Context
    decoders: ImageDecoders
    probe: Probe
    publish: Callable[[Lease], None]
    alone: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)
    device: str = ""  # as the settings name it; torch's own name by default
    processes: int = 1
    services: Services = field(default_factory=Services)
    _held: dict[str, Lease] = field(default_factory=dict)  # by token
    _answering: dict[str, object] = field(default_factory=dict)  # requests, each by its thread
    _heard: list[float] = field(default_factory=lambda: [time.monotonic()])  # of the last message
    _beaten: list[float] = field(default_factory=lambda: [time.monotonic()])  # the last time

    @property
    def ledger(self) -> Ledger:
        return self.context.ledger

    @property
    def lanes(self) -> dict[str, int]:
        """How many work items it takes at once, by queue."""
        return {"ingest": self.context.encoder.sizing.lanes, "deletion": 1}

    @property
    def info(self) -> WorkerInfo:
        """It is given no work item while its encoder fails or a service is away, nor when it is to
        stop."""
        encoder, away = self.context.encoder, self.services.away
        takes_work = self.probe.healthy and not self.stopping.is_set() and not away
        return WorkerInfo(
            name=self.name,
            ready=self.probe.healthy,
            lanes=self.lanes if takes_work else {},
            device=self.device or str(encoder.device),
            dtype=str(encoder.dtype).removeprefix("torch."),
            encoder=encoder.info,
            processes=self.processes,
            away=away,
        )

    def work(self, lease: Lease) -> Result:
        """Runs one work item of a job: its plan or a shard."""
        self._heard[0] = time.monotonic()
        item = self.ledger.jobs.begin(lease, self.name)
        if item is None:
            return DONE
        self._held[lease.token] = lease
        try:
            result = self._run(item)
        finally:
            del self._held[lease.token]
        if self.services.away:
            self.beat()  # else the next items would come to us, who can only give them back
        self.dispatch()
        return result

    def _run(self, item: WorkItem) -> Result:
        jobs, lease = self.ledger.jobs, item.lease
        try:
            self.services.refuse()
            return self._work(item)
        except LedgerUnavailable as error:
            logger.warning("ledger unavailable, item left to its lease", extra={"job": lease.job})
            return given_back(error.title)
        except Unavailable as error:
            elsewhere = isinstance(error, SourceElsewhere)
            waits = isinstance(error, SourceUnavailable) and not elsewhere
            delay = SOURCE_DELAY if waits else SERVICE_DELAY
            self.services.note(error)
            # What our heartbeats say need not be said twice, and ends with them.
            notice = "" if self.services.away else error.title
            jobs.retry_later(lease, delay, notice, elsewhere=elsewhere)
            return given_back(error.title)
        except KindredError as error:
            return self._fail(item, problem(error), error.logged)
        except Exception as error:  # noqa: BLE001 - nothing that a row raises may end the lane
            named = {"job": lease.job, "item": lease.item, "error": where(error)}
            logger.error("work item failed", extra=named)
            jobs.release(lease, crashed=True)
            self._doubt_the_encoder()
            return given_back(_BROKEN.title)

    def beat(self) -> None:
        """Tells the ledger that this worker lives, and which work items it is at.

        Its lanes do not: opening a source can take an hour, and slow blobs outlast a lease. Ends
        the worker if no message reaches it any more.
        """
        held = list(self._held.values())
        missed = self.ledger.workers.beat(self.info, metrics.text(), held)
        self._beaten[0] = time.monotonic()
        if missed >= MISSED and time.monotonic() - self._heard[0] > SILENCE:
            end_process("no message reaches it")

    def beat_if_late(self) -> None:
        """Call it before leases are taken back. After a Redis that had no room for our heartbeats,
        but for others' calls, we would else take back what our own lanes are at."""
        if time.monotonic() - self._beaten[0] > self.ledger.workers.alive_for / 2:
            self.beat()

    def dispatch(self) -> None:
        """Publishes the work items that can run now."""
        for lease in self.ledger.jobs.dispatch():
            self.publish(lease)

    def answer(self, request: str) -> Result:
        """Runs one query, unless another thread does: its message can come twice."""
        self._heard[0] = time.monotonic()
        thread = object()
        if self._answering.setdefault(request, thread) is not thread:
            return DONE
        try:
            claim = self.ledger.requests.claim(request, self.name)
            return DONE if claim is None else self._run_query(request, claim)
        finally:
            del self._answering[request]

    def _run_query(self, request: str, claim: Claim) -> Result:
        name, started = claim.operation, time.monotonic()
        try:
            self.services.refuse(reading=True)
            self._answer(request, claim)
            result = DONE
        except Unavailable as error:
            result = self._retry_later(request, error)
        except KindredError as error:
            result = self._fail_query(request, problem(error))
        except Exception as error:  # noqa: BLE001 - one query must not end the thread for others
            logger.error("query failed", extra={"request": request, "error": where(error)})
            self._doubt_the_encoder()
            result = self._fail_query(request, _BROKEN)
        seconds = time.monotonic() - started
        metrics.observe("kindred_query_seconds", "Time to answer", seconds, operation=name)
        return result

    def _retry_later(self, request: str, error: Unavailable) -> Result:
        """Gives a query back. One that was given back for too long fails: a person waits for it."""
        self.services.note(error)
        error = self.services.why_unanswered() or error
        if not self._is_hopeless() and self.ledger.requests.requeue(request, SERVICE_DELAY):
            return given_back(error.title)
        return self._fail_query(request, problem(error))

    def _is_hopeless(self) -> bool:
        """Whether it has been asked for long enough, and nobody else can answer either."""
        return self.services.seconds() >= PATIENCE and not self.others_can_answer()

    def others_can_answer(self) -> bool:
        others = (one for one in self.ledger.workers.alive() if one.name != self.name)
        return any(one.ready and not one.away for one in others)

    def _forget_pictures(self, request: str) -> None:
        """A picture may show a patient, and nobody needs it now; what fails here goes later."""
        with suppress(BlobsUnavailable):
            self.context.blobs.delete(pictures_folder(request))

    def _fail_query(self, request: str, why: Problem) -> Result:
        self.ledger.requests.fail(request, why)
        self._forget_pictures(request)
        return failed(why.title)

    def _answer(self, request: str, claim: Claim) -> None:
        """Answers again if images were deleted in the meantime: the answer could contain them."""
        folder = request_folder(request)
        try:
            sealed = self.context.blobs.read(f"{folder}/request.json")
            # The keys are in Redis, and most requests need none.
            keys = self.context.fields.pseudonyms().keys if is_sealed(sealed) else ()
            envelope = unseal(sealed, keys)
        except FileNotFoundError:
            raise QueryGone("What this search looked for is gone: search again.") from None
        epoch = claim.epoch
        while True:
            answer = operation(claim.operation).answer_to(self.context, request, envelope)
            self.context.blobs.write(f"{folder}/answer.json", answer)
            if self.ledger.requests.succeed(request, epoch):
                break
            epoch = self.ledger.tombstones.epoch()
        if operation(claim.operation).pictures:
            self._forget_pictures(request)

    def close(self) -> None:
        self.decoders.close()
        self.context.store.close()

    def _doubt_the_encoder(self) -> None:
        """Ends a worker whose device is broken, before it rejects picture after picture."""
        if not self.probe():
            end_process("the encoder fails")

    def _work(self, item: WorkItem) -> Result:
        jobs, run = self.ledger.jobs, operation(item.operation).job
        if item.deaths >= DEATHS:
            return self._fail(item, _UNREADABLE, _UNREADABLE.detail)
        if item.lease.item != PLAN:
            if not run.work(self.context, item):
                jobs.release(item.lease)
                return given_back("The job or the worker was stopped")
        elif (plan := run.plan(self.context, item)) is not None:
            jobs.planned(item.lease, plan.total, plan.shard_size, plan.version, plan.skipped)
        return DONE

    def _fail(self, item: WorkItem, why: Problem, reason: str) -> Result:
        logger.error("job failed", extra={"job": item.lease.job, "reason": reason})
        self.ledger.jobs.fail(item.lease.job, why)
        self.ledger.jobs.release(item.lease)
        return failed(why.title)
