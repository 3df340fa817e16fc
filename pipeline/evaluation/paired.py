"""How two rankings of the same images differ, with an interval and a test, both over groups.

Images of one group show one lesion or one patient, so they are no independent evidence: groups are
resampled, and groups exchange their results.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

RESAMPLES = 2000
PERMUTATIONS = 9999
# Values of the null distribution in memory at once: 64 MiB.
_CELLS = 8_000_000


@dataclass(frozen=True)
class Change:
    """Of one metric: its difference, the interval of 95 %, and the p-value of the test."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class _Sums:
    """Of `g` groups and `c` classes: `values` (g, c, metrics), summed; `images` (g, c)."""

    values: Floats
    images: Floats

    def mean(self) -> Floats:
        """(metrics,): of each class first, then over classes."""
        means: Floats = (self.values.sum(0) / self.images.sum(0)[:, None]).mean(0)
        return means


def changes(
    first: Floats, other: Floats, classes: Numbers, groups: Numbers, seed: int = 0
) -> list[Change]:
    """`other` minus `first`, both (images, metrics), a Change for each metric.

    Means are taken within `classes` (images,) first: give zeros for the plain mean over images.
    There must be an image.
    """
    rng = np.random.default_rng(seed)
    sums = _summed(other.astype(np.float64) - first, classes, groups)
    low, high = np.nanquantile(_resampled(sums, rng), (0.025, 0.975), axis=0)
    p = _p_values(sums, rng)
    return [Change(*map(float, row)) for row in zip(sums.mean(), low, high, p, strict=True)]


def _summed(values: Floats, classes: Numbers, groups: Numbers) -> _Sums:
    group_names, group = np.unique(groups, return_inverse=True)
    class_names, kind = np.unique(classes, return_inverse=True)
    shape = (len(group_names), len(class_names))
    sums, images = np.zeros((*shape, values.shape[1])), np.zeros(shape)
    np.add.at(sums, (group, kind), values)
    np.add.at(images, (group, kind), 1)
    return _Sums(sums, images)


def _resampled(sums: _Sums, rng: np.random.Generator) -> Floats:
    """(RESAMPLES, metrics): the difference in draws of as many groups, with replacement.

    Efron and Tibshirani, 1993, "An Introduction to the Bootstrap", chapter 13. A class that a draw
    lacks does not count in it.
    """
    count, kinds, metrics = sums.values.shape
    found = []
    step = max(1, _CELLS // count)
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        drawn = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        totals = (times @ sums.values.reshape(count, -1)).reshape(rows, kinds, metrics)
        images = (times @ sums.images)[:, :, None]
        means = np.divide(totals, images, out=np.full_like(totals, np.nan), where=images > 0)
        found.append(np.nanmean(means, axis=1))
    return np.concatenate(found)


def _p_values(sums: _Sums, rng: np.random.Generator) -> Floats:
    """(metrics,): two-sided, by exchanging both models' results in some of the groups.

    Where neither is better, each group's difference is as likely to have the other sign. All ways
    are tried if they are few, else PERMUTATIONS of them, and then 1 is added to both counts
    (Phipson and Smyth, 2010, "Permutation p-values should never be zero").
    """
    parts = sums.values / sums.images.sum(0)[None, :, None]
    by_group = parts.mean(1).T  # (metrics, groups), whose sum is the difference
    found = permutation_test(
        (by_group,),
        lambda values, axis: values.sum(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=max(1, _CELLS // by_group.size),
        axis=-1,
        rng=rng,
    )
    p: Floats = np.minimum(found.pvalue, 1.0)
    return p
