"""Says in the log that the store is unavailable, and that it is available again."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.base.errors import StoreUnavailable

logger = logging.getLogger("kindred.store")

SAY_AGAIN = 60.0  # seconds between two warnings of one cause


class Outage:
    """Watches the calls of a store. Threads may share it. `clock` gives seconds.

    Where writes fail, as on a full disk, only a write shows that the store is well again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = None  # None: the store is well
        self._of_writes = False
        self._said: dict[str, float] = {}

    @contextmanager
    def watching(self, *, writes: bool = False) -> Iterator[None]:
        """Around one call of the store. Passes on what it raises."""
        try:
            yield
        except StoreUnavailable as error:
            self._fails(str(error), writes)
            raise
        if self._since is not None:
            self._works(writes)

    def _fails(self, cause: str, writes: bool) -> None:
        with self._lock:
            now = self._clock()
            self._since = now if self._since is None else self._since
            self._of_writes = self._of_writes or writes
            if now - self._said.get(cause, -SAY_AGAIN) < SAY_AGAIN:
                return
            self._said[cause] = now
            seconds = round(now - self._since)
        logger.warning("vector store unavailable", extra={"reason": cause, "seconds": seconds})

    def _works(self, writes: bool) -> None:
        with self._lock:
            if self._since is None or (self._of_writes and not writes):
                return
            seconds = round(self._clock() - self._since)
            self._since, self._of_writes = None, False
        logger.warning("vector store available again", extra={"seconds": seconds})
