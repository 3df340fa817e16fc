"""What a worker does beside its tasks: it says that it lives, and looks for work that was lost."""

import logging
import threading
from collections.abc import Callable

from celery import Celery

from pipeline.base.blobs import request_folder
from pipeline.base.errors import LedgerUnavailable
from pipeline.base.logs import where
from workers.app import publish_ask
from workers.runtime import Runtime

logger = logging.getLogger("kindred.background")


class Repeating:
    """Calls `action` every `interval` seconds in a thread of its own; one failure ends no other."""

    def __init__(self, name: str, interval: float, action: Callable[[], object]) -> None:
        self._interval, self._action = interval, action
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():  # a worker can be stopped before it was ready
            self._thread.join(timeout=self._interval + 5)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self._action()
            except LedgerUnavailable:
                logger.warning("ledger away", extra={"loop": self._thread.name})
            except Exception as error:  # noqa: BLE001 - the loop must outlive any one turn
                logger.error(
                    "turn failed", extra={"loop": self._thread.name, "error": where(error)}
                )
            self._stop.wait(self._interval)


class Reconciler:
    """Sends again what has neither finished nor a live lease. Several at once do no harm."""

    def __init__(self, app: Celery, runtime: Runtime) -> None:
        self._app, self._runtime = app, runtime

    def __call__(self) -> None:
        runtime = self._runtime
        reclaimed = runtime.ledger.jobs.reclaim(runtime.alone)
        if reclaimed:
            logger.info("units reclaimed", extra={"units": reclaimed})
        if not runtime.stopping.is_set():
            runtime.hand_out()
        for ask, kind in runtime.ledger.asks.reclaim(runtime.alone):
            publish_ask(self._app, ask, kind)
        for ask in runtime.ledger.asks.expired():
            runtime.blobs.delete(request_folder(ask))
            runtime.ledger.asks.forget(ask)  # not before: who is killed in between would leave them
