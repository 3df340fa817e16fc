"""The background work of a worker: repeating actions, the reconciler and the cleaner."""

import logging
import threading
from collections.abc import Callable

from celery import Celery

from pipeline.base.blobs import request_folder
from pipeline.base.errors import LedgerUnavailable
from pipeline.base.logs import where
from pipeline.ledger import JobRecord, Ledger
from pipeline.operations.ingest import INGEST, put_away
from pipeline.operations.registry import operation
from workers.queue import delete_queues, publish_query
from workers.runtime import Runtime

logger = logging.getLogger("kindred.background")

# Seconds that a stop waits for a turn. What takes longer ends with the process: every turn is safe
# to interrupt, and a supervisor that waits in vain would kill us.
_LAST_TURN_SECONDS = 8.0


class Repeating:
    """Calls `action` every `interval` seconds in its own thread, and goes on after a failure."""

    def __init__(self, name: str, interval: float, action: Callable[[], object]) -> None:
        self._interval, self._action = interval, action
        self._stop, self._soon = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def hasten(self) -> None:
        """Begins the next turn now."""
        self._soon.set()

    def stop(self) -> None:
        self._stop.set()
        self._soon.set()
        if self._thread.is_alive():  # a worker can be stopped before it is ready
            self._thread.join(timeout=_LAST_TURN_SECONDS)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self._action()
            except LedgerUnavailable:
                logger.warning("ledger unavailable", extra={"loop": self._thread.name})
            except Exception as error:  # noqa: BLE001 - the loop must survive any one turn
                logger.error(
                    "turn failed", extra={"loop": self._thread.name, "error": where(error)}
                )
            self._soon.wait(self._interval)
            self._soon.clear()


class Reconciler:
    """Sends work again that is unfinished and has no live lease. Several at once do no harm."""

    def __init__(self, app: Celery, runtime: Runtime, pause: float) -> None:
        """`pause`: seconds within which it is enough that one of all workers reclaims leases."""
        self._app, self._runtime, self._pause = app, runtime, pause

    def __call__(self) -> None:
        ledger, runtime = self._runtime.ledger, self._runtime
        runtime.beat_if_late()
        reclaimed = ledger.jobs.reclaim(runtime.alone, self._pause)
        if reclaimed:
            logger.info("work items reclaimed", extra={"items": reclaimed})
        if not runtime.stopping.is_set():
            runtime.dispatch()
        for request, name in ledger.requests.reclaim(runtime.alone):
            publish_query(self._app, ledger.collection, operation(name), request)
        for request in ledger.requests.expired():
            runtime.context.blobs.delete(request_folder(request))
            ledger.requests.forget(request)  # last: a kill in between must not leave the blobs


class Cleaner:
    """Deletes data of work that has ended, since it can contain patients' data."""

    def __init__(self, runtime: Runtime) -> None:
        self._context = runtime.context

    def __call__(self) -> None:
        self._requests_of_deletions()
        self._ended_ingests()

    def _ended_ingests(self) -> None:
        jobs, brought = self._context.ledger.jobs, list[JobRecord]()
        for job in jobs.ended():
            record = jobs.get(job)
            if record.operation == INGEST.name:
                put_away(self._context, record)
            jobs.tidied(job)
            brought += [record] if record.operation == INGEST.name else []
        for record in brought:  # when all is put away: nobody's data waits for it
            if not self._context.stopping():
                self._context.drift.look(record)

    def _requests_of_deletions(self) -> None:
        """Deletes the requests of deletions that have ended, and that no running job must apply."""
        ledger = self._context.ledger
        for deletion in ledger.tombstones.released_deletions():
            self._context.deletions.receipts.forget_request(deletion)
            ledger.tombstones.forget_deletion(deletion)


def delete_queues_of_departed_workers(app: Celery, ledger: Ledger) -> None:
    """Every worker has queues of its own, under a name that does not come back."""
    for worker in ledger.workers.departed():
        delete_queues(app, ledger.collection, worker)
