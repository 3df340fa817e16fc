"""How well an audit finds planted wrong labels, and how often drift is reported, rightly or not.

    python -m benchmarks.care               all 10,015 images of skin_cancer_full, some minutes
    python -m benchmarks.care --images 1500

Vectors are patch features (`benchmarks/embeddings.py`), so the figures are of these images and
features, and of no trained encoder. Labels: 2 % get another one at random. Drift: new images are
whole lesions of the same folder (each report is a false alarm), of one diagnosis alone, or shifted
by a vector of some length, as a changed camera might.
"""

import argparse
import os

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.embeddings import FULL, real
from benchmarks.report import table
from pipeline.evaluation.drift import Sample, difference, distances, is_drift
from pipeline.evaluation.label_errors import suspects

NEIGHBOURS = 10
FIRST = (20, 50, 100, 200)
POOL, REFERENCE = 4000, 500  # at most, of the collection
ROUNDS = 20

Vectors = NDArray[np.float32]
Numbers = NDArray[np.int64]


def nearest(vectors: Vectors, lesions: Numbers) -> tuple[Numbers, NDArray[np.float64]]:
    """Places and cosines (n, 10) of the nearest images of other lesions."""
    places, cosines = [], []
    for start in range(0, len(vectors), 1000):
        rows = slice(start, start + 1000)
        found = vectors[rows] @ vectors.T
        found[lesions[rows, None] == lesions[None]] = -2
        places.append(np.argpartition(-found, NEIGHBOURS, axis=1)[:, :NEIGHBOURS])
        cosines.append(np.take_along_axis(found, places[-1], 1))
    return np.concatenate(places), np.concatenate(cosines).astype(float)


def wrong_labels(vectors: Vectors, lesions: Numbers, labels: Numbers, seeds: int) -> list[str]:
    """Of the first findings, the share that was planted: medians over `seeds`."""
    places, cosines = nearest(vectors, lesions)
    rounds = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        wrong, classes = labels.copy(), int(labels.max()) + 1
        planted = rng.choice(len(labels), len(labels) // 50, replace=False)
        wrong[planted] = (wrong[planted] + rng.integers(1, classes, len(planted))) % classes
        rows = suspects(wrong, wrong[places], cosines).rows
        hit = np.isin(rows, planted)
        rounds.append([hit[:n].mean() for n in FIRST] + [len(rows), hit.sum() / len(planted)])
    *shares, count, found = np.median(rounds, 0)
    return [*(f"{share:.2f}" for share in shares), f"{count:,.0f}", f"{found:.2f}"]


class Drift:
    """Splits a folder into new images, the pool and the reference, by lesions."""

    def __init__(self, vectors: Vectors, lesions: Numbers, labels: Numbers) -> None:
        self._vectors, self._lesions, self._labels = vectors, lesions, labels
        self._first = np.unique(lesions, return_index=True)[1]  # an image of each lesion

    def alarms(self, new: int, label: int | None = None, shift: float = 0) -> list[str]:
        """Of some rounds with so many new lesions: the share with a report, and the median gap."""
        rounds = [self._round(np.random.default_rng(n), new, label, shift) for n in range(ROUNDS)]
        reported, gaps = zip(*rounds, strict=True)
        return [f"{np.mean(reported):.2f}", f"{np.median(gaps):.2f}"]

    def _round(
        self, rng: np.random.Generator, new: int, label: int | None, shift: float
    ) -> tuple[bool, float]:
        kind = self._first if label is None else self._first[self._labels[self._first] == label]
        own = rng.permutation(kind)[:new]
        others = rng.permutation(np.flatnonzero(~np.isin(self._lesions, self._lesions[own])))
        cut = min(POOL, len(others) * 2 // 3)
        rest = others[cut:]
        once = np.sort(np.unique(self._lesions[rest], return_index=True)[1])
        pool, reference = self._sample(others[:cut]), self._sample(rest[once][:REFERENCE])
        move = rng.normal(size=self._vectors.shape[1])
        moved = self._vectors[own] + shift * move / np.linalg.norm(move)
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        fresh = Sample(moved.astype(np.float32), self._lesions[own])
        found = difference(distances(fresh, pool), distances(reference, pool))
        return is_drift(found.gap, found.p_value), found.gap

    def _sample(self, rows: Numbers) -> Sample:
        return Sample(self._vectors[rows], self._lesions[rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, help="the first ones; default: all")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    vectors, lesions = real()
    names = pq.read_table(FULL, columns=["dx"])["dx"].to_pylist()[: given.images]
    kinds, labels = np.unique(names, return_inverse=True)
    vectors, lesions = vectors[: given.images].astype(np.float32), lesions[: given.images]
    print(f"{len(vectors):,} images, load {os.getloadavg()[0]:.1f}\n")
    header = [*(f"of the first {n}" for n in FIRST), "findings", "of all planted"]
    print(table(header, [wrong_labels(vectors, lesions, labels, given.seeds)]), "\n")
    drift = Drift(vectors, lesions, labels)
    rows = [[f"{n} lesions of the same", *drift.alarms(n)] for n in (20, 50, 200)]
    rows += [[f"60 of {kind} alone", *drift.alarms(60, n)] for n, kind in enumerate(kinds)]
    rows += [[f"100, moved by {s}", *drift.alarms(100, shift=s)] for s in (0.05, 0.1, 0.2, 0.3)]
    print(table(["new images", "reported", "gap"], rows))


if __name__ == "__main__":
    main()
