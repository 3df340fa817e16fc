"""Decides when the embedded store's index is built, and has a thread for it."""

import logging
import threading

from pipeline.base.errors import StoreUnavailable
from pipeline.base.logs import where
from pipeline.store.edge_current import Current
from pipeline.store.edge_generations import Generations, Stopped

logger = logging.getLogger("kindred.store")

# An index is built when a third of all points has none. Each is then made of 1.5 times as many
# points as the one before, so that all of them together cost three times the last; and the points
# without one, which are compared one by one, stay within 25 ms a search at a million.
_SHARE = 1 / 3

_RETRY_SECONDS = 600.0


class Indexer:
    """Builds an index where `index_from` points have none (0: never)."""

    def __init__(self, generations: Generations, current: Current, index_from: int) -> None:
        self._generations, self._current, self._from = generations, current, index_from
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._thread: threading.Thread | None = None

    def maybe_build(self) -> None:
        """Starts a thread that builds, if one is due. Takes microseconds."""
        if self._thread is not None or not self._due():
            return
        with self._lock:
            if self._thread is None and not self._stopping.is_set():
                self._idle.clear()
                self._thread = threading.Thread(target=self._run, name="index", daemon=True)
                self._thread.start()

    def wait_until_idle(self) -> None:
        """Returns when no index is being built."""
        self._idle.wait()

    def close(self) -> None:
        """Gives up what is being built, by a purge as well."""
        with self._lock:
            self._stopping.set()
            thread = self._thread
        self._generations.stop()
        if thread is not None:
            thread.join()

    def _due(self) -> bool:
        if not self._from:
            return False
        with self._current.reading() as shard:
            info = shard.info()
        missing = info.points_count - info.indexed_vectors_count
        return missing >= max(self._from, info.points_count * _SHARE)

    def _run(self) -> None:
        while not self._stopping.is_set() and self._due():
            try:
                self._generations.build_index(self._due)
            except Stopped:
                break
            except StoreUnavailable as error:
                self._wait(str(error))
            except Exception as error:  # noqa: BLE001 - searches go on without an index, exactly
                self._wait(where(error))
        self._thread = None
        self._idle.set()

    def _wait(self, reason: str) -> None:
        logger.warning("no index was built", extra={"reason": reason})
        self._idle.set()
        self._stopping.wait(_RETRY_SECONDS)
        self._idle.clear()
