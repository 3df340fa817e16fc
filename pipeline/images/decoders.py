"""The decoders of a worker: processes in which images are decoded, each on its own.

    decoders = Decoders(count=3, max_pixels=10**8, seconds=30)
    made = decoders.submit(data, Order(steps, preview=512)).result()

A decoder that ends or hangs costs its image one more try, alone; then the image is rejected by
name. Nothing else notices, and a new decoder takes its place.

One more decoder than `count` is reserved for searches, so that no search waits for bulk work, not
even where all other decoders hang. The others take searches first.
"""

import logging
import signal
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from pipeline import metrics
from pipeline.base.errors import DecodersUnavailable
from pipeline.base.logs import where
from pipeline.images.decoder_process import DEPTH, DecoderProcess, Hangs, Lost, Template
from pipeline.images.decoding import Unusable
from pipeline.images.preparing import Order, Prepared

logger = logging.getLogger("kindred.decoders")

PROGRAM = "pipeline.images.decoder"

CRASHES = Unusable(
    "decoding it ended the decoder twice: save it again with another program, as PNG or JPEG"
)
KILLED = Unusable("its decoder was killed again and again: the workers' host may lack memory")
HANGS = Unusable("decoding it takes longer than KINDRED_DECODE_SECONDS allows")

# How often an image may lose its decoder. What kills one from outside, an operator or a kernel
# without memory, is rarely the image's fault, and can meet one image more than once.
_TRIES = 2
_TRIES_IF_KILLED = 10
_KILLED = frozenset({-signal.SIGKILL, -signal.SIGTERM})

# Seconds for which no decoder can be started before what waits is told so.
PATIENCE = 10.0

# Seconds between two tries to start one, at first and at most.
_DELAY, _MOST_DELAY = 0.1, 2.0

# Seconds after which an idle decoder that has ended is replaced, at the latest.
_IDLE_SECONDS = 1.0

Result = Prepared | Unusable


class ImageDecoders(Protocol):
    """What decodes a worker's images: `Decoders`, or those on a card before them."""

    def submit(
        self, data: bytes, order: Order, *, urgent: bool = False, suspect: bool = False
    ) -> "Future[Result]": ...

    @property
    def pids(self) -> list[int]: ...

    @property
    def closed(self) -> bool: ...

    def close(self) -> None: ...


@dataclass(eq=False)
class _Job:
    data: bytes
    order: Order
    urgent: bool
    future: "Future[Result]" = field(default_factory=Future)
    ended: int = 0  # decoders
    killed: int = 0  # of these, from outside


class Decoders:
    """Threads can share it. Close it, or end the process: the decoders then end too."""

    def __init__(self, count: int, max_pixels: int, seconds: float, *, wait: bool = True) -> None:
        """Starts `count` decoders and one for searches. `seconds`: for one image.

        Raises DecodersUnavailable if none starts; without `wait`, that is for `wait_for_one`.
        """
        self._queue = _Queue()
        self.template = Template(PROGRAM)
        self._slots = [
            _Slot(self._queue, self.template, max_pixels, seconds, reserved=number == 0)
            for number in range(count + 1)
        ]
        if wait:
            self.wait_for_one()

    def wait_for_one(self) -> None:
        """Until a decoder is ready. Raises DecodersUnavailable if none starts."""
        self._queue.wait_for_one()

    def submit(
        self,
        data: bytes,
        order: Order,
        *,
        urgent: bool = False,
        suspect: bool = False,  # no matter here: no file ends the worker
    ) -> "Future[Result]":
        """Decodes a file. `urgent` work comes before all that is not.

        The future raises DecodersUnavailable if no decoder can be started for some time.
        """
        job = _Job(data, order, urgent)
        job.future.set_running_or_notify_cancel()  # so nobody cancels what a decoder may have
        self._queue.put(job)
        return job.future

    @property
    def pids(self) -> list[int]:
        """Of the decoders that are ready."""
        return [pid for slot in self._slots if (pid := slot.pid) is not None]

    @property
    def closed(self) -> bool:
        return self._queue.closed

    def close(self) -> None:
        """Ends the decoders. What is not finished raises DecodersUnavailable."""
        self._queue.close()
        for slot in self._slots:
            slot.close()
        self.template.close()


class _Queue:
    """What waits for a decoder, and how many decoders there are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # One for each kind of decoder, so that a job wakes one that takes it.
        self._changed = {kind: threading.Condition(self._lock) for kind in (True, False)}
        self._waiting: dict[bool, deque[_Job]] = {True: deque(), False: deque()}  # by urgency
        self._ready = {True: 0, False: 0}  # decoders, by whether they are reserved
        self._resting = False  # whether the reserved decoder waits for work
        self._closed = threading.Event()
        self._settled = threading.Event()  # one has started, or none will

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def sleep(self, seconds: float) -> None:
        """Or until the pool closes."""
        self._closed.wait(seconds)

    def put(self, job: _Job, *, first: bool = False) -> None:
        with self._lock:
            if not self.closed:
                waiting = self._waiting[job.urgent]
                (waiting.appendleft if first else waiting.append)(job)
                self._changed[True].notify()
                self._changed[False].notify()
                return
        _fail([job])

    def take(self, *, reserved: bool, busy: bool) -> _Job | None:
        """The next job for a decoder; None if there is none for it now.

        One that is not busy waits for a while. A busy one takes bulk work ahead, but nothing that
        has to be alone, nor a search: it could wait for an image that hangs.
        """
        with self._lock:
            if not busy and not self.closed and not self._line(reserved):
                self._resting = self._resting or reserved
                self._changed[reserved].wait(_IDLE_SECONDS)
                self._resting = self._resting and not reserved
            line = self._line(reserved)
            if not line or (busy and (line[0].urgent or line[0].ended)):
                return None
            return line.popleft()

    def _line(self, reserved: bool) -> "deque[_Job]":
        """What a decoder takes from: searches first, but one is for the reserved if that rests."""
        urgent = len(self._waiting[True]) > (self._resting and not reserved)
        return self._waiting[urgent or reserved]

    def count(self, change: int, *, reserved: bool) -> None:
        """A decoder is ready (1), or it was (-1)."""
        with self._lock:
            self._ready[reserved] += change
        if change > 0:
            self._settled.set()

    def give_up(self) -> None:
        """Fails what no decoder can take, because none starts."""
        with self._lock:
            lost = [] if self._ready[False] else self._emptied(False)
            if not any(self._ready.values()):
                lost += self._emptied(True)
        self._settled.set()
        _fail(lost)

    def wait_for_one(self) -> None:
        """Raises DecodersUnavailable if none has started."""
        self._settled.wait()
        if not any(self._ready.values()):
            self.close()
            raise DecodersUnavailable(_WHY)

    def close(self) -> None:
        with self._lock:
            self._closed.set()
            lost = [*self._emptied(True), *self._emptied(False)]
            for changed in self._changed.values():
                changed.notify_all()
        _fail(lost)

    def _emptied(self, urgent: bool) -> list[_Job]:
        jobs = [*self._waiting[urgent]]
        self._waiting[urgent].clear()
        return jobs


class _Slot:
    """Keeps one decoder running, and gives it work."""

    def __init__(
        self,
        queue: _Queue,
        template: Template,
        max_pixels: int,
        seconds: float,
        *,
        reserved: bool,
    ) -> None:
        self._queue, self._template = queue, template
        self._max_pixels, self._seconds = max_pixels, seconds
        self._reserved = reserved
        self._decoder: DecoderProcess | None = None
        self._thread = threading.Thread(target=self._run, name="decoder", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        decoder = self._decoder
        return decoder.pid if decoder is not None else None

    def close(self) -> None:
        """Once the queue is closed."""
        if (decoder := self._decoder) is not None:
            decoder.kill()
        self._thread.join()

    def _run(self) -> None:
        while (decoder := self._started()) is not None:
            self._decoder = decoder
            self._queue.count(1, reserved=self._reserved)
            try:
                self._use(decoder)
            finally:
                self._queue.count(-1, reserved=self._reserved)
                self._decoder = None
                decoder.end()

    def _started(self) -> DecoderProcess | None:
        """A new decoder, as soon as one can be started; None if the pool closes."""
        since, delay = time.monotonic(), _DELAY
        while not self._queue.closed:
            try:
                return DecoderProcess(self._template, self._max_pixels)
            except Exception as error:  # noqa: BLE001 - no memory, no processes, no files left
                logger.error("decoder does not start", extra={"error": where(error)})
            if time.monotonic() - since > PATIENCE:
                self._queue.give_up()
            self._queue.sleep(delay)
            delay = min(2 * delay, _MOST_DELAY)
        return None

    def _use(self, decoder: DecoderProcess) -> None:
        """Until the decoder ends, hangs, or is no longer needed."""
        running: deque[_Job] = deque()
        try:
            while not self._queue.closed:
                decoder.check()
                self._fill(decoder, running)
                if running:
                    _answer(decoder, running, self._seconds)
        except Exception as end:  # noqa: BLE001 - Lost, Hangs, or it has answered nonsense
            if not self._queue.closed:
                self._lost(end, running)
        for job in reversed(running):
            self._queue.put(job, first=True)

    def _fill(self, decoder: DecoderProcess, running: "deque[_Job]") -> None:
        """Gives it what it can have at once: an image that has ended a decoder is alone."""
        while len(running) < DEPTH and not (running and running[0].ended):
            job = self._queue.take(reserved=self._reserved, busy=bool(running))
            if job is None:
                return
            running.append(job)
            try:
                decoder.send(job.data, job.order)
            except Lost:  # before it could begin this one
                self._queue.put(running.pop(), first=True)
                raise
            except OSError:  # no memory for its bytes
                _fail([running.pop()])

    def _lost(self, end: Exception, running: "deque[_Job]") -> None:
        """It worked on the first; those behind it are untouched."""
        hangs = isinstance(end, Hangs)
        killed = isinstance(end, Lost) and end.code in _KILLED
        cause = "hangs" if hangs else "killed" if killed else "crashed"
        code = {"code": end.code} if isinstance(end, Lost) else {}
        logger.warning("decoder lost", extra={"cause": cause, "error": where(end), **code})
        metrics.count("kindred_decoders_lost_total", "Decoders that ended or hung", cause=cause)
        if not running:
            return
        job = running[0]
        job.ended, job.killed = job.ended + 1, job.killed + killed
        if job.ended - job.killed >= _TRIES or job.ended >= _TRIES_IF_KILLED:
            job.future.set_result(HANGS if hangs else KILLED if killed else CRASHES)
            running.popleft()


def _answer(decoder: DecoderProcess, running: "deque[_Job]", seconds: float) -> None:
    """Waits for the first: the decoder has begun it now, or when it was sent."""
    job = running[0]
    until = time.monotonic() + seconds
    try:
        result = decoder.receive(job.order, len(running), until)
    except OSError:
        _fail([job])
    except RuntimeError as error:  # a fault of ours
        job.future.set_exception(error)
    else:
        job.future.set_result(result)
    running.popleft()


_WHY = (
    "Kindred decodes in processes of their own, and none can be started: look in the worker's log, "
    "and whether memory or processes are used up."
)


def _fail(jobs: list[_Job]) -> None:
    for job in jobs:
        job.future.set_exception(DecodersUnavailable(_WHY))
