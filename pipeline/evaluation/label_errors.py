"""Images whose neighbours all contradict their label, ranked by how strongly they do.

That a wrong label shows in the labels of the nearest neighbours is long known (D. L. Wilson,
"Asymptotic properties of nearest neighbor rules using edited data", 1972), and holds for the
features of trained encoders without training anything (Z. Zhu, Z. Dong, Y. Liu, "Detecting
corrupted labels without training a model to predict", ICML 2022: SimiFeat, which asks 10
neighbours).

Neighbours that are more similar have more to say (S. A. Dudani, "The distance-weighted
k-nearest-neighbor rule", 1976). What is similar differs between encoders, so a neighbour's weight
`w` is its standing: of all images' neighbours, the share that is no more similar.

    evidence = max over labels y of sum(w of the neighbours labelled y) / k

So it is 1 if all `k` neighbours have one other label and none in the collection is more similar.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Suspects:
    """`rows` of the audited images, the strongest evidence first, with it and the label that the
    neighbours speak for. `judged` is how many images had a label and enough neighbours."""

    rows: Numbers
    evidence: Floats
    suggested: Numbers
    judged: int


def suspects(labels: Numbers, neighbour_labels: Numbers, similarities: Floats) -> Suspects:
    """Of `n` images with `k` neighbours each: those whose neighbours all have another label.

    `labels` int64 (n,), `neighbour_labels` int64 (n, k), -1 where there is none; `similarities`
    (n, k), cosines. An image needs a label, and half of its `k` neighbours.
    """
    known = neighbour_labels >= 0
    judged = (labels >= 0) & (known.sum(1) * 2 >= neighbour_labels.shape[1])
    rows = np.flatnonzero(judged & ~(neighbour_labels == labels[:, None]).any(1))
    if not len(rows):
        return Suspects(rows, np.zeros(0), np.zeros(0, np.int64), int(judged.sum()))
    weights = _standing(similarities, known)[rows]
    classes, heard = _votes(neighbour_labels[rows], weights)
    evidence = heard.max(1) / neighbour_labels.shape[1]
    order = np.argsort(-evidence, kind="stable")
    suggested = classes[heard.argmax(1)]
    return Suspects(rows[order], evidence[order], suggested[order], int(judged.sum()))


def _votes(neighbour_labels: Numbers, weights: Floats) -> tuple[Numbers, Floats]:
    """The labels, and (n, labels): the weight of each among an image's neighbours."""
    classes, code = np.unique(neighbour_labels, return_inverse=True)
    votes = np.zeros((len(neighbour_labels), len(classes)))
    np.add.at(
        votes, (np.arange(len(votes))[:, None], code.reshape(neighbour_labels.shape)), weights
    )
    return classes, votes


def _standing(similarities: Floats, known: NDArray[np.bool_]) -> Floats:
    """Of each neighbour, the share of all neighbours that are no more similar; 0 for none."""
    every = np.sort(similarities[known])
    standing = np.searchsorted(every, similarities, side="right") / len(every)
    return np.where(known, standing, 0.0)
