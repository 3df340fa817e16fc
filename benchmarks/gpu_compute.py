"""Measures what a card can compute, and how much of it the forward pass and its candidates reach.

The product does not contain the candidates. A candidate that is faster in the table, and gives the
same vectors, may go there.
"""

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.compute import Shape
from benchmarks.gpu_setup import Bench, Measured, one, per, times, tried
from benchmarks.machine import cores
from benchmarks.report import Spread

Forward = Callable[[torch.Tensor], torch.Tensor]

_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "plain products": SDPBackend.MATH,
}


def limits(bench: Bench) -> Iterator[Measured]:
    """Measures the card's limits: large products, the model's products alone, and copies."""
    n = bench.sizes.square
    a, b = (torch.randn(n, n, device=bench.device).to(bench.dtype) for _ in range(2))
    yield tried(f"square product, {n:,} rows", "TFLOP/s", lambda: _tflops(bench, a, b))
    shape = Shape.read(bench.model)
    for batch in bench.sizes.batches[-3:]:
        what = f"the model's products alone, {batch} images"
        with torch.inference_mode():
            rate = bench.rate(shape.products(batch, bench.dtype, bench.device), batch)
        yield Measured(what, rate, "images/s", f"{_teraflops(shape, rate):.0f} TFLOP/s")
    yield from _copies(bench)


def _tflops(bench: Bench, a: torch.Tensor, b: torch.Tensor) -> Spread:
    return times(bench.rate(lambda: a @ b), 2 * len(a) ** 3 / 1e12)


def _teraflops(shape: Shape, images_a_second: Spread) -> float:
    return images_a_second.median * shape.flop / 1e12


def _copies(bench: Bench) -> Iterator[Measured]:
    """Measures copies of a batch of 256 images (4 without a card), as ingest does and otherwise."""
    count = 256 if not bench.cpu else 4
    images = [np.zeros((3, 224, 224), np.uint8)] * count
    gigabytes = count * images[0].nbytes / 1e9
    big = torch.zeros(2**28 if not bench.cpu else 2**10, dtype=torch.uint8, device=bench.device)
    other = torch.empty_like(big)
    moved = 2 * len(big) / 1e9
    yield tried(
        "copy within the card, read and written", "GB/s",
        lambda: times(bench.rate(lambda: other.copy_(big)), moved),
    )  # fmt: skip
    pageable = torch.from_numpy(np.stack(images))
    yield tried(
        "copy to the card from ordinary memory", "GB/s",
        lambda: times(bench.rate(lambda: pageable.to(bench.device, copy=True)), gigabytes),
    )  # fmt: skip
    if bench.cpu:
        return
    locked = pageable.pin_memory()

    def copy_locked() -> torch.Tensor:
        return locked.to(bench.device, non_blocking=True)

    def stack_then_lock() -> torch.Tensor:
        return torch.from_numpy(np.stack(images)).pin_memory().to(bench.device, non_blocking=True)

    def stack_locked() -> torch.Tensor:
        room = torch.empty((count, 3, 224, 224), dtype=torch.uint8, pin_memory=True)
        np.stack(images, out=room.numpy())
        return room.to(bench.device, non_blocking=True)

    yield tried(
        "copy to the card from page-locked memory", "GB/s",
        lambda: times(bench.rate(copy_locked), gigabytes),
    )  # fmt: skip
    for what, action in (
        ("stack, lock and copy a batch of 256, as before", stack_then_lock),
        ("stack in locked memory and copy it, as Kindred does", stack_locked),
    ):
        yield tried(what, "ms", lambda a=action: per(bench.rate(a), 1000))


# --- the forward pass ----------------------------------------------------------------------------


def forward(bench: Bench) -> Iterator[Measured]:
    """Measures Kindred's forward pass, from uint8 pixels to vectors on the device, in parts."""
    run, normalise, model = _loaded(bench)
    shape, size = Shape.read(bench.model), _size(bench)
    yield one("work of one image", shape.flop / 1e9, "GFLOP", "two a multiplication and addition")
    found: dict[int, float] = {}
    with torch.inference_mode():
        for batch in bench.sizes.batches:
            line = tried(
                f"forward, {batch} images", "images/s",
                lambda n=batch: bench.rate(_with(run, bench.noise(n, size)), n),
            )  # fmt: skip
            if line.value is not None:
                found[batch] = line.value.median
                note = f"{_teraflops(shape, line.value):.0f} TFLOP/s"
                line = Measured(line.what, line.value, line.unit, note)
            yield line
        best = max(found, key=lambda batch: found[batch])
        pixels = bench.noise(best, size)
        yield tried(
            f"- of it, normalise ({best} images)", "ms",
            lambda: per(bench.rate(_with(normalise, pixels)), 1000),
        )  # fmt: skip
        yield from _launches(bench, _with(run, bench.noise(bench.sizes.batches[0], size)))
        yield from _attentions(bench, _with(run, pixels), best)
        yield tried(
            f"candidate: channels last, {best} images", "images/s",
            lambda: bench.rate(_with(_channels_last(model, normalise), pixels), best),
        )  # fmt: skip


def _loaded(bench: Bench) -> tuple[Forward, Forward, Any]:
    """Returns the product's forward pass, its first step, and the model."""
    from pipeline.base.settings import Settings
    from pipeline.encoding.encoder import Encoder, vectors_of

    device = "cpu" if bench.cpu else "cuda"
    encoder = Encoder.load(
        Settings(model=str(bench.model), data=bench.folder, device=device).encoder
    )
    model, preprocessing = encoder._model, encoder._preprocessing

    def normalise(pixels: torch.Tensor) -> torch.Tensor:
        return preprocessing.normalize(pixels).to(encoder.dtype)

    def run(pixels: torch.Tensor) -> torch.Tensor:
        return vectors_of(model, normalise(pixels), encoder.info.pooling)

    return run, normalise, model


def _size(bench: Bench) -> tuple[int, int]:
    shape = Shape.read(bench.model)
    side = int((shape.tokens - 1) ** 0.5 * (shape.patch / 3) ** 0.5)
    return side, side


def _with(run: Forward, pixels: torch.Tensor) -> Callable[[], torch.Tensor]:
    return lambda: run(pixels)


def _channels_last(model: Any, normalise: Forward) -> Forward:
    def run(pixels: torch.Tensor) -> torch.Tensor:
        values = normalise(pixels).contiguous(memory_format=torch.channels_last)
        result: torch.Tensor = model(pixel_values=values).last_hidden_state
        return result.mean(dim=1, dtype=torch.float32)

    return run


def _launches(bench: Bench, action: Callable[[], object]) -> Iterator[Measured]:
    """Measures how long Python takes to send a forward pass to the card, which it does op by op.

    Beside decoding threads each op waits for the interpreter lock. If that takes longer than the
    card computes, the card waits.
    """
    yield tried("send a forward pass to the card", "ms", lambda: _enqueued(bench, action))
    threads = max(1, min(16, cores() - 1))
    with _decoding(bench, threads):
        yield tried(
            f"the same beside {threads} decoding threads", "ms", lambda: _enqueued(bench, action)
        )


def _enqueued(bench: Bench, action: Callable[[], object]) -> Spread:
    found = []
    for _ in range(3 + 10 * bench.sizes.rounds):
        bench.wait()
        start = time.perf_counter()
        action()
        found.append(1000 * (time.perf_counter() - start))
    return Spread.of(found[3:])


@contextmanager
def _decoding(bench: Bench, threads: int) -> Iterator[None]:
    from pipeline.images.decoding import decode
    from pipeline.images.previews import preview

    files, over = bench.photographs(), threading.Event()

    def work(first: int) -> None:
        for data in itertools.islice(itertools.cycle(files), first, None):
            if over.is_set():
                return
            preview(decode(data, 10**8), 512)  # type: ignore[arg-type]

    with ThreadPoolExecutor(threads) as pool:
        for number in range(threads):
            pool.submit(work, number)
        try:
            yield
        finally:
            over.set()


def _attentions(bench: Bench, action: Callable[[], torch.Tensor], batch: int) -> Iterator[Measured]:
    for name, backend in _BACKENDS.items():

        def measure(backend: SDPBackend = backend) -> Spread:
            with sdpa_kernel(backend):
                return bench.rate(action, batch)

        yield tried(f"candidate: attention by {name}, {batch} images", "images/s", measure)


# --- candidates that need care, each as a separate part ------------------------------------------


def graphs(bench: Bench) -> Iterator[Measured]:
    """Records the forward pass once and replays it in one call."""
    if bench.cpu:
        yield Measured("CUDA graph", None, "images/s", "not measured: there is no card")
        return
    run, _, _ = _loaded(bench)
    for batch in [n for n in bench.sizes.batches if n <= 1024]:
        pixels = bench.noise(batch, _size(bench))
        yield from _candidate(bench, "CUDA graph", run, pixels, lambda p=pixels: _recorded(run, p))


def _recorded(run: Forward, pixels: torch.Tensor) -> Callable[[], torch.Tensor]:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run(pixels)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        vectors = run(pixels)

    def replay() -> torch.Tensor:
        graph.replay()
        return vectors

    return replay


def compiled(bench: Bench) -> Iterator[Measured]:
    """Compiles the forward pass with torch.compile, in two modes."""
    if bench.cpu:
        yield Measured("torch.compile", None, "images/s", "not measured: there is no card")
        return
    run, _, _ = _loaded(bench)
    pixels = bench.noise(512, _size(bench))
    for mode in ("default", "max-autotune-no-cudagraphs"):
        made = torch.compile(run, mode=mode, dynamic=False)
        yield from _candidate(
            bench, f"torch.compile, {mode}", run, pixels, lambda m=made: _with(m, pixels)
        )


def _candidate(
    bench: Bench,
    what: str,
    run: Forward,
    pixels: torch.Tensor,
    make: Callable[[], Callable[[], torch.Tensor]],
) -> Iterator[Measured]:
    """Measures a candidate's speed and preparation time, and how near its vectors are."""
    with torch.inference_mode():
        expected = run(pixels)
        bench.wait()
        start = time.perf_counter()
        try:
            action = make()
            vectors = action().clone()
            bench.wait()
        except Exception as error:  # noqa: BLE001 - a candidate that fails is a line of the table
            yield tried(what, "images/s", lambda e=error: _again(e))
            return
        ready = time.perf_counter() - start
        cosine = float(torch.nn.functional.cosine_similarity(vectors, expected).min())
        note = f"ready in {ready:.1f} s, lowest cosine {cosine:.6f}"
        name = f"candidate: {what}, {len(pixels)} images"
        yield tried(name, "images/s", lambda: bench.rate(action, len(pixels)), note)
        sent = statistics.median([_enqueued(bench, action).median for _ in range(2)])
        yield one(f"- sent to the card, {len(pixels)} images", sent, "ms")


def _again(error: Exception) -> float:
    raise error
