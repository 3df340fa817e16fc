"""Compares Kindred's vectors with the notebook's, for the same images and weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.data import Slice
from pipeline.base.identity import point_id
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from pipeline.store import open_store

NEIGHBOURS = 10


@dataclass(frozen=True)
class Fidelity:
    images: int
    neighbours: int
    lowest_cosine: float
    overlap: float  # the mean share of each image's nearest neighbours that both find


def stored_vectors(settings: Settings, encoder: Encoder, slices: Sequence[Slice]) -> np.ndarray:
    """(rows, dimensions): the vectors of the stopped system, in the order of the slices' rows."""
    store = open_store(settings.store, encoder.info)
    try:
        points = [point_id(image_id) for part in slices for image_id in part.ids]
        stored = store.retrieve(points, vectors=True)
        return np.stack([stored[point].vector for point in points])
    finally:
        store.close()


def compare(ours: np.ndarray, theirs: np.ndarray, neighbours: int = NEIGHBOURS) -> Fidelity:
    """Equal rows of both belong to the same image. The vectors' lengths do not matter."""
    a, b = _unit(ours), _unit(theirs)
    count = min(neighbours, len(a) - 1)
    pairs = zip(_nearest(a, count), _nearest(b, count), strict=True)
    shared = [len(set(x) & set(y)) / count for x, y in pairs]
    return Fidelity(len(a), count, float((a * b).sum(axis=1).min()), float(np.mean(shared)))


def notebook_vectors(files: Sequence[Path]) -> np.ndarray:
    return np.concatenate([np.load(file) for file in files])


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _nearest(vectors: np.ndarray, count: int) -> list[list[int]]:
    """The nearest other rows of each row, by cosine."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :count].tolist()
