"""What a ranking is worth for each searched image, from the labels of its nearest.

Leave-one-out: neither the image nor its group is among them. An image is relevant if it has the
searched one's label; `R` images of other groups have it.

precision_at_k     the share of relevant images among the first k
map_at_10          mean of AP@10 = sum over ranks i of (precision_at_i if i is relevant)
                   / min(10, R)
ndcg_at_10         DCG@10 = sum over relevant ranks i of 1 / log2(i + 1), over that of the best
                   order (Järvelin and Kekäläinen, 2002, "Cumulated gain-based evaluation")
balanced_accuracy  the 10 nearest vote; the mean over labels of the share that they get right
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.messages.evaluations import Metric

Numbers = NDArray[np.int64]
Values = Mapping[Metric, NDArray[np.float64]]  # by metric: one of each of q searched images

DEPTH = 10
_RANKS = np.arange(1, DEPTH + 1)
_DISCOUNTS = 1 / np.log2(_RANKS + 1)
_IDEAL = np.cumsum(_DISCOUNTS)


def of_neighbours(
    labels: Numbers, neighbours: Numbers, scores: NDArray[np.float32], relevant: Numbers
) -> Values:
    """Of `labels` (q,) whose nearest have the labels `neighbours` (q, 10), -1 for none.

    `relevant` (q,), at least 1, is R. In `balanced_accuracy` is whether the vote is right.
    """
    hits = neighbours == labels[:, None]
    most = np.minimum(DEPTH, relevant)
    precision = hits.cumsum(1) / _RANKS
    return {
        "precision_at_1": precision[:, 0],
        "precision_at_5": precision[:, 4],
        "precision_at_10": precision[:, 9],
        "map_at_10": (precision * hits).sum(1) / most,
        "ndcg_at_10": (hits * _DISCOUNTS).sum(1) / _IDEAL[most - 1],
        "balanced_accuracy": (vote(neighbours, scores) == labels).astype(float),
    }


def vote(neighbours: Numbers, scores: NDArray[np.float32]) -> Numbers:
    """The label (q,) that most of each row's neighbours have; -1 where there are none.

    Each has one vote. Between labels with as many, the greater sum of similarities decides, and
    then the nearer one.
    """
    same = (neighbours[:, :, None] == neighbours[:, None, :]) & (neighbours[:, :, None] >= 0)
    votes = same.sum(2)
    sums = (same * np.where(np.isfinite(scores), scores, 0)[:, None, :]).sum(2)
    most = votes == votes.max(1, keepdims=True)
    chosen = np.argmax(np.where(most, sums, -np.inf), axis=1)
    found: Numbers = np.take_along_axis(neighbours, chosen[:, None], 1)[:, 0]
    return found


def of_chance(relevant: Numbers, others: Numbers) -> Values:
    """Expected of a random order of the `others` (q,) images, of which `relevant` have the label.

    The vote is that of one image drawn from them.
    """
    share = relevant / others
    again = np.where(others > 1, (relevant - 1) / np.maximum(others - 1, 1), 0)
    most = np.minimum(DEPTH, relevant)
    seen = np.minimum(DEPTH, others)[:, None] >= _RANKS  # a small collection has fewer ranks
    precisions = share[:, None] * (1 + (_RANKS - 1) * again[:, None]) / _RANKS
    return {
        "precision_at_1": share,
        "precision_at_5": share * np.minimum(5, others) / 5,
        "precision_at_10": share * np.minimum(10, others) / 10,
        "map_at_10": (precisions * seen).sum(1) / most,
        "ndcg_at_10": share * (seen * _DISCOUNTS).sum(1) / _IDEAL[most - 1],
        "balanced_accuracy": share,
    }


def of_constant(labels: Numbers, guess: int) -> Values:
    """Of an answer that is always the same: ten images with the label `guess`."""
    right = (labels == guess).astype(float)
    return {
        "precision_at_1": right,
        "precision_at_5": right,
        "precision_at_10": right,
        "map_at_10": right,
        "ndcg_at_10": right,
        "balanced_accuracy": right,
    }
