"""The labels of a collection as codes, and how many images each searched one could find."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import InvalidQuery
from pipeline.evaluation.collected import NONE

MOST_LABELS = 100

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Labels:
    """`names` (c,) in their order, which a code counts; `numbers` (c,) sorted, of `order`'s codes.

    `held` (c,) says how many images of the collection have each.
    """

    names: Sequence[str]
    numbers: Numbers
    order: Numbers
    held: Numbers

    @classmethod
    def of(cls, labels: Numbers, names: Mapping[int, str]) -> "Labels":
        """Raises InvalidQuery for a field that does not divide images into classes."""
        numbers, held = np.unique(labels, return_counts=True)
        if len(numbers) < 2:
            raise InvalidQuery("Fewer than two values of this field are there.", ("label",))
        if len(numbers) > MOST_LABELS:
            raise InvalidQuery(
                f"This field has more than {MOST_LABELS} values: it is no label.", ("label",)
            )
        by_name = sorted(range(len(numbers)), key=lambda place: names[int(numbers[place])])
        order = np.argsort(by_name)
        return cls([names[int(numbers[place])] for place in by_name], numbers, order, held[by_name])

    def __len__(self) -> int:
        return len(self.names)

    def codes(self, labels: Numbers) -> Numbers:
        """0 to c - 1 in place of numbers, of any shape; -1 stays."""
        at = np.searchsorted(self.numbers, labels).clip(max=len(self.numbers) - 1)
        found: Numbers = np.where(self.numbers[at] == labels, self.order[at], NONE)
        return found


def findable(
    labels: Numbers, clusters: Numbers, own: Numbers, own_cluster: Numbers
) -> tuple[Numbers, Numbers]:
    """For each of q searched images (`own` labels and clusters): how many images of other clusters
    have its label, and how many there are. `labels` and `clusters` are of all images, (n,)."""
    _, label = np.unique(np.concatenate([labels, own]), return_inverse=True)
    _, cluster = np.unique(np.concatenate([clusters, own_cluster]), return_inverse=True)
    _, both = np.unique(label * (cluster.max(initial=0) + 1) + cluster, return_inverse=True)
    count = len(labels)

    def held(values: Numbers) -> Numbers:
        sizes: Numbers = np.bincount(values[:count], minlength=values.max(initial=0) + 1)
        return sizes[values[count:]]

    return held(label) - held(both), count - held(cluster)
