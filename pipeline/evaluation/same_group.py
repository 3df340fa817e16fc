"""How well the other images of a searched image's group are found: a lesion's other photographs.

Here nothing but the image itself is left out. Two numbers for each depth k:

recall_at_k   the share of the group's other images that are among the first k
any_at_k      the share of searches that find at least one of them among the first k
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.intervals import estimate
from pipeline.evaluation.neighbours import Neighbours
from pipeline.evaluation.stopping import Check, never
from pipeline.messages.evaluations import Estimate

DEPTHS = (1, 5, 10)

Numbers = NDArray[np.int64]


def same_group(
    others: Neighbours,
    mates: Neighbours,
    is_mate: NDArray[np.bool_],
    sizes: Numbers,
    clusters: Numbers,
    seed: int,
    check: Check = never,
) -> dict[str, Estimate] | None:
    """None where no group has several images.

    `others` and `mates` (q, k) are the nearest outside of the searched image's cluster and inside;
    `is_mate` (q, k) says which of the latter are of its very group, `sizes` (q,) how many there are
    in the whole collection.
    """
    several = sizes > 0
    if not several.any():
        return None
    found = _merged(others, mates, is_mate)[several]
    values = {f"recall_at_{k}": found[:, :k].sum(1) / sizes[several] for k in DEPTHS} | {
        f"any_at_{k}": found[:, :k].any(1).astype(float) for k in DEPTHS
    }
    columns, whole = np.stack(list(values.values()), 1), np.zeros(int(several.sum()), np.int64)
    estimates = estimate(columns, whole, clusters[several], 1, seed, check=check)
    return dict(zip(values, estimates.overall, strict=True))


def _merged(others: Neighbours, mates: Neighbours, is_mate: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(q, k): which of the nearest of all images are of the searched one's group."""
    scores = np.concatenate([mates.scores, others.scores], axis=1)
    ours = np.concatenate([is_mate, np.zeros_like(is_mate)], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, : others.scores.shape[1]]
    found: NDArray[np.bool_] = np.take_along_axis(ours, order, 1)
    return found
