"""What a worker process is made of: one model, one store, and what it does with a message."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import uuid4

from pipeline.base.blobs import Blobs, request_folder
from pipeline.base.errors import KindredError, LedgerUnavailable, SourceUnavailable, Unavailable
from pipeline.base.logs import where
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from pipeline.images.watchdog import DecodeWatch
from pipeline.ledger import Lease, Ledger, Progress, Unit, WorkerInfo
from pipeline.ledger.jobs import PLAN
from pipeline.lifecycle.deletion import Deletions
from pipeline.lifecycle.ingest import TRIES, Ingest
from pipeline.messages import Problem, problem
from pipeline.operations.answers import Answers
from pipeline.retrieval.fields import Fields
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.base import Reader
from pipeline.sources.registry import SourceCache, open_source
from pipeline.store import Store, open_store
from workers.health import Probe, end_process
from workers.memory import keep_freed_memory
from workers.renewal import Renewals

logger = logging.getLogger("kindred.worker")

# Until work that met an absent service is tried again.
SERVICE_DELAY = 2.0
SOURCE_DELAY = 10.0  # to prepare one on a full disk fills that anew each time

_BROKEN = Problem(
    type="internal-error",
    title="Internal error",
    status=500,
    detail="This failed for a reason that is not its own. The worker's log says where.",
)
# Workers that may end, one after the other, before a unit's next row is done. More than it takes to
# set a row aside: this is where none is in hand, as when opening the source ends the process.
DEATHS = 20
_UNREADABLE = Problem(
    type="source-error",
    title="The source cannot be read",
    status=422,
    detail="One worker after the other ended while it was to read this source; it was given up.",
)
_PLAN_POISON = Problem(
    type="source-error",
    title="The source cannot be read",
    status=422,
    detail="Three workers ended while they opened this source; it was given up.",
)


# How often a job begins anew because its source has changed: workers that see different files would
# do it for ever.
REPLANS = 5
_CHANGING = Problem(
    type="source-error",
    title="The source cannot be read",
    status=422,
    detail="It changes, or not all workers see the same files. Retry when it stands still.",
)


@dataclass(frozen=True)
class Runtime:
    """Everything is opened once per process and shared by its threads."""

    settings: Settings
    name: str
    ledger: Ledger
    encoder: Encoder
    store: Store
    blobs: Blobs
    sources: SourceCache
    pool: ThreadPoolExecutor
    answers: Answers
    ingest: Ingest
    watch: DecodeWatch
    probe: Probe
    publish: Callable[[Lease], None]
    stopping: threading.Event = field(default_factory=threading.Event)
    renewals: Renewals = field(default_factory=Renewals)

    @classmethod
    def open(cls, settings: Settings, publish: Callable[[Lease], None]) -> "Runtime":
        """Loads and warms up the model, then opens what it fills.

        Raises EncoderError, EncoderMismatch, StoreLocked, StoreUnavailable or LedgerUnavailable.
        """
        keep_freed_memory()
        ledger = Ledger(settings, patience=settings.lease_seconds / 2)
        ledger.ping()
        encoder = Encoder.load(settings)
        encoder.warm_up()
        store = open_store(settings, encoder.info)
        blobs = Blobs(settings.blobs)
        pool = ThreadPoolExecutor(os.cpu_count(), "decode")
        stopping = threading.Event()
        cache = settings.data.absolute() / "datasets"
        fields = Fields(store, settings.indexed_fields)
        watch = DecodeWatch()
        deletions = Deletions(store, blobs, ledger.tombstones, fields)
        allowed = AllowedSources.of(settings.sources)
        return cls(
            settings=settings,
            name=f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}",
            ledger=ledger,
            encoder=encoder,
            store=store,
            blobs=blobs,
            sources=SourceCache(lambda source: open_source(source, blobs, cache, allowed)),
            pool=pool,
            answers=Answers(encoder, store, blobs, settings, fields, deletions, watch),
            ingest=Ingest(
                encoder=encoder,
                store=store,
                blobs=blobs,
                jobs=ledger.jobs,
                deletions=deletions,
                pool=pool,
                settings=settings,
                stopping=stopping.is_set,
                watch=watch,
            ),
            watch=watch,
            probe=Probe(encoder),
            publish=publish,
            stopping=stopping,
        )

    @property
    def alone(self) -> str:
        """Our name where we own the store: then no other worker's lease can be good."""
        return "" if self.settings.qdrant_url else self.name

    @property
    def info(self) -> WorkerInfo:
        return WorkerInfo(
            name=self.name,
            ready=self.probe.healthy,
            lanes=self.encoder.sizing.lanes,
            device=str(self.encoder.device),
            dtype=str(self.encoder.dtype).removeprefix("torch."),
            encoder=self.encoder.info,
        )

    def work(self, lease: Lease) -> None:
        """One unit of a job: its plan or a shard."""
        unit = self.ledger.jobs.begin(lease, self.name)
        if unit is None:
            return
        try:
            self._work(unit)
        except LedgerUnavailable:
            logger.warning("ledger away, unit left to its lease", extra={"job": lease.job})
            return
        except Unavailable as error:
            delay = SOURCE_DELAY if isinstance(error, SourceUnavailable) else SERVICE_DELAY
            self.ledger.jobs.retry_later(lease, delay, error.title)
        except KindredError as error:
            self.ledger.jobs.fail(lease.job, problem(error))
            self.ledger.jobs.release(lease)
        except Exception as error:  # noqa: BLE001 - whatever a row can raise must not end the lane
            logger.error("unit failed", extra={**vars(lease), "error": where(error)})
            self.ledger.jobs.release(lease, crashed=True)
            self._doubt_the_encoder()
        self.hand_out()

    def hand_out(self) -> None:
        """Publishes what can be worked on now."""
        for lease in self.ledger.jobs.dispatch(self.encoder.sizing.lanes):
            self.publish(lease)

    def answer(self, ask: str) -> None:
        """One search, or whatever else was asked."""
        asks = self.ledger.asks
        kind = asks.take(ask, self.name)
        if kind is None:
            return
        try:
            with self.renewals.during(lambda: asks.renew(ask, self.name, kind)):
                self._answer(ask)
            asks.succeed(ask)
        except Unavailable:
            asks.requeue(ask, SERVICE_DELAY)
        except KindredError as error:
            asks.fail(ask, problem(error))
        except Exception as error:  # noqa: BLE001 - one ask must not end the thread of others
            logger.error("ask failed", extra={"ask": ask, "error": where(error)})
            self._doubt_the_encoder()
            asks.fail(ask, _BROKEN)

    def _answer(self, ask: str) -> None:
        question = self.blobs.read(f"{request_folder(ask)}/ask.json")
        self.blobs.write(f"{request_folder(ask)}/answer.json", self.answers.answer(question))

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)
        self.store.close()
        self.ledger.close()

    def _doubt_the_encoder(self) -> None:
        """Ends a worker whose device is broken, before it blames one picture after the other."""
        if not self.probe():
            end_process("the encoder fails")

    def _work(self, unit: Unit) -> None:
        if unit.deaths >= DEATHS:
            self.ledger.jobs.fail(unit.lease.job, _UNREADABLE)
            self.ledger.jobs.release(unit.lease)
            return
        if unit.lease.unit == PLAN:
            self._plan(unit)
            return
        reader = self._reader(unit)
        if reader.version != unit.version:
            self._plan_anew(unit)
        elif not self.ingest.run(unit, reader):
            self.ledger.jobs.release(unit.lease)

    def _reader(self, unit: Unit) -> Reader:
        """Opened anew where what is open is not what the job counted: its rows would be others."""
        reader = self._opened(unit)
        return reader if reader.version == unit.version else self._opened(unit, fresh=True)

    def _opened(self, unit: Unit, *, fresh: bool = False) -> Reader:
        with self.renewals.during(lambda: self.ledger.jobs.renew(unit.lease)):
            return self.sources.get(unit.source, fresh=fresh)

    def _plan_anew(self, unit: Unit) -> None:
        """Its source has changed since the job counted it: else rows would be missed in silence."""
        times = self.ledger.jobs.replan(unit.lease)  # 0 where another lane has seen it before us
        if times:
            logger.warning("source changed, job planned anew", extra={"job": unit.lease.job})
        if times > REPLANS:
            self.ledger.jobs.fail(unit.lease.job, _CHANGING)

    def _plan(self, unit: Unit) -> None:
        jobs = self.ledger.jobs
        if unit.crashes >= TRIES:
            jobs.fail(unit.lease.job, _PLAN_POISON)
            jobs.release(unit.lease)
            return
        jobs.checkpoint(unit.lease, Progress(cursor=0, hand=1))
        reader = self._opened(unit, fresh=True)
        total = len(reader)
        shard_size = self.encoder.sizing.shard_size_for(total)
        jobs.planned(unit.lease, total, shard_size, reader.version)
