"""Precision and coverage against the similarity from which on a neighbour counts."""

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.intervals import BOUNDS, draws
from pipeline.evaluation.neighbours import Neighbours
from pipeline.evaluation.stopping import Check, never
from pipeline.messages.evaluations import AtThreshold, Estimate

LEVELS = np.arange(0, 100, 5)  # percentiles of the similarities of the nearest

Numbers = NDArray[np.int64]


def at_thresholds(
    found: Neighbours, labels: Numbers, groups: Numbers, seed: int, check: Check = never
) -> tuple[AtThreshold, ...]:
    """From the least similar on. `labels` and `groups` (q,) are of the searched images.

    Precision is the share of the neighbours (ten a search at most) from that similarity on that
    have the searched image's label, with an interval of 95 % over groups.
    """
    levels = np.unique(np.percentile(found.scores[:, 0], LEVELS, method="lower"))
    counted = found.scores[:, :, None] >= levels
    agree = (found.labels == labels[:, None])[:, :, None] & counted
    _, group = np.unique(groups, return_inverse=True)
    hits, sizes = (_summed(each.sum(1), group) for each in (agree, counted))
    rounds = []
    for weights in draws(len(hits), seed, check):
        drawn = weights @ sizes  # 0 where no group with such a neighbour was drawn
        rounds.append(np.where(drawn > 0, weights @ hits, np.nan) / np.maximum(drawn, 1))
    low, high = np.nanpercentile(np.concatenate(rounds), BOUNDS, axis=0)
    precision = hits.sum(0) / sizes.sum(0)
    return tuple(
        AtThreshold(
            score=float(level),
            coverage=float((found.scores[:, 0] >= level).mean()),
            precision=Estimate(value=float(precision[n]), low=float(low[n]), high=float(high[n])),
        )
        for n, level in enumerate(levels)
    )


def _summed(values: NDArray[np.int64], group: Numbers) -> NDArray[np.float64]:
    """(groups, levels) of values (q, levels)."""
    sums = np.zeros((int(group.max()) + 1, values.shape[1]))
    np.add.at(sums, group, values)
    return sums
