"""`python -m benchmarks.series`: a series as a unit of search, what it finds and what it costs.

Patients are drawn: bodies of soft ellipsoids that share one anatomy and differ in shape. Each is
scanned twice, the second time in another position, at other heights, with other noise and grey
values. One scan is searched among all others, and the question is at which rank the same patient's
other scan is. A vector is the slice itself in few grey pixels: it compares ways to score and no
encoders. Then the time of `best_match` is measured on the embedded store.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.report import number, table
from pipeline.base.identity import point_id
from pipeline.messages import EncoderInfo
from pipeline.retrieval.matching import best_match
from pipeline.store import Points, Query
from pipeline.store.edge import EdgeStore

FRAMES = 32
SIDE = 20  # pixels of a drawn slice, which is its vector
PARTS = 14  # ellipsoids of a body
DIMENSIONS = 384
REPEATS = 40

Vectors = NDArray[np.float32]
# From the cosines between all frames of two series, (n, m), to the similarity of the two.
Score = Callable[[NDArray[np.float32]], float]

SCORES: dict[str, Score] = {
    "one frame, the middle one": lambda cosines: float(cosines[len(cosines) // 2].max()),
    "best pair of frames": lambda cosines: float(cosines.max()),
    "vectors of all frames, averaged": lambda cosines: float(cosines.mean()),
    "best match of each frame, averaged": lambda cosines: float(cosines.max(axis=1).mean()),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.series", description=__doc__)
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--images", type=int, default=10_000)
    options = parser.parse_args(arguments)
    print(machine.describe())
    print(_found(options.patients))
    with tempfile.TemporaryDirectory() as folder:
        print(_timed(Path(folder), options.images))
    return 0


# --- what is found ------------------------------------------------------------------------------


def _found(patients: int) -> str:
    random = np.random.default_rng(16)
    anatomy = random.uniform(-0.7, 0.7, (PARTS, 3)), random.uniform(0.15, 0.5, (PARTS, 3))
    bodies = [_body(*anatomy, random) for _ in range(patients)]
    scans = [[_scan(body, random) for _ in range(2)] for body in bodies]
    series = [scan for both in scans for scan in both]
    ranks: dict[str, list[int]] = {name: [] for name in SCORES}
    for number_, frames in enumerate(series):
        cosines = [frames @ other.T for other in series]
        for name, score in SCORES.items():
            scores = np.array([score(each) for each in cosines])
            scores[number_] = -np.inf
            ranks[name].append(int((scores > scores[number_ ^ 1]).sum()) + 1)
    rows = [
        [name, f"{np.mean(np.array(r) == 1):.1%}", f"{np.mean(np.array(r) <= 5):.1%}"]
        for name, r in ranks.items()
    ]
    head = ["compared by", "other scan of the patient first", "among five"]
    return f"{len(series)} series of {FRAMES} frames\n" + table(head, rows)


def _body(
    places: NDArray[np.float64], sizes: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.float64]:
    """Ellipsoids as (place, size, shade): those of all, each moved a little."""
    moved = places + random.normal(0, 0.06, places.shape)
    grown = sizes * np.exp(random.normal(0, 0.12, sizes.shape))
    return np.hstack([moved, grown, random.uniform(0.3, 1, (PARTS, 1))])


def _scan(body: NDArray[np.float64], random: np.random.Generator) -> Vectors:
    """Slices from other heights, of a patient who lies otherwise; float32 (FRAMES, SIDE²)."""
    low, high = sorted(random.uniform(-1, 1, 2) * 0.25 + (-0.7, 0.7))
    heights = np.linspace(low, high, FRAMES)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]  # type: ignore[misc]
    dx, dy, turn = random.normal(0, 0.05), random.normal(0, 0.05), random.normal(0, 0.08)
    x, y = x * np.cos(turn) - y * np.sin(turn) + dx, x * np.sin(turn) + y * np.cos(turn) + dy
    slices = np.zeros((FRAMES, SIDE, SIDE))
    for part in body:
        z = (heights[:, None, None] - part[2]) / part[5]
        inside = ((x - part[0]) / part[3]) ** 2 + ((y - part[1]) / part[4]) ** 2 + z**2
        slices += part[6] / (1 + np.exp(np.minimum(8 * (inside - 1), 50)))
    slices = slices ** np.exp(random.normal(0, 0.15)) + random.normal(0, 0.25, slices.shape)
    flat = slices.reshape(FRAMES, -1)
    return _unit(flat - flat.mean(axis=1, keepdims=True))


# --- what it costs ------------------------------------------------------------------------------


def _timed(folder: Path, images: int) -> str:
    store = EdgeStore(folder, "series", _encoder(), {"series_id": "keyword"})
    random = np.random.default_rng(1)
    centres = random.normal(size=(-(-images // FRAMES), DIMENSIONS))
    every = np.repeat(centres, FRAMES, axis=0)[:images]
    vectors = _unit(every + random.normal(0, 0.7, every.shape))
    payloads = [{"image_id": str(n), "series_id": f"s{n // FRAMES}"} for n in range(images)]
    store.upsert(Points([point_id(str(n)) for n in range(images)], vectors, payloads))
    rows = []
    for frames in (1, 8, FRAMES):
        times, processor = [], []
        for repeat in range(REPEATS):
            query = _unit(
                centres[repeat % len(centres)] + random.normal(0, 0.7, (frames, DIMENSIONS))
            )
            started, worked = time.perf_counter(), time.process_time()
            found = best_match(store, query, Query(query[0], 10), "series_id", wanted=10)
            times.append(1000 * (time.perf_counter() - started))
            processor.append(1000 * (time.process_time() - worked))
            assert len(found) == 10
        half, most = np.percentile(times, [50, 95])
        rows.append([str(frames), f"{half:.0f}", f"{most:.0f}", f"{np.median(processor):.0f}"])
    store.close()
    head = ["frames of the query", "median, ms", "95th percentile, ms", "of a core, ms"]
    return f"{number(images)} images in series of {FRAMES}, ten series found\n" + table(head, rows)


def _encoder() -> EncoderInfo:
    return EncoderInfo(
        model="drawn",
        revision=None,
        weights_sha256="0" * 64,
        pooling="mean",
        preprocessing="none",
        dimensions=DIMENSIONS,
    )


def _unit(vectors: NDArray[np.float64]) -> Vectors:
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return unit


if __name__ == "__main__":
    sys.exit(main())
