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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, closing, nullcontext
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
from pipeline.images.card.decoders import THREADS, CardDecoders
from pipeline.images.decoders import Decoders, ImageDecoders
from pipeline.images.decoding import Unusable
from pipeline.images.preparing import Order, Prepared
from pipeline.images.text_detector import NoDetector
from pipeline.ledger import Lease, Ledger, WorkerInfo
from pipeline.lifecycle.deletion import Deletions
from pipeline.lifecycle.ingest import Ingest, Limits
from pipeline.lifecycle.quarantine import Quarantine
from pipeline.lifecycle.withholding import Withholding
from pipeline.retrieval.fields import Fields
from pipeline.sources.base import Row
from pipeline.sources.dataset import DatasetSource
from pipeline.store import Query, Store, open_store

SEARCH_EVERY = 0.05  # seconds
WORKER_SECONDS = 8.0  # of the run of one of several workers, about
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
    spent: float = 0.0  # processor seconds of the worker's own process

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
    workers: int = 1  # beside each other, with as many decoders together as one has alone


_numbers = itertools.count()


def _opened(bench: Bench, plan: Sizing, *, workers: int = 1, **settings: Any) -> Opened:
    """Opens a new folder each time, so that nothing is stored yet."""
    data = bench.folder / f"data-{os.getpid()}-{next(_numbers)}"
    device = "cpu" if bench.cpu else "cuda"
    own = Settings(
        model=str(bench.model), data=data, device=device, batch_size=plan.batch_size,
        lanes=plan.lanes, shard_size=plan.shard_size, **settings,
    )  # fmt: skip
    encoder = Encoder.load(own.encoder)
    encoder.warm_up()
    return Opened(bench, own, encoder, plan, bench.photographs(), workers)


def _vectors(opened: Opened) -> float:
    """The images a second of only decoders and lanes, without store, ledger or previews."""
    size, encoder = opened.plan.batch_size, opened.encoder
    counts = [opened.bench.sizes.rows // size // opened.plan.lanes] * opened.plan.lanes

    def pixels(future: Future[Prepared | Unusable]) -> Any:
        made = future.result()
        assert isinstance(made, Prepared)
        return made.pixels

    with closing(_decoders(opened)) as pool:
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


def anew(opened: Opened) -> Opened:
    """The same in another folder, so that nothing is stored yet."""
    data = opened.bench.folder / f"data-{os.getpid()}-{next(_numbers)}"
    return replace(opened, settings=opened.settings.model_copy(update={"data": data}))


def _decoders(opened: Opened, card_threads: int = THREADS) -> ImageDecoders:
    """As many as a worker has. Those beside a card only have searches here."""
    settings, card = opened.settings, opened.settings.decode == "card"
    count = 1 if card else max(1, cores() // opened.workers - 1)
    cpu = Decoders(count, settings.max_pixels, settings.decode_seconds)
    if not card:
        return cpu
    from benchmarks.gpu_card import chosen

    return CardDecoders(cpu, chosen(opened.bench), settings.max_pixels, threads=card_threads)


def ingest(
    opened: Opened,
    *,
    around: Callable[[Ingest], AbstractContextManager[None]] = lambda _: nullcontext(),
    writers: Executor | None = None,
    searches: bool = True,
    card_threads: int = THREADS,
) -> Run:
    """Runs a whole job, with `searches` beside it. `writers` write previews, not a worker's own.

    Raises RuntimeError unless every row is embedded.
    """
    settings, encoder = opened.settings, opened.encoder
    store = open_store(settings.store, encoder.info)
    try:
        with (
            stages.redis_ledger(settings) as ledger,
            closing(_decoders(opened, card_threads)) as decoders,
        ):
            blobs = Blobs(settings.blobs_of(settings.collection))
            quarantine = Quarantine(blobs, ledger.withheld)
            fields = Fields(store, settings.indexed_fields)
            deletions = Deletions(store, blobs, ledger.tombstones, fields, quarantine)
            work = Ingest(
                encoder=encoder, store=store, blobs=blobs, jobs=ledger.jobs, deletions=deletions,
                decoders=decoders, withholding=Withholding(quarantine, NoDetector()),
                limits=Limits(settings.preview_pixels),
                stopping=lambda: False, **({"writers": writers} if writers else {}),
            )  # fmt: skip
            with (
                Searches(opened, store, decoders, searches) as beside,
                Busy() as busy,
                around(work),
            ):
                start, spent = time.perf_counter(), time.process_time()
                _job(opened, ledger, work)
                seconds = time.perf_counter() - start
                spent = time.process_time() - spent
        images = store.count()
    finally:
        store.close()
    if images != opened.bench.sizes.rows:
        raise RuntimeError(f"only {images} of {opened.bench.sizes.rows} images are stored")
    return Run(images, seconds, busy.percent, busy.how, beside.waits, spent)


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
    with ThreadPoolExecutor(opened.plan.lanes, "lane") as lanes:
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

    def __init__(self, opened: Opened, store: Store, decoders: ImageDecoders, on: bool) -> None:
        self._opened, self._store, self._decoders = opened, store, decoders
        self._order = Order(opened.encoder.steps)
        self._over = threading.Event()
        self._on = on
        self._pool = ThreadPoolExecutor(1, "search")
        self.waits: list[float] = []

    def __enter__(self) -> "Searches":
        self._search(0)  # the first search opens what later ones reuse
        self._running = self._pool.submit(self._run) if self._on else None
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        if self._running is not None:
            self._running.result()

    def _run(self) -> None:
        for number in itertools.count():
            start = time.perf_counter()
            self._search(number)
            self.waits.append(1000 * (time.perf_counter() - start))
            if self._over.wait(SEARCH_EVERY):
                return

    def _search(self, number: int) -> None:
        data = self._opened.files[number % len(self._opened.files)]
        made = self._decoders.submit(data, self._order, urgent=True).result()
        assert isinstance(made, Prepared)
        [vector] = self._opened.encoder.embed(np.asarray(made.pixels)[None], bulk=False)
        self._store.query([Query(target=vector, limit=10)])


# --- several workers -----------------------------------------------------------------------------


def workers(bench: Bench) -> Iterator[Measured]:
    """Runs several workers on one card, which decode on the CPU. Each has its own store."""
    yield from _beside_each_other(bench, "cpu", [(n, bench.sizes.plans[0][0]) for n in (1, 2)])


def on_card(bench: Bench) -> Iterator[Measured]:
    """The same where the card decodes: bytes to searchable, by one to six workers."""
    yield from _beside_each_other(bench, "card", [(1, 2), (2, 2), (4, 2), (6, 2)])


def _beside_each_other(
    bench: Bench, where: str, plans: Sequence[tuple[int, int]]
) -> Iterator[Measured]:
    alone: float | None = None
    for count, lanes in plans if bench.sizes.workers else ():
        what = f"decoded by the {where}, {count} workers of {lanes} lanes"
        try:
            found = _together(bench, count, lanes, where)
        except Exception as error:  # noqa: BLE001 - what fails is a line of the table
            yield tried(what, "images/s", lambda e=error: _again(e))
            continue
        alone = found.rate if alone is None else alone
        note = f"{found.rate / alone:.2f} times the first, {found.images:,} images"
        yield one(what, found.rate, "images/s", note)
        yield _busy(found)
        if found.waits:
            note = f"p50 {np.percentile(found.waits, 50):.1f}, {len(found.waits)} searches"
            yield one("- search beside it, p95", float(np.percentile(found.waits, 95)), "ms", note)
        share = 1000 * found.spent / found.images
        yield one("- the workers' own processor time", share, "ms an image")


def _together(bench: Bench, count: int, lanes: int, where: str) -> Run:
    """All workers' images, from the common start until the last one ends."""
    children = [_child(bench, count, lanes, where) for _ in range(count)]
    try:
        rates = [float(_line(child)) for child in children]  # they are ready
        rows = rows_for(bench, min(rates), WORKER_SECONDS)
        with Busy() as busy:
            for child in children:
                assert child.stdin is not None
                child.stdin.write(f"{rows}\n")
                child.stdin.flush()
            runs = [json.loads(_line(child)) for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    return Run(
        sum(run["images"] for run in runs), max(run["seconds"] for run in runs), busy.percent,
        busy.how, [wait for run in runs for wait in run["waits"]], sum(r["spent"] for r in runs),
    )  # fmt: skip


def _child(bench: Bench, count: int, lanes: int, where: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks.gpu", "--worker", str(bench.folder)]
    command += ["--plan", f"{count},{lanes},{where}"]
    return subprocess.Popen(
        [*command, "--cpu"] if bench.cpu else command,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def _line(child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError("a worker ended early")
    return line


def worker(folder: Path, plan: str, *, cpu: bool, sizes: Any) -> None:
    """Runs in such a process: says a first run's rate, reads how many rows, reports their run."""
    count, lanes, where = plan.split(",")
    warm = sizes.shard if cpu else int(lanes) * 2 * sizes.plans[0][1]
    bench = Bench(folder, cpu, replace(sizes, rows=warm))
    chosen = Sizing(sizes.plans[0][1], int(lanes), sizes.shard)
    opened = _opened(bench, chosen, workers=int(count), decode=where)
    # The first run is for what only the first one does; its rate says how long the next would take.
    rate = ingest(opened).rate
    print(rate, flush=True)
    line = sys.stdin.readline()
    if not line:
        return  # the benchmark has ended, or was ended
    longer = replace(bench, sizes=replace(sizes, rows=int(line)))
    run = ingest(anew(replace(opened, bench=longer)))
    print(
        json.dumps(
            {"images": run.images, "seconds": run.seconds, "waits": run.waits, "spent": run.spent}
        ),
        flush=True,
    )


def rows_for(bench: Bench, rate: float, seconds: float) -> int:
    """Whole shards, for a run of so many seconds."""
    shard = bench.sizes.shard
    if bench.cpu:
        return 2 * shard
    return shard * max(2, min(64, round(rate * seconds / shard)))
