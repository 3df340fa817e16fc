"""Finds where a worker's time goes while the card decodes: by stage, by thread, and by sampling.

Then it runs the same job in other ways, which the worker does not have: what each one gains says
what it would be worth.
"""

import os
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks import gpu_bulk
from benchmarks.gpu_bulk import Opened, Run
from benchmarks.gpu_setup import Bench, Measured, one, tried
from pipeline.base.blobs import Blobs
from pipeline.encoding.device import Sizing
from pipeline.images.card import batches
from pipeline.images.card import decoders as card
from pipeline.lifecycle import ingest as module
from pipeline.lifecycle.ingest import Ingest

EVERY = 0.005  # seconds between samples
AGAIN = 50  # samples between looks at the threads' processor time
SHOWN = 25
SECONDS = 5.0  # of one run, about
IDLE = ("MainThread", "decoder", "sampler")  # threads that only wait here
PROJECT = tuple(f"{os.sep}{folder}{os.sep}" for folder in ("pipeline", "benchmarks", "workers"))

Patch = tuple[Any, str, str]


# --- by stage ------------------------------------------------------------------------------------


class Stopwatch:
    """Adds up what calls take, of the clock and of the calling thread's processor time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.wall: dict[str, float] = defaultdict(float)
        self.spent: dict[str, float] = defaultdict(float)

    def timed(self, name: str, call: Any) -> Any:
        def measured(*args: Any, **named: Any) -> Any:
            wall, spent = time.perf_counter(), time.thread_time()
            try:
                return call(*args, **named)
            finally:
                wall, spent = time.perf_counter() - wall, time.thread_time() - spent
                with self._lock:
                    self.wall[name] += wall
                    self.spent[name] += spent

        return measured


def _patches(work: Ingest) -> list[Patch]:
    """What is timed, and what it is called. A dash is for what another line contains."""
    found: list[Patch] = [
        (Ingest, "_start", "lane: all before the embedding"),
        (gpu_bulk.Rows, "read", "lane: - make rows"),
        (module, "identify", "lane: - SHA-256 and ids"),
        (type(work.store), "retrieve", "lane: - look up what is indexed"),
        (type(work.deletions), "are_deleted", "lane: - look for tombstones"),
        (module, "claim", "lane: - claim ids"),
        (module, "described", "lane: - metadata"),
        (type(work.decoders), "submit", "lane: - hand to a decoder"),
        (card, "frame_of", "lane: - - look whether the card may have it"),
        (Ingest, "_commit", "lane: all from the pixels on"),
        (Future, "result", "lane: - wait for decoders and others"),
        (Ingest, "_embed", "lane: - embed"),
        (type(work.encoder), "stack", "lane: - - stack"),
        (type(work.encoder), "embed", "lane and search: forward"),
        (Ingest, "_write_previews", "lane: - previews written"),
        (Ingest, "_points", "lane: - payloads"),
        (type(work.store), "upsert", "lane: - upsert"),
        (type(work.deletions), "matches_pending_deletion", "lane: - look for deletions"),
        (Ingest, "_record", "lane: checkpoint"),
        (type(work.store), "flush", "lane: flush"),
        (Blobs, "write", "writers: write a preview"),
        (card._Queue, "take", "card: wait for a batch"),
        (card.CardDecoders, "_make", "card: all of a batch"),
        (batches.Planes, "of", "card: - planes"),
        (batches, "resized", "card: - resize"),
        (batches, "brightness", "card: - brightness"),
        (batches, "hashes_of", "card: - hash"),
        (batches.Maker, "_previews", "card: - previews"),
        (card, "_wait", "card: - wait for the card"),
        (card.CardDecoders, "_answer", "card: - answer"),
    ]
    if isinstance(work.decoders, card.CardDecoders):
        codec = type(work.decoders.codecs[0])
        found += [(codec, "decode", "card: - decode"), (codec, "encode", "card: - - encode")]
    return found


@contextmanager
def watched(work: Ingest, watch: Stopwatch) -> Iterator[None]:
    """Times the lanes of an ingest, and the threads of its card."""
    with ExitStack() as undo:
        for owner, name, what in _patches(work):
            before = owner.__dict__.get(name) or getattr(owner, name)
            undo.callback(setattr, owner, name, before)
            timed = watch.timed(what, getattr(owner, name))
            setattr(owner, name, staticmethod(timed) if name == "of" else timed)
        yield


# --- by thread -----------------------------------------------------------------------------------


def by_thread() -> dict[int, tuple[str, float]]:
    """Name and processor seconds of each thread, also of libraries' own; empty if unknown."""
    names = {each.native_id: _short(each.name) for each in threading.enumerate()}
    found = {}
    try:
        tasks = [*Path("/proc/self/task").iterdir()]
    except OSError:
        return {}
    for task in tasks:
        try:
            name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:  # it has just ended
            continue
        user, system = rest.split()[11:13]
        called = names.get(int(task.name), f"no Python: {_short(name)}")
        seconds = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        found[int(task.name)] = called, seconds
    return found


def _short(name: str) -> str:
    return name.partition(" (")[0].rstrip("0123456789").rstrip("-_")


class Sampler:
    """Looks at what each thread does, and how late it gets the interpreter's lock itself."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self.late: list[float] = []  # milliseconds
        self.samples = 0
        self.threads: dict[str, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> "Sampler":
        self._before, self._spent = by_thread(), {}
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._spent |= by_thread()
        self._over.set()
        self._thread.join()
        for number, (name, seconds) in self._spent.items():
            before = self._before.get(number, ("", 0.0))[1]
            self.threads[name] = self.threads.get(name, 0.0) + seconds - before

    def _run(self) -> None:
        while not self._over.is_set():
            start = time.perf_counter()
            time.sleep(EVERY)
            self.late.append(1000 * (time.perf_counter() - start - EVERY))
            self._look()
            if self.samples % AGAIN == 0:
                self._spent |= by_thread()  # a thread that ends is still in it

    def _look(self) -> None:
        names = {each.ident: _short(each.name) for each in threading.enumerate()}
        self.samples += 1
        for ident, frame in sys._current_frames().items():
            name, where = names.get(ident, "?"), _where(frame)
            if where and name not in IDLE and ident != self._thread.ident:
                self.seen[name, where] += 1


def _where(frame: FrameType) -> str:
    """The innermost function of the project, and what it is in; empty if there is none."""
    leaf, found = frame, frame
    while not _ours(found.f_code.co_filename):
        if found.f_back is None:
            return ""
        found = found.f_back
    file = Path(found.f_code.co_filename)
    here = f"{file.parent.name}/{file.stem}.{found.f_code.co_name}:{found.f_lineno}"
    inner = f" in {Path(leaf.f_code.co_filename).stem}.{leaf.f_code.co_name}"
    return here + (inner if leaf is not found else "")


def _ours(file: str) -> bool:
    return file != __file__ and any(part in file for part in PROJECT)


# --- the part ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """How a job runs that is not as in a worker."""

    name: str
    interval: float = 0.005  # seconds after which a thread has to give the lock, if one waits
    lanes: int = 2
    threads: int = card.THREADS
    writers: Callable[[], Executor] | None = None
    searches: bool = True


WAYS = (
    Way("as a worker does"),
    Way("previews not written", writers=lambda: _Nothing(1)),
    Way("no searches beside", searches=False),
    Way("lock given after 0.5 ms", 0.0005),
    Way("lock given after 0.1 ms", 0.0001),
    Way("previews written by 4 threads", writers=lambda: ThreadPoolExecutor(4, "preview")),
    Way("4 lanes", lanes=4),
)


class _Nothing(ThreadPoolExecutor):
    """Writes no preview: so it shows what writing them costs."""

    def submit(self, *_: Any, **__: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        done.set_result(None)
        return done


def lane(bench: Bench) -> Iterator[Measured]:
    """Runs a job where the card decodes, profiles it, then runs it in other ways."""
    lanes, batch = bench.sizes.plans[0]
    warm = bench.sizes.shard if bench.cpu else 4 * bench.sizes.shard
    plan = Sizing(batch, lanes, bench.sizes.shard)
    opened = gpu_bulk._opened(_with_rows(bench, warm), plan, decode="card")
    # The first run is for what only the first one does; its rate says how long the next would take.
    rate = gpu_bulk.ingest(opened).rate
    yield one("the first run", rate, "images/s")
    opened = replace(opened, bench=_with_rows(bench, gpu_bulk.rows_for(bench, rate, SECONDS)))
    yield from _profiled(opened)
    for way in WAYS[:2] if bench.cpu else WAYS:
        yield from _run_as(opened, way)


def _with_rows(bench: Bench, rows: int) -> Bench:
    return replace(bench, sizes=replace(bench.sizes, rows=rows))


def _profiled(opened: Opened) -> Iterator[Measured]:
    watch, sampler = Stopwatch(), Sampler()

    @contextmanager
    def around(work: Ingest) -> Iterator[None]:
        with watched(work, watch), sampler:
            yield

    run = gpu_bulk.ingest(gpu_bulk.anew(opened), around=around)
    images = run.images
    yield one("while it is timed", run.rate, "images/s", f"{images:,} images")
    yield one("the whole process", 1000 * run.spent / images, "ms of cores an image")
    for name, spent in sorted(sampler.threads.items(), key=lambda each: -each[1]):
        if spent > 0:
            yield one(f"threads: {name}", 1000 * spent / images, "ms of cores an image")
    late = sorted(sampler.late) or [0.0]
    note = f"p95 {late[len(late) * 95 // 100]:.2f}, most {late[-1]:.1f}"
    yield one("a thread waits for the lock, in the mean", sum(late) / len(late), "ms", note)
    for name in sorted(watch.wall, key=lambda each: (each.partition(":")[0], -watch.wall[each])):
        note = f"{1000 * watch.spent[name] / images:.4f} of a core"
        yield one(name, 1000 * watch.wall[name] / images, "ms an image", note)
    for (thread, where), count in sampler.seen.most_common(SHOWN):
        share = 100 * count / max(1, sampler.samples)
        yield one(f"sampled: {thread}", share, "% of one", where)


def _run_as(opened: Opened, way: Way) -> Iterator[Measured]:
    try:
        run = _in_this_way(opened, way)
    except Exception as error:  # noqa: BLE001 - a way that fails must not cost the others
        yield tried(way.name, "images/s", lambda e=error: gpu_bulk._again(e))
        return
    waits = sorted(run.waits)
    p95 = f", search p95 {waits[len(waits) * 95 // 100]:.0f} ms" if waits else ""
    busy = "" if run.busy is None else f", the card is busy {run.busy:.0f} %"
    spent = f"{1000 * run.spent / run.images:.2f} ms of cores an image"
    yield one(way.name, run.rate, "images/s", f"{spent}{p95}{busy}")


def _in_this_way(opened: Opened, way: Way) -> Run:
    before, sizing = sys.getswitchinterval(), replace(opened.plan, lanes=way.lanes)
    opened = gpu_bulk.anew(replace(opened, plan=sizing))
    with ExitStack() as undo:
        undo.callback(sys.setswitchinterval, before)
        writers = undo.enter_context(way.writers()) if way.writers else None
        sys.setswitchinterval(way.interval)
        return gpu_bulk.ingest(
            opened, writers=writers, searches=way.searches, card_threads=way.threads
        )
