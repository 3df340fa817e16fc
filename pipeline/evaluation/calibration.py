"""What a similarity means in a collection: the share of neighbours that agree, by their score.

    curves = calibrate(neighbours, queries.labels, queries.groups, names)

The neighbours are those of an evaluation: the nearest of each searched image, without its group. A
neighbour agrees if it has the searched image's label. The share that agrees is an isotonic
regression on the score (Zadrozny, Elkan, "Transforming classifier scores into accurate multiclass
probability estimates", KDD 2002): it never falls as the score rises, and supposes no other form.

Before that, neighbours are put into steps of about equal number. An isotonic curve through single
neighbours ends in steps of one or two of them, at 0 and 1, which claim what nobody knows.

Intervals come from a bootstrap over groups (Efron, Tibshirani, "An Introduction to the Bootstrap",
1993, percentile intervals): the neighbours of one lesion's or patient's images are no independent
cases. Where all of a curve's end agree, or none does, no draw differs from another; there the
bound is the exact one for as many groups (Clopper, Pearson, Biometrika 26, 1934).

One curve is of all neighbours. Others are of those that have one label, where they are enough: of
a hit its label is known, that of the searched image is not. Where a tenth of the images are
melanomas, a neighbour that is one agrees less often than a nevus that is as similar.

The rank of a neighbour does not count: a hit is as close as its score.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.neighbours import Neighbours, Numbers
from pipeline.evaluation.stopping import Check, never
from pipeline.messages.evaluations import Calibrated, CalibrationPoint

# The fewest neighbours in a step of a curve, and the most steps.
IN_STEP = 100
MOST_STEPS = 30

# A curve needs so many neighbours, of so many groups' images. With fewer its intervals are as
# wide as the whole range, and a label falls back on the curve of all.
LEAST_NEIGHBOURS = 300
LEAST_GROUPS = 50
MOST_LABELS = 30  # that get curves of their own, the most frequent first: a curve is 2 KB

# The share of neighbours that may be less similar than the least score of which anything is known.
BELOW = 0.005

_DRAWS = 500  # of the bootstrap: percentiles of 2.5 % then have 12 draws beyond them
_AT_ONCE = 50
_PERCENTILES = (2.5, 97.5)

Shares = NDArray[np.float64]


@dataclass(frozen=True)
class _Pairs:
    """Neighbours beside the images whose they are: all arrays (n,).

    `groups` count those of the searched images from 0.
    """

    scores: NDArray[np.float32]
    agree: NDArray[np.bool_]
    labels: Numbers
    groups: Numbers

    def of(self, chosen: NDArray[np.bool_]) -> "_Pairs":
        return _Pairs(
            self.scores[chosen], self.agree[chosen], self.labels[chosen], self.groups[chosen]
        )

    @property
    def enough(self) -> bool:
        return len(self.scores) >= LEAST_NEIGHBOURS and len(np.unique(self.groups)) >= LEAST_GROUPS


@dataclass(frozen=True)
class _Steps:
    """The neighbours of one curve, in steps by their score. `of` is each neighbour's step.

    `scores` are means, `counts` and `agreeing` numbers of neighbours: (steps,).
    """

    pairs: _Pairs
    of: NDArray[Any]
    scores: Shares
    counts: Shares
    agreeing: Shares


def calibrate(
    neighbours: Neighbours,
    labels: Numbers,
    groups: Numbers,
    names: Mapping[int, str],
    check: Check = never,
) -> tuple[Calibrated, ...]:
    """The curve of all neighbours, then those of labels that have enough; empty if none has.

    `labels` and `groups`, (q,), are those of the searched images; `names` of the labels. Without a
    label, neither an image nor a neighbour counts.
    """
    pairs = _pairs(neighbours, labels, groups)
    if not pairs.enough:
        return ()
    found, counts = np.unique(pairs.labels, return_counts=True)
    frequent = [int(found[n]) for n in np.argsort(-counts, kind="stable")[:MOST_LABELS]]
    own = {names[label]: pairs.of(pairs.labels == label) for label in frequent}
    chosen: dict[str | None, _Pairs] = {None: pairs}
    chosen |= {name: each for name, each in own.items() if each.enough}
    steps = [_in_steps(each) for each in chosen.values()]
    bounds = _bounds(steps, int(pairs.groups.max()) + 1, check)
    return tuple(
        Calibrated(label=label, points=_points(each, *low_high))
        for label, each, low_high in zip(chosen, steps, bounds, strict=True)
    )


def least_score(neighbours: Neighbours) -> float | None:
    """Of all neighbours, nearly none is less similar; None if there are none."""
    scores = neighbours.scores[np.isfinite(neighbours.scores)]
    return float(np.quantile(scores, BELOW)) if len(scores) else None


def _pairs(neighbours: Neighbours, labels: Numbers, groups: Numbers) -> _Pairs:
    counted = np.isfinite(neighbours.scores) & (neighbours.labels != -1) & (labels != -1)[:, None]
    image, rank = np.nonzero(counted)
    theirs = neighbours.labels[image, rank]
    numbered = np.unique(groups[image], return_inverse=True)[1]
    return _Pairs(neighbours.scores[image, rank], theirs == labels[image], theirs, numbered)


def _in_steps(pairs: _Pairs) -> _Steps:
    """Equal scores are in one step."""
    count = max(1, min(MOST_STEPS, len(pairs.scores) // IN_STEP))
    ordered = np.sort(pairs.scores)
    begins = np.unique(ordered[np.arange(1, count) * len(ordered) // count])
    begins = begins[begins > ordered[0]]
    of = np.searchsorted(begins, pairs.scores, side="right")
    size = len(begins) + 1

    def summed(values: NDArray[Any]) -> Shares:
        return np.bincount(of, values.astype(float), size).astype(float)

    counts = summed(np.ones(len(of)))
    return _Steps(pairs, of, summed(pairs.scores) / counts, counts, summed(pairs.agree))


def _isotonic(agreeing: Shares, counts: Shares) -> Shares:
    """The share in each step, never falling. Both (steps,), all counts above 0."""
    from scipy.optimize import isotonic_regression

    shares: Shares = isotonic_regression(agreeing / counts, weights=counts).x
    return np.clip(shares, 0, 1)


def _bounds(curves: Sequence[_Steps], groups: int, check: Check) -> Iterator[tuple[Shares, Shares]]:
    """Of each curve the least and the most share in each step."""
    drawn: list[list[Shares]] = [[] for _ in curves]
    tables = [_tables(steps, groups) for steps in curves]
    for weights in _draws(groups):
        for each, steps, (counts, agreeing) in zip(drawn, curves, tables, strict=True):
            check()
            each.extend(_resampled(steps, weights @ counts, weights @ agreeing))
    for each, steps in zip(drawn, curves, strict=True):
        low, high = np.percentile(each, _PERCENTILES, axis=0)
        yield _widened(steps, low, high)


def _draws(groups: int) -> Iterator[NDArray[np.float64]]:
    """How often each group is drawn: (draws, groups), a part of all draws at a time."""
    random = np.random.default_rng(0)
    for _ in range(_DRAWS // _AT_ONCE):
        chosen = random.integers(0, groups, (_AT_ONCE, groups))
        yield np.stack([np.bincount(each, minlength=groups) for each in chosen]).astype(float)


def _tables(steps: _Steps, groups: int) -> tuple[Any, Any]:
    """Of each group how many neighbours are in each step, and how many agree: sparse."""
    from scipy.sparse import csr_array

    where, shape = (steps.pairs.groups, steps.of), (groups, len(steps.counts))
    counts = csr_array((np.ones(len(steps.of)), where), shape=shape)
    return counts, csr_array((steps.pairs.agree.astype(float), where), shape=shape)


def _resampled(steps: _Steps, counts: Shares, agreeing: Shares) -> list[Shares]:
    """The curve of each draw. A step that a draw leaves empty weighs next to nothing in it."""
    little = 1e-6
    usual = steps.agreeing / steps.counts
    return [
        _isotonic(some + little * usual, many + little)
        for many, some in zip(counts, agreeing, strict=True)
    ]


def _widened(steps: _Steps, low: Shares, high: Shares) -> tuple[Shares, Shares]:
    """Where all neighbours agree, or none, the exact bound for as many groups."""
    shares = _isotonic(steps.agreeing, steps.counts)
    for end, bound in ((1.0, low), (0.0, high)):
        there = np.flatnonzero(shares == end)
        if len(there):
            groups = len(np.unique(steps.pairs.groups[np.isin(steps.of, there)]))
            bound[there] = abs(1 - end - 0.025 ** (1 / groups))
    return np.minimum(low, shares), np.maximum(high, shares)


def _points(steps: _Steps, low: Shares, high: Shares) -> tuple[CalibrationPoint, ...]:
    shares = _isotonic(steps.agreeing, steps.counts)
    return tuple(
        CalibrationPoint(
            score=round(float(score), 5),
            share=round(float(share), 4),
            low=round(float(least), 4),
            high=round(float(most), 4),
            neighbours=int(count),
        )
        for score, share, least, most, count in zip(
            steps.scores, shares, low, high, steps.counts, strict=True
        )
    )
