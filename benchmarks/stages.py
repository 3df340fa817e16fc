"""Measures where the time of an ingested image goes: the pipeline's own steps, one at a time.

Each step is the worker's code on the worker's kind of thread, alone on the machine. Only `forward`
also runs in all lanes at once, as in a worker.
"""

import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.compute import Shape, in_lanes
from benchmarks.data import Slice
from benchmarks.machine import cores
from benchmarks.report import Spread
from cli.processes import Child, Program
from cli.redis_server import RedisServer, find_redis_server
from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.identity import point_id, sha256
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder, pool
from pipeline.encoding.preprocessing import Preprocessing
from pipeline.images.picture import Picture, decode
from pipeline.images.previews import preview
from pipeline.ledger import Ledger, Ledgers, Progress, WorkerInfo
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.base import Opening, Reader, Row
from pipeline.sources.dataset import DatasetSource
from pipeline.sources.registry import open_source
from pipeline.store import Points, open_store

REDIS_SECONDS = 20.0


@dataclass(frozen=True)
class Stage:
    """A step, in milliseconds of one core an image. `part_of` names the stage that contains it."""

    name: str
    ms: Spread
    part_of: str = ""


@dataclass(frozen=True)
class Stages:
    stages: list[Stage]
    embed_images_per_second: float  # all lanes at once

    @property
    def total_ms(self) -> float:
        return sum(stage.ms.median for stage in self.stages if not stage.part_of)


def measure(encoder: Encoder, settings: Settings, part: Slice, images: int) -> Stages:
    """Measures the first `images` rows of `part`. `settings.data` is a separate folder."""
    batch = encoder.sizing.batch_size
    blobs = Blobs(settings.blobs_of(settings.collection))
    source = DatasetSource(dataset=str(part.folder))
    reader = _reader(settings, part)
    starts = range(0, max(batch, min(images, len(reader)) // batch * batch), batch)
    ends = [min(start + batch, len(reader)) for start in starts]

    rows: list[Row] = []
    read = [
        _each(end - start, lambda a=start, b=end: rows.extend(reader.read(a, b)))
        for start, end in zip(starts, ends, strict=True)
    ]
    hashed = [_each(1, lambda r=row: sha256(r.data)) for row in rows]
    pictures: list[Picture] = []
    decoded = [_each(1, lambda r=row: pictures.append(_decoded(r, settings))) for row in rows]
    pixels: list[np.ndarray] = []
    resized = [_each(1, lambda p=p: pixels.append(encoder.preprocess(p))) for p in pictures]
    previews: list[bytes] = []
    drawn = [
        _each(1, lambda p=p: previews.append(preview(p, settings.preview_pixels))) for p in pictures
    ]
    kept = [
        _each(1, lambda r=row, d=data: blobs.write(preview_name(point_id(_image_id(r))), d))
        for row, data in zip(rows, previews, strict=True)
    ]
    stacks = _stacked(pixels, batch)
    speeds = [forward_alone(encoder, stacks) for _ in range(3)]
    together = [1000 * cores() / speed for speed in speeds]
    return Stages(
        [
            Stage("read the rows", Spread.of(read)),
            Stage("SHA-256", Spread.of(hashed)),
            Stage("look up what is indexed", Spread.of(_lookups(encoder, settings, rows, batch))),
            Stage("decode", Spread.of(decoded)),
            Stage("preprocess (resize)", Spread.of(resized)),
            Stage("draw the preview", Spread.of(drawn)),
            Stage("store the preview", Spread.of(kept)),
            Stage(FORWARD, Spread.of(together)),
            Stage("the same, one lane alone", Spread.of(_alone(encoder, stacks)), FORWARD),
            *_parts_of_embed(encoder, settings, stacks),
            *_written(encoder, settings, rows, batch),
            Stage("checkpoint", Spread.of(_checkpoints(encoder, settings, source, part, batch))),
        ],
        Spread.of(speeds).median,
    )


def pixels_of(encoder: Encoder, settings: Settings, part: Slice, images: int) -> list[np.ndarray]:
    """The model's input for the first `images` of a slice, in batches uint8 (batch, 3, H, W)."""
    rows = _reader(settings, part).read(0, images)
    pixels = [encoder.preprocess(_decoded(row, settings)) for row in rows]
    return _stacked(pixels, encoder.sizing.batch_size)


def forward_alone(encoder: Encoder, stacks: Sequence[np.ndarray]) -> float:
    """The images a second of bulk embedding, in all lanes at once, with nothing beside it."""
    lanes, threads = encoder.sizing.lanes, max(1, cores() // encoder.sizing.lanes)
    work = [lambda: [encoder.embed(s, bulk=True) for s in stacks]] * lanes
    return lanes * sum(map(len, stacks)) / in_lanes(work, threads)


def _reader(settings: Settings, part: Slice) -> Reader:
    anywhere = AllowedSources.of(("/",))
    source = DatasetSource(dataset=str(part.folder))
    blobs = Blobs(settings.blobs_of(settings.collection))
    return open_source(source, Opening(blobs, anywhere))


def _stacked(pixels: Sequence[np.ndarray], batch: int) -> list[np.ndarray]:
    return [np.stack(pixels[i : i + batch]) for i in range(0, len(pixels), batch)]


FORWARD = "forward, all lanes at once"


def _each(images: int, action: Callable[[], object]) -> float:
    """The milliseconds an image."""
    start = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - start) / images


def _decoded(row: Row, settings: Settings) -> Picture:
    picture = decode(row.data, settings.max_pixels)
    assert isinstance(picture, Picture)
    return picture


def _image_id(row: Row) -> str:
    return row.image_id or sha256(row.data)


# --- the model -----------------------------------------------------------------------------------


def _alone(encoder: Encoder, stacks: Sequence[np.ndarray]) -> list[float]:
    encoder.embed(stacks[0], bulk=True)
    return [_each(len(s), lambda s=s: encoder.embed(s, bulk=True)) for s in stacks]


def _parts_of_embed(
    encoder: Encoder, settings: Settings, stacks: Sequence[np.ndarray]
) -> list[Stage]:
    """Measures the steps before and after the transformer, on one thread."""
    preprocessing, shape = Preprocessing.load(settings.model), Shape.read(Path(settings.model))
    batches = [torch.from_numpy(s).to(encoder.device) for s in stacks]
    tokens = torch.randn(len(stacks[0]), shape.tokens, shape.hidden).to(
        encoder.device, encoder.dtype
    )
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, cores() // encoder.sizing.lanes))
    try:
        with torch.inference_mode():
            normalised = [
                _each(len(b), lambda b=b: preprocessing.normalize(b).to(encoder.dtype))
                for b in batches
            ]
            pooled = [
                _each(len(tokens), lambda: pool(tokens, encoder.info.pooling).cpu().numpy())
                for _ in batches
            ]
    finally:
        torch.set_num_threads(before)
    return [
        Stage("normalise", Spread.of(normalised), FORWARD),
        Stage("pool and copy", Spread.of(pooled), FORWARD),
    ]


# --- store and ledger ----------------------------------------------------------------------------


def _lookups(encoder: Encoder, settings: Settings, rows: Sequence[Row], batch: int) -> list[float]:
    """Measures lookups of images that are not stored yet, as in an ingest."""
    store = open_store(settings.store, encoder.info)
    try:
        groups = _groups([point_id(_image_id(row)) for row in rows], batch)
        return [_each(len(g), lambda g=g: store.retrieve(g)) for g in groups]
    finally:
        store.close()


def _written(encoder: Encoder, settings: Settings, rows: Sequence[Row], batch: int) -> list[Stage]:
    noise = np.random.default_rng(0)
    store = open_store(settings.store, encoder.info)
    times, flushed = [], []
    try:
        for _ in range(3):
            for group in _groups(list(rows), batch):
                vectors = noise.normal(size=(len(group), encoder.info.dimensions))
                payloads = [{**r.metadata, "source": {"sha256": sha256(r.data)}} for r in group]
                ids = [point_id(_image_id(r)) for r in group]
                points = Points(ids, vectors.astype(np.float32), payloads)
                times.append(_each(len(group), lambda p=points: store.upsert(p)))
            flushed.append(_each(encoder.sizing.shard_size, store.flush))
    finally:
        store.close()
    return [Stage("upsert", Spread.of(times)), Stage("flush, a shard", Spread.of(flushed))]


def _groups(items: list[Any], size: int) -> list[list[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _checkpoints(
    encoder: Encoder, settings: Settings, source: DatasetSource, part: Slice, batch: int
) -> list[float]:
    """Measures a checkpoint for each batch, as a worker with the lease of a shard writes it."""
    with redis_ledger(settings) as ledger:
        ledger.workers.beat(
            WorkerInfo(
                name="bench",
                ready=True,
                lanes={"ingest": 1},
                device=str(encoder.device),
                dtype=str(encoder.dtype),
                encoder=encoder.info,
            )
        )
        jobs = ledger.jobs
        jobs.create("bench", "ingest", "ingest", source.model_dump_json())
        (plan,) = jobs.dispatch()
        jobs.begin(plan, "bench")
        jobs.planned(plan, part.rows, encoder.sizing.shard_size)
        (lease,) = jobs.dispatch()
        item = jobs.begin(lease, "bench")
        assert item is not None
        progress = Progress(cursor=item.start, in_flight=item.stop)
        times = []
        for cursor in range(item.start, item.stop, batch):
            now = replace(progress, cursor=cursor, counts={"embedded": cursor})
            times.append(_each(batch, lambda p=now: jobs.checkpoint(lease, p)))
        return times


@contextmanager
def redis_ledger(settings: Settings) -> Iterator[Ledger]:
    """Runs a Redis like that of `kindred up`, with the ledger on it."""
    with tempfile.TemporaryDirectory(prefix="kindred-") as folder:  # a socket's path must be short
        server = RedisServer(find_redis_server(), Path(folder), Path(folder) / "redis.sock")
        child = Child(Program("redis", server.command, {}, Path(folder) / "redis.log"))
        child.start()
        try:
            end = time.monotonic() + REDIS_SECONDS
            while not server.answers():
                if time.monotonic() > end:
                    raise RuntimeError(f"Redis does not answer: {child.last_words(5)}")
                time.sleep(0.05)
            ledgers = Ledgers(server.url, settings.timing)
            try:
                yield ledgers.of(settings.collection)
            finally:
                ledgers.close()
        finally:
            child.send(signal.SIGTERM)
            end = time.monotonic() + REDIS_SECONDS
            while child.running and time.monotonic() < end:
                time.sleep(0.05)
            child.send(signal.SIGKILL)
