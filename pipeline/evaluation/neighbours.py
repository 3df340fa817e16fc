"""The nearest neighbours of many images at once, by blocks, without those of the same group."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.collected import Collected

NEAREST = 10

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """Of each of `q` searched images its nearest, the best first; fewer than k are padded.

    `scores` float32 (q, k), cosines, -inf where there is no neighbour; `labels`, `groups` and
    `places` int64 (q, k): those of the neighbours, -1 where there is none. A place counts the
    images of the collection in the order in which they were read.
    """

    scores: Floats
    labels: Numbers
    groups: Numbers
    places: Numbers


def nearest(queries: Collected, blocks: Iterable[Collected], k: int = NEAREST) -> Neighbours:
    """The `k` nearest of each image of `queries` among all of `blocks`, but its own group's."""
    count = len(queries)
    best = Neighbours(
        np.full((count, 0), -np.inf, np.float32), *(np.full((count, 0), -1) for _ in range(3))
    )
    seen = 0
    for block in blocks:
        cosines = queries.vectors @ block.vectors.T
        cosines[queries.groups[:, None] == block.groups[None, :]] = -np.inf
        best = _better(best, _of_block(cosines, block, seen), k)
        seen += len(block)
    return best


def _of_block(cosines: Floats, block: Collected, seen: int) -> Neighbours:
    def repeated(values: Numbers) -> Numbers:
        return np.broadcast_to(values, cosines.shape)

    places = np.arange(seen, seen + len(block))
    return Neighbours(cosines, repeated(block.labels), repeated(block.groups), repeated(places))


def _better(first: Neighbours, second: Neighbours, k: int) -> Neighbours:
    """The `k` best of both."""
    scores = np.concatenate([first.scores, second.scores], axis=1)
    kept = min(k, scores.shape[1])
    top = np.argpartition(-scores, kept - 1, axis=1)[:, :kept]
    order = np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, 1), 1), 1)

    def chosen(mine: Numbers, others: Numbers) -> Numbers:
        return np.take_along_axis(np.concatenate([mine, others], axis=1), order, 1)

    found = np.take_along_axis(scores, order, 1)
    some = np.isfinite(found)
    fields = ("labels", "groups", "places")
    rest = (chosen(getattr(first, name), getattr(second, name)) for name in fields)
    return Neighbours(found, *(np.where(some, each, -1) for each in rest))
