"""Whether a service that we call is well, since when it is not, and why, in the log and in words.

The client of a service watches its own calls. What a service says of itself goes no further: a
cause is a sentence of ours.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from pipeline.base.errors import Unavailable

SAY_AGAIN = 60.0  # seconds between two warnings of one cause

# Seconds that a call may be out, while no other comes back: then somebody should ask something
# easy; and then the service hangs. The clients themselves wait for half a minute and longer.
SUSPECT = 3.0
HANGS = 8.0

SILENT = "it does not answer"


class Away(BaseModel):
    """`since` is in seconds since 1970. `writes_only`: what is stored can still be read."""

    # A newer worker can say more.
    model_config = ConfigDict(frozen=True, extra="ignore")

    since: float
    cause: str
    writes_only: bool = False

    def sentence(self, service: str) -> str:
        """`service` is its subject, such as "The vector store"."""
        since = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M UTC")
        what = "takes no writes" if self.writes_only else "is away"
        return f"{service} {what} since {since}: {self.cause}"


class Outage:
    """Watches the calls of one service. Threads may share it. `clock` gives seconds.

    Where writes fail, as on a full disk, only a write shows that the service is well again.
    """

    def __init__(
        self,
        name: str = "store",
        label: str = "vector store",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The log has it as `label`, by the logger of this `name`."""
        self._label, self._clock = label, clock
        self._logger = logging.getLogger(f"kindred.{name}")
        self._lock = threading.RLock()
        self._failing: dict[bool, tuple[float, str]] = {}  # by whether only writes fail
        self._calls: dict[object, float] = {}  # those that are out, and when they began
        self._worked = clock()  # when one came back last
        self._said: dict[str, float] = {}
        self._warned: float | None = None  # since when it is unavailable, if that was said

    @contextmanager
    def watching(self, *, writes: bool = False) -> Iterator[None]:
        """Around one call of the service. Passes on what it raises."""
        call, began = object(), self._clock()
        with self._lock:
            self._calls[call] = began
        try:
            yield
        except Unavailable as error:
            self.fails(str(error), writes=writes, since=began)
            raise
        except FileNotFoundError:  # an answer as good as any, to who reads
            if not writes:
                self._works(writes)
            raise
        else:
            self._works(writes)
        finally:
            with self._lock:
                del self._calls[call]

    def fails(self, cause: str, *, writes: bool = False, since: float | None = None) -> None:
        """Notes a failure: of a call that began at `since`, or of one that nobody watched."""
        with self._lock:
            began = self._clock() if since is None else max(since, self._worked)
            first, _ = self._failing.get(writes, (began, ""))
            self._failing[writes] = (first, cause)
            self._warn(cause, first)

    def look(self) -> Away | None:
        """None if it is well, as far as anybody knows. Call it often: it keeps the log going."""
        with self._lock:
            silent = self._silent_since(HANGS)
            if silent is not None and False not in self._failing:
                since, cause, writes_only = silent, SILENT, False
            elif self._failing:
                writes_only = False not in self._failing
                since, cause = self._failing[writes_only]
            else:
                return None
            first = min([since, *(began for began, _ in self._failing.values())])
            self._warn(cause, first)
            ago = self._clock() - first
        return Away(since=time.time() - ago, cause=cause, writes_only=writes_only)

    @property
    def suspect(self) -> bool:
        """Whether a call has been out for long, and none has come back meanwhile."""
        with self._lock:
            return self._silent_since(SUSPECT) is not None

    def _silent_since(self, seconds: float) -> float | None:
        """Since when nothing came back, if that is so many seconds."""
        if not self._calls:
            return None
        since = max(min(self._calls.values()), self._worked)
        return since if self._clock() - since >= seconds else None

    def _warn(self, cause: str, since: float) -> None:
        now = self._clock()
        if now - self._said.get(cause, -SAY_AGAIN) < SAY_AGAIN:
            return
        self._said[cause] = now
        self._warned = since if self._warned is None else min(since, self._warned)
        more = {"reason": cause, "seconds": round(now - since)}
        self._logger.warning("%s unavailable", self._label, extra=more)

    def _works(self, writes: bool) -> None:
        with self._lock:
            self._worked = self._clock()
            self._failing.pop(False, None)
            if writes:
                self._failing.pop(True, None)
            if self._failing or self._warned is None:
                return
            seconds, self._warned = round(self._worked - self._warned), None
        self._logger.warning("%s available again", self._label, extra={"seconds": seconds})
