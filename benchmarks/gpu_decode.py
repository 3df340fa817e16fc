"""Measures decoding of JPEG bytes on the CPU: in threads, and with other installed decoders."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import numpy as np

from benchmarks.gpu_setup import Bench, Measured, one, tried
from benchmarks.report import Spread


def decoding(bench: Bench) -> Iterator[Measured]:
    """Measures stages missing from the other table, then the pool's work in 1 to 16 threads."""
    from pipeline.base.blobs import Blobs, preview_name
    from pipeline.encoding.preprocessing import Preprocessing
    from pipeline.images.hashes import perceptual_hash
    from pipeline.images.picture import Picture, decode
    from pipeline.images.previews import preview

    files, blobs = bench.photographs(), Blobs(str(bench.folder / "stages"))
    preprocessing = Preprocessing.load(bench.model)
    pictures = [p for p in (decode(data, 10**8) for data in files) if isinstance(p, Picture)]
    stages: list[tuple[str, Callable[[Any], object]]] = [
        ("perceptual hash", perceptual_hash),
        ("draw the preview of 512 pixels", lambda picture: preview(picture, 512)),
        ("the same of 640, without resizing", lambda picture: preview(picture, 640)),
    ]
    for what, work in stages:
        yield Measured(f"{what}, one thread", _each(bench, work, pictures), "ms of a core")

    def to_pixels(data: bytes) -> None:
        preprocessing.pixels_of(decode(data, 10**8))  # type: ignore[union-attr]

    def all_of_it(data: bytes) -> None:
        picture = decode(data, 10**8)
        assert isinstance(picture, Picture)
        small = preview(picture, 512)
        preprocessing.pixels_of(picture)
        blobs.write(preview_name(uuid4()), small)
        perceptual_hash(picture)

    for threads in bench.sizes.threads:
        rate = _in_threads(bench, threads, to_pixels, files)
        yield one(f"decode and resize, {threads} threads", rate, "images/s")
    for threads in bench.sizes.threads:
        rate = _in_threads(bench, threads, all_of_it, files)
        yield one(f"with preview and hash, {threads} threads", rate, "images/s")
    yield from _others(bench, files)


def _each(bench: Bench, work: Callable[[Any], object], items: Sequence[Any]) -> Spread:
    """Milliseconds of the thread's processor time an item, in groups of items."""
    found, end = [], time.perf_counter() + 2 * bench.sizes.seconds
    for part in _groups(items, 16):
        start = time.thread_time()
        for item in part:
            work(item)
        found.append(1000 * (time.thread_time() - start) / len(part))
        if time.perf_counter() > end:
            break
    return Spread.of(found)


def _groups(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _in_threads(
    bench: Bench, threads: int, work: Callable[[bytes], object], files: Sequence[bytes]
) -> float:
    """The images a second of `threads` that do nothing else."""
    over = threading.Event()

    def run(first: int) -> int:
        done = 0
        for data in itertools.islice(itertools.cycle(files), first, None):
            work(data)
            done += 1
            if over.is_set():
                return done
        return done

    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        running = [pool.submit(run, number) for number in range(threads)]
        over.wait(4 * bench.sizes.seconds)
        over.set()
        done = sum(one.result() for one in running)
        return done / (time.perf_counter() - start)


def _others(bench: Bench, files: Sequence[bytes]) -> Iterator[Measured]:
    """Measures decoders that Kindred does not use, in one thread, against Pillow's pixels."""
    for what, find in (
        ("Pillow, scaled by draft", _draft),
        ("simplejpeg", _simplejpeg),
        ("torchvision", _torchvision),
    ):
        try:
            work = find()
        except Exception as error:  # noqa: BLE001 - not installed, or its library is missing
            yield Measured(f"candidate: {what}", None, "ms of a core", f"not installed: {error}")
            continue
        theirs = work(files[0])
        same = np.array_equal(theirs, _pillow(files[0]))
        note = "the same pixels" if same else f"other pixels, {theirs.shape[1]}x{theirs.shape[0]}"
        yield tried(
            f"candidate: decode by {what}", "ms of a core",
            lambda w=work: _each(bench, w, files), note,
        )  # fmt: skip


def _pillow(data: bytes) -> np.ndarray:
    from pipeline.images.picture import Picture, decode

    picture = decode(data, 10**8)
    assert isinstance(picture, Picture)
    return np.asarray(picture.image)


def _draft() -> Callable[[bytes], np.ndarray]:
    import io

    from PIL import Image

    def work(data: bytes) -> np.ndarray:
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", (224, 224))
        return np.asarray(image)

    return work


def _simplejpeg() -> Callable[[bytes], np.ndarray]:
    import simplejpeg

    return lambda data: simplejpeg.decode_jpeg(data, "RGB")


def _torchvision() -> Callable[[bytes], np.ndarray]:
    import torch
    from torchvision.io import decode_jpeg

    def work(data: bytes) -> np.ndarray:
        tensor = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        return np.asarray(tensor.permute(1, 2, 0))

    return work
