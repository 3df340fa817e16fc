"""A worker's decoders where KINDRED_DECODE is card: JPEGs in batches on the card.

    decoders = CardDecoders(cpu, make_codec, max_pixels)
    made = decoders.submit(data, Order(steps, preview=512)).result()

It has the decoders on the CPU (`pipeline/images/decoders.py`) decode all that the card does not
read, or fails to; so what is rejected, and why, is theirs to say, and is the same. Searches use
those alone, and so do rows that were in flight when a worker died: what ends the process on the
card cannot end it a second time.

Threads wait until a batch is full, or no more comes. Two of them keep the card busy: while one
waits for the card, the other prepares.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline import metrics
from pipeline.base.errors import ConfigurationError, DecodersUnavailable
from pipeline.base.logs import where
from pipeline.images.card.batches import Maker, exact_dtype
from pipeline.images.card.codecs import Codec
from pipeline.images.card.readable import Frame, frame_of
from pipeline.images.card.samples import agreeing, encodes
from pipeline.images.decoders import ImageDecoders
from pipeline.images.decoding import Unusable
from pipeline.images.preparing import Order, Prepared

logger = logging.getLogger("kindred.decoders.card")

THREADS = 2
# Threads that encode previews where the card cannot.
WRITERS = 8
# Images, and their pixels, that are decoded at once. A decoded pixel takes three bytes.
MOST_IMAGES, MOST_PIXELS = 256, 96_000_000
# Seconds that a batch waits to be full. A lane orders its next batch in less.
PATIENCE = 0.004

DISAGREES = (
    "KINDRED_DECODE=card, but no JPEG that the card decodes looks as Pillow decodes it: nvJPEG may "
    "be missing (install the extra card), or set it to cpu"
)

Result = Prepared | Unusable


@dataclass(eq=False)
class _Job:
    data: bytes
    frame: Frame
    order: Order
    future: "Future[Result]" = field(default_factory=Future)


class CardDecoders:
    """Threads can share it. `close` closes the decoders on the CPU, too."""

    def __init__(
        self,
        cpu: ImageDecoders,
        make_codec: Callable[[], Codec],
        max_pixels: int,
        *,
        writers: Executor | None = None,
        threads: int = THREADS,
    ) -> None:
        """Compares the card with Pillow, then starts. `writers` encode previews on the CPU.

        Raises ConfigurationError if no decoder for the card is installed, or if it disagrees.
        """
        self.codecs = codecs = [make_codec() for _ in range(threads)]
        self._cpu, self._max_pixels = cpu, max_pixels
        with _stream(codecs[0].device):
            self._kinds = agreeing(codecs[0])
            dtype = exact_dtype(codecs[0].device)
            if writers is None and not encodes(codecs[0]):
                writers = ThreadPoolExecutor(WRITERS, "preview")
        if not self._kinds:
            raise ConfigurationError((DISAGREES,))
        self._queue = _Queue()
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(Maker(codec, writers, dtype=dtype),),
                name=f"card-{number}",
                daemon=True,
            )
            for number, codec in enumerate(codecs)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, data: bytes, order: Order, *, urgent: bool = False, suspect: bool = False
    ) -> "Future[Result]":
        """As `Decoders.submit`. A `suspect` may have ended a worker, so the card never sees it.

        The pixels of an image that the card has decoded are a tensor on it. The future raises what
        the card raises if it is broken.
        """
        if not urgent and not suspect and order.crop is None:
            frame = frame_of(data, self._max_pixels)
            if frame is not None and frame.kind in self._kinds:
                job = _Job(data, frame, order)
                job.future.set_running_or_notify_cancel()
                if self._queue.put(job):
                    return job.future
        return self._cpu.submit(data, order, urgent=urgent)

    @property
    def pids(self) -> list[int]:
        """Of the decoders on the CPU that are ready."""
        return self._cpu.pids

    @property
    def closed(self) -> bool:
        return self._cpu.closed

    def close(self) -> None:
        for job in self._queue.close():
            job.future.set_exception(DecodersUnavailable(_CLOSED))
        for thread in self._threads:
            thread.join()
        self._cpu.close()

    def _run(self, maker: Maker) -> None:
        with torch.inference_mode(), _stream(maker.codec.device):
            while jobs := self._queue.take():
                for group in _of_one_kind(jobs):
                    self._make(maker, group)

    def _make(self, maker: Maker, jobs: Sequence[_Job]) -> None:
        """Answers all jobs of one frame and order; what memory does not hold at once, in halves."""
        try:
            made = maker.make([job.data for job in jobs], jobs[0].frame, jobs[0].order)
            _wait(maker.codec.device)  # other threads use the pixels on streams of their own
        except torch.OutOfMemoryError:
            made = None
        except Exception as error:  # noqa: BLE001 - a library's fault, or the card's
            self._failed(maker, jobs, error)
            return
        # Here the traceback is gone, and with it the tensors that did not fit.
        if made is not None:
            self._answer(jobs, made)
        elif len(jobs) == 1:
            self._to_cpu(jobs, "no memory")
        else:
            half = len(jobs) // 2
            self._make(maker, jobs[:half])
            self._make(maker, jobs[half:])

    def _answer(self, jobs: Sequence[_Job], made: "Sequence[Prepared | None]") -> None:
        self._to_cpu([job for job, one in zip(jobs, made, strict=True) if one is None], "failed")
        done = [(job, one) for job, one in zip(jobs, made, strict=True) if one is not None]
        # The last first: a lane waits for its first, and wakes once, when all are there.
        for job, one in reversed(done):
            job.future.set_result(one)
        metrics.count("kindred_card_decoded_total", "Images that the card has decoded", len(done))

    def _failed(self, maker: Maker, jobs: Sequence[_Job], error: Exception) -> None:
        """The images are not to blame for a card that is broken: the worker looks, and ends."""
        logger.error("card failed to decode a batch", extra={"error": where(error)})
        if _works(maker.codec.device):
            self._to_cpu(jobs, "refused")
            return
        for job in jobs:
            job.future.set_exception(error)

    def _to_cpu(self, jobs: Sequence[_Job], cause: str) -> None:
        for job in jobs:
            self._cpu.submit(job.data, job.order).add_done_callback(_passing_on(job.future))
        if jobs:
            what = "Images that the card has handed back to the CPU"
            metrics.count("kindred_card_handed_back_total", what, len(jobs), cause=cause)


_CLOSED = "The worker ends."


class _Queue:
    """What waits for the card."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting: list[_Job] = []
        self._pixels = 0
        self._closed = False

    def put(self, job: _Job) -> bool:
        """False if it is closed."""
        with self._lock:
            if not self._closed:
                self._waiting.append(job)
                self._pixels += job.frame.pixels
                if len(self._waiting) == 1 or self._full():
                    self._changed.notify()
            return not self._closed

    def take(self) -> list[_Job]:
        """A batch; empty once the queue is closed."""
        with self._lock:
            while not self._closed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._gather()
                if batch := self._taken():  # another thread can have taken all meanwhile
                    return batch
        return []

    def _gather(self) -> None:
        """Waits until a batch is full, or no more comes."""
        before = -1
        while before < len(self._waiting) and not self._full() and not self._closed:
            before = len(self._waiting)
            self._changed.wait_for(lambda: self._full() or self._closed, PATIENCE)

    def _taken(self) -> list[_Job]:
        count, pixels = 0, 0
        for job in self._waiting[:MOST_IMAGES]:
            if count and pixels + job.frame.pixels > MOST_PIXELS:
                break
            count, pixels = count + 1, pixels + job.frame.pixels
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        self._pixels -= pixels
        if self._waiting:
            self._changed.notify()
        return batch

    def close(self) -> list[_Job]:
        with self._lock:
            self._closed = True
            left, self._waiting = self._waiting, []
            self._changed.notify_all()
        return left

    def _full(self) -> bool:
        return len(self._waiting) >= MOST_IMAGES or self._pixels >= MOST_PIXELS


def _of_one_kind(jobs: Sequence[_Job]) -> list[list[_Job]]:
    """By size and order; how the colours are sampled is the decoder's own matter."""
    groups: dict[tuple[int, int, Order], list[_Job]] = defaultdict(list)
    for job in jobs:
        groups[job.frame.width, job.frame.height, job.order].append(job)
    return [*groups.values()]


def _passing_on(to: "Future[Result]") -> "Callable[[Future[Result]], None]":
    def pass_on(done: "Future[Result]") -> None:
        error = done.exception()
        if error is not None:
            to.set_exception(error)
        else:
            to.set_result(done.result())

    return pass_on


def _stream(device: torch.device) -> "torch.cuda.StreamContext":
    """A stream of the calling thread's own; none on a CPU."""
    make: Any = torch.cuda.Stream
    stream = make(device) if device.type == "cuda" else None
    return torch.cuda.stream(stream)


def _wait(device: torch.device) -> None:
    """For the calling thread's work on the card, asleep: by default CUDA spins, on a whole core."""
    if device.type == "cuda":
        make: Any = torch.cuda.Event
        done = make(blocking=True)
        done.record(torch.cuda.current_stream(device))
        done.synchronize()


def _works(device: torch.device) -> bool:
    """After an illegal access, every call to the card fails until the process has ended."""
    try:
        torch.zeros(1, device=device).cpu()
        _wait(device)
    except RuntimeError:
        return False
    return True
