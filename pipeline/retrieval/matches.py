"""Why two pictures are alike: which of their patches correspond to each other.

    found = correspond(first, second, blank)  # patch tokens of an encoder

The method is that of dense correspondences between features of vision transformers: cosines of the
patch tokens of both pictures, and the pairs that are each other's nearest, "best buddies" (Amir,
Gandelsman, Bagon, Dekel: Deep ViT Features as Dense Visual Descriptors, 2021, arXiv 2112.05814).

What is half in one patch has another token than what fills it, and two pictures
rarely lie alike on the encoder's grid. So each is seen several times, a little shifted, and every
patch with each shift is compared with every other (overlapping patches, as in the paper above).

Two things that all tokens share would hide what these pictures share. So they are taken away first:

- Of each token what the encoder makes of its place alone: the token of a blank picture there. Else
  patches at the same place are alike, whatever they show.
- What tokens have in common, by whitening: along every principal axis of the tokens of both
  pictures the variance becomes nearly the same (Jégou, Chum: Negative evidences and co-occurrences
  in image retrieval: the benefit of PCA and whitening, ECCV 2012).

A patch that is a little like everything explains nothing. So the weight of a pair is its similarity
above the mean of all pairs, times how near each is to being the other's nearest (the soft mutual
nearest neighbours of Rocco et al., Neighbourhood Consensus Networks, NeurIPS 2018). The weight of a
patch is that of its best pair.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Of the largest singular value: what an axis has at least, so that noise is not blown up. Of 0.01,
# 0.05 and 0.2 this found pasted copies best, with small and with large untrained encoders.
_LEAST_SPREAD = 0.05
_TINY = 1e-6


@dataclass(frozen=True)
class Correspondences:
    """Of (n,) patches of the first picture and (m,) of the second, in the order of their tokens.

    `similarity` is (n, m), cosines; the weights are 0 to 1. `nearest` are the indices of the most
    similar patches of the other picture. `pairs` has (first, second, whether they are each other's
    nearest): these first, and of equals the most similar first, down to the mean of all pairs.
    """

    similarity: Floats
    weights: tuple[Floats, Floats]
    nearest: tuple[NDArray[np.intp], NDArray[np.intp]]
    pairs: tuple[tuple[int, int, bool], ...]


def correspond(first: Floats, second: Floats, blank: Floats, most: int) -> Correspondences:
    """`first` (k, n, d) and `second` (k, m, d), each with k shifts, and `blank` (n, d).

    `blank` has the tokens of a picture of one colour; `most` bounds the pairs. Both pictures have
    the same number of patches: n = m. A pair is as similar as with the best of its shifts; a patch
    has the mean weight of its own.
    """
    shifts, patches, size = first.shape
    flat = ((each - blank).reshape(-1, size) for each in (first, second))
    each = cosines(*whitened(*flat))
    weights = mutual(each).reshape(shifts, patches, shifts, -1)
    similarity = each.reshape(shifts, patches, shifts, -1).max(axis=(0, 2))
    nearest = similarity.argmax(axis=1), similarity.argmax(axis=0)
    return Correspondences(
        similarity,
        (weights.max(axis=(2, 3)).mean(axis=0), weights.max(axis=(0, 1)).mean(axis=0)),
        nearest,
        _pairs(similarity, nearest, most),
    )


def whitened(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Both, in the principal axes of all their rows, nearly of one variance along each."""
    both = np.concatenate((first, second)).astype(np.float64)
    both -= both.mean(axis=0)
    variances, axes = np.linalg.eigh(both.T @ both)
    spread = np.sqrt(np.clip(variances, 0, None))
    spread += max(spread.max() * _LEAST_SPREAD, _TINY)
    both = (both @ axes / spread).astype(np.float32)
    return both[: len(first)], both[len(first) :]


def cosines(first: Floats, second: Floats) -> Floats:
    """(n, m); 0 for a row without length."""
    found: Floats = np.clip(_unit(first) @ _unit(second).T, -1, 1)
    return found


def mutual(similarity: Floats) -> Floats:
    """The weight of each pair, (n, m), 0 to 1."""
    mean = float(similarity.mean())
    above = np.clip(similarity - mean, 0, None)
    by_row = above / np.maximum(above.max(axis=1, keepdims=True), _TINY)
    by_column = above / np.maximum(above.max(axis=0, keepdims=True), _TINY)
    weights: Floats = above * by_row * by_column / max(1 - mean, _TINY)
    return weights


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)
    return unit


def _pairs(
    similarity: Floats, nearest: tuple[NDArray[np.intp], NDArray[np.intp]], most: int
) -> tuple[tuple[int, int, bool], ...]:
    there, back = nearest
    mean = similarity.mean()
    pairs = [(n, int(m), int(back[m]) == n) for n, m in enumerate(there) if similarity[n, m] > mean]
    pairs.sort(key=lambda pair: (not pair[2], -similarity[pair[0], pair[1]]))
    return tuple(pairs[:most])
