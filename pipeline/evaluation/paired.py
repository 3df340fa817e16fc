"""Whether two rankings of the same images differ by more than chance: a test over groups.

Images of one group show one lesion or one patient, so they are no independent evidence: groups
exchange their results as a whole.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

from pipeline.evaluation.stopping import Check, never

PERMUTATIONS = 9999
# Values of the null distribution in memory at once: 16 MB, and between two checks.
_CELLS = 2_000_000

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


def p_values(
    change: Floats, classes: Numbers, groups: Numbers, seed: int = 0, check: Check = never
) -> Floats:
    """(metrics,) two-sided p-values of `change` (images, metrics), one ranking less the other.

    The mean is that over `classes` (images,) of their means: give zeros for that over images. Where
    neither ranking is better, the difference of each group is as likely to have the other sign. All
    ways to exchange are tried if they are at most PERMUTATIONS, else so many at random, and then 1
    is added to both counts (Phipson and Smyth, 2010, "Permutation p-values should never be zero").
    """
    by_group = _parts(change, classes, groups)

    def summed(values: Floats, axis: int) -> Floats:
        check()
        found: Floats = values.sum(axis)
        return found

    found = permutation_test(
        (by_group,),
        summed,
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=max(1, _CELLS // by_group.size),
        axis=-1,
        rng=np.random.default_rng(seed),
    )
    p: Floats = np.minimum(found.pvalue, 1.0)
    return p


def _parts(change: Floats, classes: Numbers, groups: Numbers) -> Floats:
    """(metrics, groups): what each group adds to the mean."""
    _, kind, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    _, group = np.unique(groups, return_inverse=True)
    weights = 1 / (sizes[kind] * len(sizes))
    parts = np.zeros((int(group.max()) + 1, change.shape[1]))
    np.add.at(parts, group, change * weights[:, None])
    return parts.T
