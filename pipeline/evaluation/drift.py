"""Whether images lie farther from a collection than its own images do.

The distance of an image is the cosine distance to its 5th nearest image in a pool (Y. Sun, Y. Ming,
X. Zhu, Y. Li, "Out-of-distribution detection with deep nearest neighbors", ICML 2022). The pool and
the reference images are two random parts of the collection, so that the distances of new images and
of reference images are drawn alike if the new ones are of the same kind: nothing has to be left
out, and nothing is closer because it was there before.

The test is that of Kolmogorov and Smirnov for two samples, one-sided, since an image that is close
is no news; with Holm's correction where a job has several groups. Its statistic is the effect size
as well: by which share more of the new images lie beyond some distance. Of many images a trifle is
significant, so it must reach `LEAST_GAP`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

NEIGHBOUR = 5
SIGNIFICANCE = 0.01  # of all groups of a job together
LEAST_GAP = 0.25
USUAL = 0.95  # of the reference images are no farther


@dataclass(frozen=True)
class Sample:
    """`vectors` float32 (n, dimensions), of length 1. `groups` int64 (n,): images of one lesion or
    patient have one number, and are never compared with each other."""

    vectors: Vectors
    groups: Numbers

    def __len__(self) -> int:
        return len(self.groups)

    def part(self, rows: NDArray[np.bool_] | Numbers | slice) -> "Sample":
        return Sample(self.vectors[rows], self.groups[rows])


@dataclass(frozen=True)
class Difference:
    """`beyond` counts new images that are farther than `USUAL` of the reference images. `gap` is
    the test's statistic."""

    beyond: int
    gap: float
    p_value: float


def distances(images: Sample, pool: Sample, neighbour: int = NEIGHBOUR) -> Floats:
    """float64 (n,): the cosine distance of each image to its nearest ones in the pool but the
    first few, without its own group. NaN where there are too few."""
    cosines = images.vectors @ pool.vectors.T
    cosines[images.groups[:, None] == pool.groups[None, :]] = -np.inf
    if cosines.shape[1] < neighbour:
        return np.full(len(images), np.nan)
    found = -np.partition(-cosines, neighbour - 1, axis=1)[:, neighbour - 1].astype(np.float64)
    return np.where(np.isfinite(found), 1 - found, np.nan)


def difference(new: Floats, reference: Floats) -> Difference:
    """Of distances; both must have some."""
    from scipy.stats import ks_2samp  # it takes half a second, and most processes never need it

    found = ks_2samp(new, reference, alternative="less", method="auto")
    usual = np.quantile(reference, USUAL)
    return Difference(int((new > usual).sum()), float(found.statistic), float(found.pvalue))


def corrected(p_values: Sequence[float]) -> list[float]:
    """S. Holm, "A simple sequentially rejective multiple test procedure", 1979."""
    order = np.argsort(p_values, kind="stable")
    count = len(p_values)
    adjusted = np.maximum.accumulate([(count - n) * p_values[at] for n, at in enumerate(order)])
    found = np.empty(count)
    found[order] = np.minimum(1, adjusted)
    return [float(each) for each in found]


def is_drift(gap: float, p_value: float) -> bool:
    return p_value < SIGNIFICANCE and gap >= LEAST_GAP
