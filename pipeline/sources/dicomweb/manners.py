"""How we behave towards an archive that others work with: how often, how many at once, and when."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from pipeline.base.errors import ArchiveClosed

HOURS = r"^([01]?\d|2[0-3])-([01]?\d|2[0-4])$"


def is_open(hours: str | None, hour: int) -> bool:
    """Whether `hours`, as in 20-06, contain the hour; the second one is the first one outside."""
    found = re.match(HOURS, hours or "")
    if found is None:
        return True
    begin, end = int(found[1]), int(found[2])
    return begin <= hour < end if begin < end else hour >= begin or hour < end


class Manners:
    """Of one job in one process. Threads share it.

    `rate` is in requests a second, `most` how many at once; `hours` are of this host's clock.
    """

    def __init__(
        self,
        rate: float,
        most: int,
        hours: str | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        hour: Callable[[], int] = lambda: datetime.now().astimezone().hour,
    ) -> None:
        self._apart, self._hours, self._hour = 1 / rate, hours, hour
        self._clock, self._sleep = clock, sleep
        self._slots, self._lock = threading.Semaphore(most), threading.Lock()
        self._next = clock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for one. Raises ArchiveClosed outside of the hours."""
        if not is_open(self._hours, self._hour()):
            raise ArchiveClosed("It goes on by itself.")
        with self._slots:
            if (wait := self._wait()) > 0:
                self._sleep(wait)
            yield

    def _wait(self) -> float:
        with self._lock:
            now = self._clock()
            at = max(now, self._next)
            self._next = at + self._apart
            return at - now
