"""Intervals of 95 %, by a bootstrap that draws whole groups with replacement.

Images of one lesion or patient are alike, so an interval over images would be too narrow (Field
and Welsh, 2007, "Bootstrapping clustered data"). In each round every group counts as often as it
was drawn; a class's number is the mean over its images, `macro` the mean over classes, `overall`
that over images. The interval runs from percentile 2.5 to 97.5 of the rounds.

Where all groups have 0, or all have 1, every round has it as well. There the interval is that of a
share of the groups (Clopper and Pearson, 1934): of five groups without a hit, 0 to 0.52.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.stopping import Check, never
from pipeline.messages.evaluations import Estimate

ROUNDS = 1000
BOUNDS = (2.5, 97.5)  # percentiles
_CELLS = 1_000_000  # drawn at a time: 8 MB, and a tenth of a second

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Estimates:
    """Of each of m columns: `overall` and `macro` (m,), `classes` (c, m)."""

    overall: tuple[Estimate, ...]
    macro: tuple[Estimate, ...]
    classes: tuple[tuple[Estimate, ...], ...]


def estimate(
    values: Floats,
    labels: Numbers,
    groups: Numbers,
    classes: int,
    seed: int = 0,
    *,
    shares: bool = True,
    check: Check = never,
) -> Estimates:
    """`values` (q, m) of images whose `labels` (q,) are 0 to classes - 1. The seed fixes all.

    `shares`: values lie between 0 and 1; else they are differences.
    """
    cells = _Cells.of(values, labels, groups, classes)
    drawn = [cells.means(weights) for weights in draws(cells.groups, seed, check)]
    overall, macro, by_class = (np.concatenate(rounds) for rounds in zip(*drawn, strict=True))
    points = [each[0] for each in cells.means(np.ones((1, cells.groups)))]
    sizes = np.diff(cells.starts)
    return Estimates(
        _estimates(points[0], overall, cells.groups, shares),
        _estimates(points[1], macro, cells.groups, shares),
        tuple(
            _estimates(points[2][c], by_class[:, c], int(sizes[c]), shares) for c in range(classes)
        ),
    )


@dataclass(frozen=True)
class _Cells:
    """Images of one label and group, summed: `sums` (n, m) and `sizes` (n,).

    Cells stand in the order of their labels; those of label i are [starts[i], starts[i + 1]).
    """

    sums: Floats
    sizes: Floats
    group: Numbers
    starts: Numbers
    groups: int

    @classmethod
    def of(cls, values: Floats, labels: Numbers, groups: Numbers, classes: int) -> "_Cells":
        _, codes = np.unique(groups, return_inverse=True)
        count = int(codes.max()) + 1
        found, cell = np.unique(labels * count + codes, return_inverse=True)
        order = np.argsort(cell, kind="stable")
        first = np.searchsorted(cell[order], np.arange(len(found)))
        return cls(
            sums=np.add.reduceat(values[order], first, axis=0),
            sizes=np.bincount(cell).astype(float),
            group=found % count,
            starts=np.searchsorted(found // count, np.arange(classes + 1)),
            groups=count,
        )

    def means(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """(rounds, m), (rounds, m) and (rounds, classes, m) for `weights` (rounds, groups)."""
        rounds, classes = len(weights), len(self.starts) - 1
        sums = np.zeros((rounds, classes, self.sums.shape[1]))
        sizes = np.zeros((rounds, classes, 1))
        for number in range(classes):
            cells = slice(self.starts[number], self.starts[number + 1])
            chosen = weights[:, self.group[cells]]
            sums[:, number] = chosen @ self.sums[cells]
            sizes[:, number, 0] = chosen @ self.sizes[cells]
        with np.errstate(invalid="ignore", divide="ignore"):
            by_class = sums / sizes  # nan where no group with the label was drawn
            overall = sums.sum(1) / sizes.sum(1)
        some = np.isfinite(by_class)
        macro = np.where(some, by_class, 0).sum(1) / np.maximum(some.sum(1), 1)
        return overall, macro, by_class


def draws(groups: int, seed: int, check: Check = never) -> Iterator[Floats]:
    """How often each group is drawn, (rounds, groups), some rounds at a time."""
    random = np.random.default_rng(seed)
    left = ROUNDS
    while left:
        check()
        rounds = max(1, min(left, _CELLS // groups))
        drawn = random.integers(0, groups, (rounds, groups))
        drawn += np.arange(rounds)[:, None] * groups
        counted = np.bincount(drawn.ravel(), minlength=rounds * groups)
        yield counted.reshape(rounds, groups).astype(float)
        left -= rounds


def _estimates(points: Floats, rounds: Floats, groups: int, shares: bool) -> tuple[Estimate, ...]:
    """Of points (m,) and rounds (n, m), of so many groups."""
    return tuple(
        _estimate(float(point), each, groups, shares)
        for point, each in zip(points, rounds.T, strict=True)
    )


def _estimate(point: float, rounds: Floats, groups: int, shares: bool) -> Estimate:
    if not np.isfinite(point):
        return Estimate(value=None)
    bound = (BOUNDS[0] / 100) ** (1 / groups)
    if shares and point in (0, 1):
        return Estimate(value=point, low=point and bound, high=1 - (1 - point) * bound)
    low, high = np.percentile(rounds[np.isfinite(rounds)], BOUNDS)
    return Estimate(value=point, low=float(low), high=float(high))
