"""Measures what an image costs a worker's own process, and how long it holds the interpreter lock.

`python -m benchmarks.lane_lock [--size 224x224] [--images 6144] [--url http://HOST:6333]`: a job
of Parquet goes through one lane as on a card, in batches of 256, with decoders in processes and an
encoder that costs nothing. Each thread has a clock of its own processor time, which signals once a
millisecond; the handler, in C, notes the lane's step and whether the thread has the lock then.
A `PYTHONPATH` of another commit measures that one. It needs Linux and a C compiler.
"""

import argparse
import ctypes
import gc
import io
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from PIL.Image import Resampling

from benchmarks.machine import cores, describe
from benchmarks.report import table
from benchmarks.stages import redis_ledger
from pipeline.base.blobs import Blobs
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from pipeline.images.decoders import Decoders
from pipeline.images.pixels import PixelSteps
from pipeline.images.text_detector import NoDetector
from pipeline.ledger import JobLedger, Ledger, WorkerInfo
from pipeline.lifecycle import ingest as module
from pipeline.lifecycle.deletion import Deletions
from pipeline.lifecycle.ingest import Ingest, Limits
from pipeline.lifecycle.quarantine import Quarantine
from pipeline.lifecycle.withholding import Withholding
from pipeline.messages import EncoderInfo
from pipeline.retrieval.fields import Fields
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.base import Opening, Reader
from pipeline.sources.dataset import DatasetSource
from pipeline.sources.registry import open_source
from pipeline.store import open_store
from workers.memory import keep_freed_memory

BATCH, SHARD, WARM = 256, 1024, 1  # WARM: shards before the measurement
FILES = 64  # different photographs
DIMENSIONS = 384
EVERY = 1_000_000  # nanoseconds of a thread's processor time between two samples
SLOTS = 64

_CLOCK = r"""
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <time.h>
extern int PyGILState_Check(void);
volatile long lane_held[64], lane_seen[64];
volatile int lane_step;
static void sample(int signal, siginfo_t *info, void *context) {
    int slot = info->si_value.sival_int ? info->si_value.sival_int : lane_step;
    lane_seen[slot] += 1 + info->si_overrun;
    if (PyGILState_Check()) lane_held[slot] += 1 + info->si_overrun;
}
int lane_watch(int thread, int slot, long every) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = sample;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(SIGRTMIN + 5, &action, 0);
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGRTMIN + 5;
    event.sigev_value.sival_int = slot;
    event._sigev_un._tid = thread;
    timer_t timer;
    if (timer_create(((~(clockid_t)thread) << 3) | 6, &event, &timer)) return -1;
    struct itimerspec times = {{0, every}, {0, every}};
    return timer_settime(timer, 0, &times, 0);
}
"""

OTHER = "the lane: all else"


class Clock:
    """Counts samples by step. What a thread other than the lane does is a step of its own."""

    def __init__(self, folder: Path) -> None:
        (folder / "clock.c").write_text(_CLOCK)
        include = sysconfig.get_paths()["include"]
        command = ["cc", "-O2", "-shared", "-fPIC", f"-I{include}", "-o", "clock.so", "clock.c"]
        subprocess.run(command, cwd=folder, check=True)
        self._library = ctypes.PyDLL(str(folder / "clock.so"))
        self._held = (ctypes.c_long * SLOTS).in_dll(self._library, "lane_held")
        self._seen = (ctypes.c_long * SLOTS).in_dll(self._library, "lane_seen")
        self._step = ctypes.c_int.in_dll(self._library, "lane_step")
        self._slots: dict[str, int] = {}
        self._step.value = self.slot(OTHER)

    def slot(self, name: str) -> int:
        return self._slots.setdefault(name, len(self._slots) + 1)

    def watch(self, lane: int) -> None:
        """All threads that run now; `lane` is the native id of the one with steps."""
        for thread in threading.enumerate():
            kind = thread.name.rstrip("0123456789").rstrip("-_")
            slot = 0 if thread.native_id == lane else self.slot(f"threads: {kind}")
            if self._library.lane_watch(thread.native_id, slot, ctypes.c_long(EVERY)):
                raise OSError("the system has no clock of a thread's processor time")

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        slot, step = self.slot(name), self._step

        def measured(*args: Any, **named: Any) -> Any:
            before, step.value = step.value, slot
            try:
                return call(*args, **named)
            finally:
                step.value = before

        return measured

    def found(self) -> Iterator[tuple[str, float, float]]:
        """Name, processor milliseconds and those with the lock."""
        for name, slot in self._slots.items():
            yield name, self._seen[slot] * EVERY / 1e6, self._held[slot] * EVERY / 1e6


@dataclass
class NoModel:
    """An encoder that costs nothing: noise made beforehand."""

    info: EncoderInfo
    steps: PixelSteps = field(
        default_factory=lambda: PixelSteps((224, 224), Resampling.BICUBIC, None, resizer="torch")
    )
    sizing: Any = field(default_factory=lambda: SimpleNamespace(batch_size=BATCH))

    def __post_init__(self) -> None:
        noise = np.random.default_rng(0).normal(size=(BATCH, DIMENSIONS)).astype(np.float32)
        self._noise = noise / np.linalg.norm(noise, axis=1, keepdims=True)

    def stack(self, pixels: list[Any]) -> list[Any]:
        return pixels

    def embed(self, pixels: list[Any], *, bulk: bool) -> Any:
        return self._noise[: len(pixels)]


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--size", default="224x224")
    asked.add_argument("--images", type=int, default=6144)
    asked.add_argument("--url", default="")
    wanted = asked.parse_args()
    keep_freed_memory()
    width, height = map(int, wanted.size.split("x"))
    with tempfile.TemporaryDirectory(prefix="kindred-") as folder:
        rows = SHARD * WARM + wanted.images
        _write(Path(folder) / "rows.parquet", width, height, rows)
        found, seconds = _measured(Path(folder), rows, wanted.url)
    print(describe())
    print(f"{wanted.size}, {wanted.images / seconds:.0f} images/s, ms an image:")
    lines = [
        [name, f"{spent / wanted.images:.3f}", f"{held / wanted.images:.3f}"]
        for name, spent, held in found
        if spent
    ]
    lane = [each for each in found if not each[0].startswith("threads")]
    for name, some in (("the lane", lane), ("all", found)):
        spent, held = (
            sum(times) / wanted.images for times in zip(*[e[1:] for e in some], strict=True)
        )
        lines.append([name, f"{spent:.3f}", f"{held:.3f}"])
    print(table(["step", "core", "lock"], lines))


def _write(file: Path, width: int, height: int, rows: int) -> None:
    draw, files = np.random.default_rng(width), []
    for _ in range(FILES):
        coarse = draw.integers(0, 256, (height // 25 + 2, width // 25 + 2, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Resampling.BICUBIC)
        out = io.BytesIO()
        smooth.save(out, "JPEG", quality=90)
        files.append(out.getvalue())
    columns = {
        "image": [{"bytes": files[n % FILES], "path": None} for n in range(rows)],
        "image_id": [f"ISIC_{n:07}" for n in range(rows)],
        "lesion_id": [f"HAM_{n // 2:07}" for n in range(rows)],
        "dx": ["melanocytic_Nevi"] * rows,
        "dx_type": ["histo"] * rows,
        "age": [45.0] * rows,
        "sex": ["female"] * rows,
        "localization": ["back"] * rows,
    }
    pq.write_table(pa.table(columns), file, row_group_size=1000)


def _measured(folder: Path, rows: int, url: str) -> tuple[list[tuple[str, float, float]], float]:
    info = EncoderInfo(
        model="none", revision=None, weights_sha256=f"{time.time_ns():064}", pooling="cls",
        preprocessing="none", dimensions=DIMENSIONS,
    )  # fmt: skip
    server: dict[str, Any] = {}
    if url:
        server = {"qdrant_url": url, "collection": f"lock{time.time_ns()}"}
    settings = Settings(model="none", data=folder / "data", **server)
    source = DatasetSource(dataset=str(folder / "rows.parquet"))
    blobs = Blobs(settings.blobs_of(settings.collection))
    reader = open_source(source, Opening(blobs, AllowedSources.of(("/",))))
    store = open_store(settings.store, info)
    with (
        closing(store),
        redis_ledger(settings) as ledger,
        closing(Decoders(max(1, cores() - 1), settings.max_pixels, 60)) as decoders,
    ):
        quarantine = Quarantine(blobs, ledger.withheld)
        deletions = Deletions(
            store, blobs, ledger.tombstones, Fields(store, settings.indexed_fields), quarantine
        )
        work = Ingest(
            encoder=cast(Encoder, NoModel(info)), store=store, blobs=blobs, jobs=ledger.jobs,
            deletions=deletions, decoders=decoders,
            withholding=Withholding(quarantine, NoDetector()),
            limits=Limits(settings.preview_pixels), stopping=lambda: False,
        )  # fmt: skip
        clock = Clock(folder)
        _patch(clock, work, reader)
        seconds = _job(clock, work, ledger, source, reader, rows)
        if store.count() != rows:
            raise RuntimeError(f"only {store.count()} of {rows} images are stored")
    return [*clock.found()], seconds


def _patch(clock: Clock, work: Ingest, reader: Reader) -> None:
    """Names the lane's steps; what a step calls that has a name counts for that."""
    steps: list[tuple[Any, str, str]] = [
        (module, "identify", "SHA-256, ids and tombstone keys"),
        (type(work.store), "retrieve", "look up what is indexed"),
        (type(work.withholding), "look", "look into quarantine"),
        (type(work.deletions), "are_deleted", "look for tombstones"),
        (module, "claim", "claim ids"),
        (Ingest, "_sort", "metadata, and sort"),
        (type(work.decoders), "submit", "hand to a decoder"),
        (Future, "result", "wait for decoders"),
        (type(work.withholding), "divide", "divide off suspects"),
        (Ingest, "_write_previews", "order previews"),
        (Ingest, "_points", "payloads"),
        (type(work.store), "upsert", "upsert: points made, or a server called"),
        (type(work.deletions), "matches_pending_deletion", "look for deletions"),
        (JobLedger, "checkpoint", "checkpoint"),
        (type(work.store), "flush", "flush"),
    ]
    if hasattr(work.store, "_update"):
        steps.append((type(work.store), "_update", "upsert: the engine's own"))
    for owner, name, what in steps:
        setattr(owner, name, clock.timed(what, getattr(owner, name)))
    read = reader.read
    listed = clock.timed("read the rows", lambda start, stop: [*read(start, stop)])
    setattr(reader, "read", listed)  # noqa: B010 - of a protocol


def _job(
    clock: Clock, work: Ingest, ledger: Ledger, source: DatasetSource, reader: Reader, rows: int
) -> float:
    """Runs the shards one after the other. Seconds of all but the first."""
    info = WorkerInfo(
        name="bench", ready=True, lanes={"ingest": 1}, device="cpu", dtype="float32",
        encoder=work.encoder.info,
    )  # fmt: skip
    ledger.workers.beat(info)
    ledger.jobs.create("bench", "ingest", "ingest", source.model_dump_json())
    (plan,) = ledger.jobs.dispatch()
    ledger.jobs.begin(plan, "bench")
    ledger.jobs.planned(plan, rows, SHARD)
    done, started = 0, 0.0
    while done < -(-rows // SHARD):
        ledger.workers.beat(info)
        for lease in ledger.jobs.dispatch():
            if done == WARM:
                gc.freeze()  # as a worker does once it has started
                clock.watch(threading.get_native_id())
                started = time.perf_counter()
            item = ledger.jobs.begin(lease, "bench")
            assert item is not None
            work.run(item, source, reader)
            done += 1
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
