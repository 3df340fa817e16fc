"""Measures a worker's bulk ingest, from JPEG bytes in memory to the store, beside searches.

It uses a worker's pool, lanes, store, previews and ledger, but neither Celery nor the api. It also
reads no data set: the rows come from memory.
"""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import stages
from benchmarks.data import Slice
from benchmarks.gpu_busy import Busy
from benchmarks.gpu_setup import Bench, Measured, one, tried
from benchmarks.machine import cores
from benchmarks.report import Spread
from pipeline.base.blobs import Blobs
from pipeline.base.settings import Settings
from pipeline.encoding.device import Sizing
from pipeline.encoding.encoder import Encoder
from pipeline.images.decoders import Decoders
from pipeline.images.decoding import Picture, Unusable, decode
from pipeline.images.preparing import Order, Prepared
from pipeline.ledger import Lease, Ledger, WorkerInfo
from pipeline.lifecycle.deletion import Deletions
from pipeline.lifecycle.ingest import Ingest, Limits
from pipeline.retrieval.fields import Fields
from pipeline.sources.base import Row
from pipeline.sources.dataset import DatasetSource
from pipeline.store import Query, Store, open_store

SEARCH_EVERY = 0.05  # seconds
SOURCE = DatasetSource(dataset="memory")
METADATA = {
    "dx": "melanocytic_Nevi", "dx_type": "histo", "age": 45.0, "sex": "female",
    "localization": "back", "lesion_id": "DRAWN_L000001",
}  # fmt: skip


class Rows:
    """Any number of rows, made from a few photographs in turn."""

    def __init__(self, files: Sequence[bytes], count: int) -> None:
        self._files, self._count = files, count

    def __len__(self) -> int:
        return self._count

    def read(self, start: int, stop: int) -> Iterator[Row]:
        for number in range(start, stop):
            data = self._files[number % len(self._files)]
            yield Row(number, f"row-{number}", data, dict(METADATA))


@dataclass(frozen=True)
class Run:
    images: int
    seconds: float
    busy: float | None  # percent
    counted_by: str
    waits: list[float]  # milliseconds of each search meanwhile

    @property
    def rate(self) -> float:
        return self.images / self.seconds


def stage_by_stage(bench: Bench) -> Iterator[Measured]:
    """Measures each step alone, as `python -m benchmarks` does: from reading to the ledger."""
    plan = Sizing(bench.sizes.plans[0][1], bench.sizes.plans[0][0], bench.sizes.shard)
    opened, part = _opened(bench, plan), _parquet(bench)
    found = stages.measure(opened.encoder, opened.settings, part, part.rows)
    for stage in found.stages:
        if stage.name == stages.FORWARD:  # milliseconds of a core mean nothing on a card
            yield one(stage.name, found.embed_images_per_second, "images/s")
            continue
        mark = "- " if stage.part_of else ""
        yield Measured(f"{mark}{stage.name}", stage.ms, "ms an image")


def _parquet(bench: Bench) -> Slice:
    """The photographs as a data set, each twice."""
    from datasets import Features, Image, Value

    names = {name: Value("float64" if name == "age" else "string") for name in METADATA}
    features = Features({"image": Image(), "image_id": Value("string"), **names})
    files = bench.photographs()
    rows = [*Rows(files, 2 * len(files)).read(0, 2 * len(files))]
    ids = tuple(str(row.image_id) for row in rows)
    cells = [
        {"image": {"bytes": row.data, "path": None}, "image_id": row.image_id, **row.metadata}
        for row in rows
    ]
    folder = bench.folder / "parquet"
    folder.mkdir()
    table = pa.Table.from_pylist(cells, features.arrow_schema)
    pq.write_table(table, folder / "train-00000-of-00001.parquet")
    return Slice(folder, len(rows), ids)


def bulk(bench: Bench) -> Iterator[Measured]:
    """Measures for each plan: bytes to vectors, whole ingest, ingest with cheaper previews."""
    for lanes, batch in bench.sizes.plans:
        plan = Sizing(batch, lanes, bench.sizes.shard)
        what = f"{lanes} lanes, batches of {batch}"
        yield tried(
            f"bytes to vectors, {what}", "images/s", lambda p=plan: _vectors(_opened(bench, p))
        )
        yield from _reported(bench, f"ingest, {what}", plan)
    first = Sizing(bench.sizes.plans[0][1], bench.sizes.plans[0][0], bench.sizes.shard)
    yield from _reported(bench, "ingest, previews of 640 pixels", first, preview_pixels=640)


def _reported(bench: Bench, what: str, plan: Sizing, **settings: Any) -> Iterator[Measured]:
    try:
        run = ingest(_opened(bench, plan, **settings))
    except Exception as error:  # noqa: BLE001 - a plan that fails must not cost the others
        yield tried(what, "images/s", lambda e=error: _again(e))
        return
    yield one(what, run.rate, "images/s", f"{run.images:,} images in {run.seconds:.1f} s")
    yield _busy(run)
    if run.waits:
        note = f"p50 {np.percentile(run.waits, 50):.1f}, {len(run.waits)} searches"
        yield one("- search beside it, p95", float(np.percentile(run.waits, 95)), "ms", note)


def _busy(run: Run) -> Measured:
    value = None if run.busy is None else Spread.of([run.busy])
    return Measured("- the card is busy", value, "%", f"by {run.counted_by}")


def _again(error: Exception) -> float:
    raise error


# --- one worker's parts --------------------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    bench: Bench
    settings: Settings
    encoder: Encoder
    plan: Sizing
    files: list[bytes]


_numbers = itertools.count()


def _opened(bench: Bench, plan: Sizing, **settings: Any) -> Opened:
    """Opens a new folder each time, so that nothing is stored yet."""
    data = bench.folder / f"data-{os.getpid()}-{next(_numbers)}"
    device = "cpu" if bench.cpu else "cuda"
    own = Settings(
        model=str(bench.model), data=data, device=device, batch_size=plan.batch_size,
        lanes=plan.lanes, shard_size=plan.shard_size, **settings,
    )  # fmt: skip
    encoder = Encoder.load(own.encoder)
    encoder.warm_up()
    return Opened(bench, own, encoder, plan, bench.photographs())


def _vectors(opened: Opened) -> float:
    """The images a second of only decoders and lanes, without store, ledger or previews."""
    size, encoder = opened.plan.batch_size, opened.encoder
    counts = [opened.bench.sizes.rows // size // opened.plan.lanes] * opened.plan.lanes

    def pixels(future: Future[Prepared | Unusable]) -> np.ndarray:
        made = future.result()
        assert isinstance(made, Prepared)
        return made.pixels

    with closing(_decoders(opened.settings)) as pool:
        order = Order(encoder.steps)
        files = list(itertools.islice(itertools.cycle(opened.files), size))

        def lane(batches: int) -> None:
            following = [pool.submit(data, order) for data in files]
            for _ in range(batches):
                current = following
                following = [pool.submit(data, order) for data in files]
                encoder.embed(encoder.stack([*map(pixels, current)]), bulk=True)

        with ThreadPoolExecutor(opened.plan.lanes) as lanes:
            start = time.perf_counter()
            list(lanes.map(lane, counts))
            return sum(counts) * size / (time.perf_counter() - start)


def _decoders(settings: Settings) -> Decoders:
    """As many as a worker has."""
    return Decoders(max(1, cores() - 1), settings.max_pixels, settings.decode_seconds)


def ingest(opened: Opened) -> Run:
    """Runs a whole job. Raises RuntimeError unless every row is embedded."""
    settings, encoder = opened.settings, opened.encoder
    store = open_store(settings.store, encoder.info)
    try:
        with stages.redis_ledger(settings) as ledger, closing(_decoders(settings)) as decoders:
            blobs = Blobs(settings.blobs_of(settings.collection))
            deletions = Deletions(
                store, blobs, ledger.tombstones, Fields(store, settings.indexed_fields)
            )
            work = Ingest(
                encoder=encoder, store=store, blobs=blobs, jobs=ledger.jobs, deletions=deletions,
                decoders=decoders, limits=Limits(settings.preview_pixels),
                stopping=lambda: False,
            )  # fmt: skip
            with Searches(opened, store) as searches, Busy() as busy:
                start = time.perf_counter()
                _job(opened, ledger, work)
                seconds = time.perf_counter() - start
        images = store.count()
    finally:
        store.close()
    if images != opened.bench.sizes.rows:
        raise RuntimeError(f"only {images} of {opened.bench.sizes.rows} images are stored")
    return Run(images, seconds, busy.percent, busy.how, searches.waits)


def _job(opened: Opened, ledger: Ledger, work: Ingest) -> None:
    """Runs the job's shards in lanes, as a worker does."""
    rows = Rows(opened.files, opened.bench.sizes.rows)
    info = WorkerInfo(
        name="bench", ready=True, lanes={"ingest": opened.plan.lanes},
        device=str(opened.encoder.device),
        dtype=str(opened.encoder.dtype), encoder=opened.encoder.info,
    )  # fmt: skip

    def shard(lease: Lease) -> None:
        item = ledger.jobs.begin(lease, "bench")
        assert item is not None
        if not work.run(item, SOURCE, rows):
            raise RuntimeError("a shard was stopped")

    ledger.workers.beat(info)
    ledger.jobs.create("bench", "ingest", "ingest", SOURCE.model_dump_json())
    (plan,) = ledger.jobs.dispatch()
    ledger.jobs.begin(plan, "bench")
    ledger.jobs.planned(plan, len(rows), opened.plan.shard_size_for(len(rows)))
    with ThreadPoolExecutor(opened.plan.lanes) as lanes:
        running: set[Future[None]] = set()
        while True:
            ledger.workers.beat(info)  # nothing is dispatched to a worker that may be dead
            running |= {lanes.submit(shard, lease) for lease in ledger.jobs.dispatch()}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()


class Searches:
    """Searches by image in a thread, one search at a time, during its `with` block."""

    def __init__(self, opened: Opened, store: Store) -> None:
        self._opened, self._store = opened, store
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self.waits: list[float] = []

    def __enter__(self) -> "Searches":
        self._search(0)  # the first search opens what later ones reuse
        self._running = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        self._running.result()

    def _run(self) -> None:
        for number in itertools.count():
            start = time.perf_counter()
            self._search(number)
            self.waits.append(1000 * (time.perf_counter() - start))
            if self._over.wait(SEARCH_EVERY):
                return

    def _search(self, number: int) -> None:
        picture = decode(self._opened.files[number % len(self._opened.files)], 10**8)
        assert isinstance(picture, Picture)
        pixels = self._opened.encoder.preprocess(picture)[None]
        [vector] = self._opened.encoder.embed(pixels, bulk=False)
        self._store.query([Query(target=vector, limit=10)])


# --- several workers -----------------------------------------------------------------------------


def workers(bench: Bench) -> Iterator[Measured]:
    """Runs several workers on one card, or on two if there are two. Each has its own store."""
    import torch

    alone: float | None = None
    for cards in range(1, 1 + min(2, max(1, torch.cuda.device_count()))):
        for count in (1, *bench.sizes.workers) if cards == 1 else (2,):
            what = f"workers: {count} on {cards} of the cards"
            try:
                rate, note = _together(bench, count, cards)
            except Exception as error:  # noqa: BLE001 - what fails is a line of the table
                yield tried(what, "images/s", lambda e=error: _again(e))
                continue
            alone = rate if alone is None else alone
            yield one(what, rate, "images/s", f"{rate / alone:.2f} times one worker; {note}")


def _together(bench: Bench, count: int, cards: int) -> tuple[float, str]:
    """The images a second of all workers, from the common start until the last one ends."""
    children = [_child(bench, number % cards) for number in range(count)]
    try:
        for child in children:
            _line(child)  # the child is ready
        with Busy() as busy:
            for child in children:
                assert child.stdin is not None
                child.stdin.write("go\n")
                child.stdin.flush()
            runs = [json.loads(_line(child)) for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    images, seconds = sum(run["images"] for run in runs), max(run["seconds"] for run in runs)
    note = "" if busy.percent is None else f"the card is busy {busy.percent:.0f} %"
    return images / seconds, note


def _child(bench: Bench, card: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks.gpu", "--worker", str(bench.folder)]
    visible = {} if bench.cpu else {"CUDA_VISIBLE_DEVICES": str(card)}
    return subprocess.Popen(
        [*command, "--cpu"] if bench.cpu else command,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **visible},
    )  # fmt: skip


def _line(child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError("a worker ended early")
    return line


def worker(folder: Path, *, cpu: bool, sizes: Any) -> None:
    """Runs in such a process: reports that it is ready, waits for a line, and reports its run."""
    lanes, batch = sizes.plans[0]
    bench = Bench(folder, cpu, replace(sizes, rows=sizes.rows // 2))
    opened = _opened(bench, Sizing(batch, lanes, sizes.shard))
    print("ready", flush=True)
    if not sys.stdin.readline():
        return  # the benchmark has ended, or was ended
    run = ingest(opened)
    print(json.dumps({"images": run.images, "seconds": run.seconds}), flush=True)
