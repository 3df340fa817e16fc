"""Finds images of different groups that show one picture, and makes one group of theirs.

Two pictures are near-duplicates if their perceptual hashes differ in at most NEAR_BITS of 256 bits
(`pipeline/images/hashes.py`), or their bytes are the same. Left among the neighbours, a copy of the
searched image itself would be found, which proves nothing.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.collected import NONE, Collected
from pipeline.evaluation.stopping import Check, never
from pipeline.images.hashes import HASH_BITS, NEAR_BITS

ROWS = 1000  # images compared with a page in one step

Numbers = NDArray[np.int64]


@dataclass
class Pairs:
    """Pairs of the searched images with all others, found as pages come.

    `searched`, `found`: int64 (pairs,), the keys of both, each pair once. `other_label` (pairs,).
    """

    queries: Collected
    check: Check = never
    _found: list[tuple[Numbers, Numbers, NDArray[np.bool_]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._signs = signs(self.queries.hashes)

    def add(self, block: Collected) -> None:
        theirs = signs(block.hashes)
        for start in range(0, len(self.queries), ROWS):
            self.check()
            self._compare(slice(start, start + ROWS), block, theirs)

    def _compare(self, rows: slice, block: Collected, theirs: NDArray[np.float32]) -> None:
        queries = self.queries
        # The product of two rows of signs is the bits that agree less those that differ.
        near = self._signs[rows] @ theirs.T >= HASH_BITS - 2 * NEAR_BITS
        digests = queries.digests[rows, None]
        near |= (digests == block.digests[None, :]) & (digests != NONE)
        near &= queries.groups[rows, None] != block.groups[None, :]
        row, column = np.nonzero(near)
        if len(row):
            other = queries.labels[rows][row] != block.labels[column]
            self._found.append((queries.keys[rows][row], block.keys[column], other))

    def all(self) -> tuple[Numbers, Numbers, NDArray[np.bool_]]:
        """The keys of both images of each pair, and whether their labels differ."""
        if not self._found:
            none = np.zeros(0, np.int64)
            return none, none, none.astype(bool)
        one, other, differ = (np.concatenate(part) for part in zip(*self._found, strict=True))
        pairs = np.stack([np.minimum(one, other), np.maximum(one, other)])
        unique, first = np.unique(pairs, axis=1, return_index=True)
        return unique[0], unique[1], differ[first]


def signs(hashes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 (n, 256) of hashes (n, 32): 1 or -1 for each bit; 0 where there is no hash."""
    bits = np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
    bits[~hashes.any(axis=1)] = 0
    return bits
