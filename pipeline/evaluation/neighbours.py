"""The nearest neighbours of many images at once, by blocks, without those of the same group."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.collected import NONE, Collected
from pipeline.evaluation.stopping import Check, never

NEAREST = 10

# Images searched by in one step. With a page of 1,000 it is a matrix of 4 MB, which stays in the
# processor's cache, and takes a core 20 ms.
ROWS = 1000

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """Of each of `q` searched images its nearest, the best first; fewer than k are padded.

    `scores` float32 (q, k), cosines, -inf where there is no neighbour; `labels`, `groups` and
    `places` int64 (q, k): those of the neighbours, -1 where there is none. A place counts the
    images of the collection in the order in which they were read; `keys` (q, k) are hashes of ids.
    """

    scores: Floats
    labels: Numbers
    groups: Numbers
    places: Numbers
    keys: Numbers


def nearest(
    queries: Collected, blocks: Iterable[Collected], k: int = NEAREST, check: Check = never
) -> Neighbours:
    """The `k` nearest of each image of `queries` among all of `blocks`, but its own group's."""
    search = Nearest(queries, k, check)
    for block in blocks:
        search.add(block)
    return search.others


class Nearest:
    """Searches by `queries` in blocks that come one after the other.

    `others`: the k nearest of other groups. `mates`: the k nearest of its own, but not itself.
    Beside the result, memory grows by 24 bytes for each image of the blocks.
    """

    def __init__(self, queries: Collected, k: int = NEAREST, check: Check = never) -> None:
        self._queries, self._check = queries, check
        self._others, self._mates = _Best(len(queries), k), _Best(len(queries), k)
        self._labels: list[Numbers] = []
        self._groups: list[Numbers] = []
        self._keys: list[Numbers] = []
        self._seen = 0

    def add(self, block: Collected) -> None:
        for start in range(0, len(self._queries), ROWS):
            self._check()
            self._search(slice(start, start + ROWS), block)
        self._labels.append(block.labels)
        self._groups.append(block.groups)
        self._keys.append(block.keys)
        self._seen += len(block)

    @property
    def others(self) -> Neighbours:
        return self._found(self._others)

    @property
    def mates(self) -> Neighbours:
        return self._found(self._mates)

    def _search(self, rows: slice, block: Collected) -> None:
        queries = self._queries
        cosines = queries.vectors[rows] @ block.vectors.T
        own = np.nonzero(queries.groups[rows, None] == block.groups[None, :])
        scores = cosines[own]
        cosines[own] = -np.inf
        self._others.add(rows, cosines, self._seen)
        others = queries.keys[rows][own[0]] != block.keys[own[1]]
        self._mates.add_some(rows, own[0][others], own[1][others] + self._seen, scores[others])

    def _found(self, best: "_Best") -> Neighbours:
        return Neighbours(
            best.scores,
            _of(self._labels, best.places),
            _of(self._groups, best.places),
            best.places,
            _of(self._keys, best.places),
        )


class _Best:
    """The k best of each of q rows so far: `scores` and `places`, (q, k), the best first."""

    def __init__(self, rows: int, k: int) -> None:
        self.scores = np.full((rows, k), -np.inf, np.float32)
        self.places = np.full((rows, k), NONE, np.int64)

    def add(self, rows: slice, scores: Floats, seen: int) -> None:
        """`scores` (m, n) of the rows with the images at the places from `seen` on."""
        worst = self.scores[rows, -1:]
        if np.isfinite(worst).all():
            row, column = np.nonzero(scores > worst)  # few, once some blocks are behind
            self.add_some(rows, row, column + seen, scores[row, column])
            return
        kept = min(self.scores.shape[1], scores.shape[1])
        top = np.argpartition(scores, scores.shape[1] - kept, axis=1)[:, -kept:]
        self._merge(np.arange(*rows.indices(len(self.scores))), _at(scores, top), top + seen)

    def add_some(self, rows: slice, row: Any, place: Numbers, score: Floats) -> None:
        """Scores of some of the rows, in no order; `row` counts from the first of `rows`."""
        if not len(row):
            return
        order = np.lexsort((-score, row))
        row, place, score = row[order], place[order], score[order]
        touched, first, turn = np.unique(row, return_index=True, return_inverse=True)
        rank = np.arange(len(row)) - first[turn]
        kept = rank < self.scores.shape[1]
        shape = (len(touched), min(self.scores.shape[1], int(rank.max()) + 1))
        scores, places = np.full(shape, -np.inf, np.float32), np.full(shape, NONE, np.int64)
        scores[turn[kept], rank[kept]] = score[kept]
        places[turn[kept], rank[kept]] = place[kept]
        self._merge(touched + (rows.start or 0), scores, places)

    def _merge(self, rows: Numbers, scores: Floats, places: Numbers) -> None:
        k = self.scores.shape[1]
        scores = np.concatenate([self.scores[rows], scores], axis=1)
        places = np.concatenate([self.places[rows], places], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        self.scores[rows] = _at(scores, order)
        self.places[rows] = np.where(np.isfinite(self.scores[rows]), _at(places, order), NONE)


def _at(values: Any, order: Any) -> Any:
    return np.take_along_axis(values, order, 1)


def _of(parts: list[Numbers], places: Numbers) -> Numbers:
    values = np.concatenate([*parts, np.full(1, NONE)])  # place -1 is the last of them
    found: Numbers = values[places]
    return found
