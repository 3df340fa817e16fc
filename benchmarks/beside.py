"""Measures searches by image beside a running job, and what they cost the job."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pyarrow.parquet as pq

from benchmarks.data import Slice, write_slice
from benchmarks.kindred import System
from benchmarks.report import Spread, p95
from benchmarks.searches import LIMIT
from cli.client import Client

EVERY = 1.0  # seconds from one search to the next
IDLE_PAUSE = 0.05


@dataclass(frozen=True)
class Beside:
    """Milliseconds of a search, idle and beside a job. Images a second of a job, with and without
    a search every second."""

    idle: Spread
    idle_p95: float
    busy: Spread
    busy_p95: float
    alone: Spread
    searched: Spread

    @property
    def p95_ratio(self) -> float:
        return self.busy_p95 / self.idle_p95

    @property
    def job_share(self) -> float:
        return self.searched.median / self.alone.median


def measure(system: System, parts: Sequence[Slice], rows: int, queries: Sequence[Path]) -> Beside:
    """Ingests the first `rows` of each slice twice, as new images: with searches and without."""
    idle = []
    for query in queries:
        idle.append(1000 * system.search({"limit": LIMIT}, query))
        time.sleep(IDLE_PAUSE)
    alone, searched, busy = [], [], []
    for part in parts:
        seconds, times = _searched(system, _renamed(part, rows, "searched"), queries)
        searched.append(rows / seconds)
        busy += times
        alone.append(rows / system.ingest(_renamed(part, rows, "alone")).seconds)
    return Beside(
        Spread.of(idle), p95(idle), Spread.of(busy), p95(busy),
        Spread.of(alone), Spread.of(searched),
    )  # fmt: skip


def _renamed(part: Slice, rows: int, prefix: str) -> Slice:
    """The same images under other ids, so that Kindred takes them for other images."""
    table = pq.read_table(part.folder).slice(0, rows)
    column = table.schema.get_field_index("image_id")
    ids = [f"{prefix}-{image_id}" for image_id in table["image_id"].to_pylist()]
    renamed = table.set_column(column, table.schema.field(column), [ids])
    return write_slice(part.folder.with_name(f"{part.folder.name}-{prefix}"), renamed)


def _searched(system: System, part: Slice, queries: Sequence[Path]) -> tuple[float, list[float]]:
    """Returns the seconds of the job, and the milliseconds of the searches beside it."""
    over = Event()

    def search() -> list[float]:
        times = []
        with Client(system.client.url) as client:
            while not over.wait(EVERY):
                start = time.perf_counter()
                client.search({"limit": LIMIT}, [queries[len(times) % len(queries)]])
                times.append(1000 * (time.perf_counter() - start))
        return times

    with ThreadPoolExecutor(1) as pool:
        searches = pool.submit(search)
        try:
            seconds = system.ingest(part).seconds
        finally:
            over.set()
        return seconds, searches.result()
