"""Measures searches by id among ten thousand images. Such searches do not run the model.

So a ViT of one layer embeds the images, with as many dimensions as the real model. The real model
would take half an hour, and the vectors, payloads and previews have the same size.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.data import SHARED, Slice
from benchmarks.kindred import System, running
from benchmarks.machine import Others
from benchmarks.page import first_picture
from benchmarks.report import Spread, p95
from cli.sample import write_dataset, write_encoder

FULL = SHARED.with_name("skin_cancer_full")
DRAWN = 2000  # rows, if the real images are missing
LIMIT = 10
BATCH = 50
WINDOWS = 10  # browser windows
FILTER = {
    "must": [{"key": "sex", "match": {"value": "female"}}, {"key": "age", "range": {"gte": 40}}]
}


@dataclass(frozen=True)
class ById:
    """Milliseconds over HTTP, as a client sees them: `Prefer: wait`, one connection."""

    images: int
    images_are: str
    plain: Spread
    plain_p95: float
    filtered: Spread
    filtered_p95: float
    batch: Spread  # of BATCH filtered searches in one call
    preview: Spread
    first_picture: Spread | None  # in a browser, after the answer
    worker_mib: tuple[float, float]  # its own memory, empty and with all images stored

    @property
    def batch_over_one(self) -> float:
        return self.batch.median / self.filtered.median


def measure(folder: Path, rows: int, searches: int) -> tuple[ById, float | None]:
    """Fills a separate system with at most `rows` images, and searches `searches` times in each
    way, in turn. Also returns the share of the cores that other processes took meanwhile."""
    folder.mkdir()
    source, images_are = _source(folder, rows)
    model = folder / "model"
    write_encoder(model, layers=1, intermediate=384, patch=56)
    with running(folder / "kindred", model) as system:
        load = Others()
        system.ingest(replace(source, rows=1, ids=source.ids[:1]))  # the first job imports modules
        empty = system.worker_mib()
        system.ingest(source)
        memory = (empty, system.worker_mib())
        chosen = np.random.default_rng(0).permutation(source.rows)
        ids = [source.ids[row] for row in chosen]
        found = _searches(system, ids, searches, source.rows, images_are, memory)
        others = load.share()  # before the browser, whose processes leave it
        picture = first_picture(system.client.url, ids[:WINDOWS])
        return replace(found, first_picture=picture), others


def _source(folder: Path, rows: int) -> tuple[Slice, str]:
    where, images_are = FULL, "HAM10000, as in shared/data/skin_cancer_full"
    if not where.is_dir():
        where, images_are = folder / "drawn", "drawn here, since there is no folder of real images"
        write_dataset(where, min(rows, DRAWN))
    ids = pq.read_table(where, columns=["image_id"])["image_id"].to_pylist()[:rows]
    return Slice(where, len(ids), tuple(ids)), images_are


def _searches(
    system: System,
    ids: Sequence[str],
    searches: int,
    images: int,
    images_are: str,
    memory: tuple[float, float],
) -> ById:
    plain, filtered, batches, previews = [], [], [], []
    following = itertools.cycle(ids)
    for number in range(searches):
        query = {"image_id": next(following), "limit": LIMIT}
        plain.append(1000 * system.search(query))
        filtered.append(1000 * system.search({**query, "filter": FILTER}))
        previews.append(1000 * _preview(system, next(following)))
        if number % 5 == 0:
            batches.append(1000 * _batch(system, [next(following) for _ in range(BATCH)]))
    return ById(
        images,
        images_are,
        Spread.of(plain),
        p95(plain),
        Spread.of(filtered),
        p95(filtered),
        Spread.of(batches),
        Spread.of(previews),
        None,
        memory,
    )


def _batch(system: System, ids: Sequence[str]) -> float:
    """Returns seconds."""
    queries = [{"image_id": image_id, "limit": LIMIT, "filter": FILTER} for image_id in ids]
    start = time.perf_counter()
    found = system.client.batch(queries)["results"] or []
    seconds = time.perf_counter() - start
    if [len(hits) for hits in found] != [LIMIT] * len(ids):
        raise RuntimeError("a batch did not answer every search")
    return seconds


def _preview(system: System, image_id: str) -> float:
    """Returns seconds."""
    start = time.perf_counter()
    system.client.preview(image_id)
    return time.perf_counter() - start
