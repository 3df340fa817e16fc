"""Makes any number of artificial vectors with the structure of real ones.

    python -m benchmarks.embeddings     compares real vectors with artificial ones

Uniform noise has no neighbours worth finding, so searching it says nothing about searching images.
The hub's weights were not available, so the real vectors are features that the 10,015 images teach
themselves. Patches of 6x6 pixels are clustered (k-means, 384 means), and an image is the mean
nearness of its patches to each (Coates, Lee and Ng, 2011, "An analysis of single-layer networks in
unsupervised feature learning"). Unscaled, three directions (brightness and colour) hold 97 % of the
variance, which makes searching easy; so each direction is scaled down to the root of its spread.
`Structure` measures the result, and `Maker` is fitted to it. A trained encoder spreads its images
differently.
"""

import io
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from benchmarks.data import SHARED
from benchmarks.report import number, table

Floats = NDArray[np.float32]

FULL = SHARED.with_name("skin_cancer_full")
DIMENSIONS = 384
PATCH = 6  # pixels a side
SIZE = (64, 48)  # of an image, in pixels

# --- the parameters of `make`; see docs/scale.md --------------------------------------------------

CLASSES = 7
CLASS_WEIGHTS = (6705, 1113, 1099, 514, 327, 142, 115)  # images of each diagnosis in HAM10000
IMAGES_A_LESION = 1.34  # 10,015 images of 7,470 lesions
LESIONS_A_FAMILY = 48  # lesions that look alike, around one centre
DECAY = 1.4  # the variance along the i-th direction falls as i ** -DECAY
BETWEEN_CLASSES, BETWEEN_FAMILIES, BETWEEN_LESIONS, WITHIN_LESION = 0.11, 0.50, 0.12, 0.27
TABLE = 1021  # prime, so that families and positions in the table are unrelated
WIDTHS = 0.35  # the spread of the logarithm of a family's width: some are tight, some are wide


@dataclass(frozen=True)
class Structure:
    """Cosines, and the number of dimensions that vectors fill (Facco and others, 2017, "TwoNN")."""

    any_pair: float  # median
    nearest_low: float  # of the nearest neighbour: percentile 5, median, percentile 95
    nearest: float
    nearest_high: float
    same_lesion: float  # median over pairs of images of one lesion
    intrinsic_dimension: float
    directions_for_90_percent: float  # of the variance

    @classmethod
    def of(cls, vectors: Floats, lesions: NDArray[np.int64], sample: int = 2000) -> "Structure":
        """`vectors` (n, dimensions) have length 1; `lesions` (n,) names the lesion of each."""
        rng = np.random.default_rng(0)
        chosen = rng.permutation(len(vectors))[:sample]
        cosines = vectors[chosen] @ vectors.T
        any_pair = float(np.median(cosines[:, rng.permutation(len(vectors))[:sample]]))
        cosines[np.arange(len(chosen)), chosen] = -1
        first, second = -np.partition(-cosines, 1)[:, :2].T
        near, far = np.sqrt(2 - 2 * np.minimum(np.stack([first, second]), 1 - 1e-7))
        order = np.argsort(lesions, kind="stable")
        pairs = order[:-1], order[1:]
        same = lesions[pairs[0]] == lesions[pairs[1]]
        alike = np.einsum("ij,ij->i", vectors[pairs[0][same]], vectors[pairs[1][same]])
        variances = np.linalg.eigvalsh(np.cov(vectors, rowvar=False))[::-1]
        low, middle, high = np.percentile(first, [5, 50, 95])
        return cls(
            any_pair=any_pair,
            nearest_low=float(low),
            nearest=float(middle),
            nearest_high=float(high),
            same_lesion=float(np.median(alike)),
            intrinsic_dimension=float(1 / np.mean(np.log(far / near))),
            directions_for_90_percent=float(
                np.searchsorted(np.cumsum(variances) / variances.sum(), 0.9) + 1
            ),
        )


@dataclass(frozen=True)
class Made:
    """`vectors` float32 (n, DIMENSIONS) of length 1; `classes` and `lesions` int64 (n,)."""

    vectors: Floats
    classes: NDArray[np.int64]
    lesions: NDArray[np.int64]


class Maker:
    """Draws images, batch by batch, from one population of `images`."""

    def __init__(self, images: int, seed: int = 0) -> None:
        rng = np.random.default_rng([seed, images])
        self._seed = seed
        scale = np.arange(1, DIMENSIONS + 1) ** (-DECAY / 2)
        self._scale = (scale / np.sqrt((scale**2).sum())).astype(np.float32)
        self._turn = np.linalg.qr(rng.normal(size=(DIMENSIONS, DIMENSIONS)))[0].astype(np.float32)
        self._lesions = max(1, round(images / IMAGES_A_LESION))
        families = max(CLASSES, self._lesions // LESIONS_A_FAMILY)
        self._class_of = rng.choice(
            CLASSES, size=families, p=np.array(CLASS_WEIGHTS) / sum(CLASS_WEIGHTS)
        )
        centres = self._draw(rng, CLASSES, BETWEEN_CLASSES)
        self._families = centres[self._class_of] + self._draw(rng, families, BETWEEN_FAMILIES)
        halves = self._draw(rng, 2 * TABLE, BETWEEN_LESIONS / 2)
        self._halves = halves.reshape(2, TABLE, DIMENSIONS)
        self._width = np.exp(rng.normal(scale=WIDTHS, size=families)).astype(np.float32)

    def make(self, count: int, part: int = 0) -> Made:
        """Draws the same images for the same `part`. Several parts may share a lesion."""
        rng = np.random.default_rng([self._seed, 1, part])
        lesions = rng.integers(self._lesions, size=count)
        families = lesions % len(self._families)
        width = self._width[families, None]
        own = self._lesion_centres(lesions) * width
        vectors = self._families[families] + own + self._draw(rng, count, WITHIN_LESION) * width
        vectors = vectors @ self._turn
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Made(vectors.astype(np.float32), self._class_of[families], lesions)

    def _lesion_centres(self, lesions: NDArray[np.int64]) -> Floats:
        """Each centre is the sum of two table rows: a million rows would fill the memory."""
        high, low = np.divmod(lesions, TABLE)
        return self._halves[0, low] + self._halves[1, high % TABLE]

    def _draw(self, rng: np.random.Generator, count: int, variance: float) -> Floats:
        return _normal(rng, count) * self._scale * np.float32(np.sqrt(variance))


def _normal(rng: np.random.Generator, count: int) -> Floats:
    return rng.standard_normal((count, DIMENSIONS), dtype=np.float32)


# --- real vectors --------------------------------------------------------------------------------


def real(folder: Path = FULL) -> tuple[Floats, NDArray[np.int64]]:
    """The features of the real images, of length 1, and the lesion that each image shows."""
    rows = pq.read_table(folder, columns=["image", "lesion_id"])
    _, lesions = np.unique(rows["lesion_id"].to_pylist(), return_inverse=True)
    images = np.stack([_pixels(cell["bytes"]) for cell in rows["image"].to_pylist()])
    rng = np.random.default_rng(0)
    some = np.concatenate([_patches(images[n])[::97] for n in rng.permutation(len(images))[:3000]])
    mean, whiten = _whitening(some)
    means = _k_means((some - mean) @ whiten, DIMENSIONS)
    near = np.concatenate([_nearness((_patches(i) - mean) @ whiten, means) for i in images])
    places, spread, _ = np.linalg.svd(near - near.mean(0), full_matrices=False)
    vectors = places * np.sqrt(spread)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), lesions


def _pixels(data: bytes) -> Floats:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB").resize(SIZE), np.float32) / 255


def _patches(image: Floats) -> Floats:
    """All patches of an image, (n, 3 * PATCH**2). They overlap by half, and have no brightness and
    contrast."""
    views = np.lib.stride_tricks.sliding_window_view(image, (PATCH, PATCH), axis=(0, 1))
    rows = views[:: PATCH // 2, :: PATCH // 2].reshape(-1, 3 * PATCH**2)
    rows = rows - rows.mean(1, keepdims=True) * 0.5  # colour tells lesions apart: half of it stays
    return rows / (rows.std(1, keepdims=True) + 0.05)


def _whitening(rows: Floats) -> tuple[Floats, Floats]:
    mean = rows.mean(0)
    values, axes = np.linalg.eigh(np.cov(rows - mean, rowvar=False))
    return mean, (axes / np.sqrt(values + 0.1) @ axes.T).astype(np.float32)


def _k_means(rows: Floats, count: int, rounds: int = 10) -> Floats:
    means = rows[np.random.default_rng(1).permutation(len(rows))[:count]]
    for _ in range(rounds):
        nearest = np.argmin((means**2).sum(1) - 2 * rows @ means.T, axis=1)
        sums = np.zeros_like(means)
        np.add.at(sums, nearest, rows)
        sizes = np.bincount(nearest, minlength=count)[:, None]
        means = np.where(sizes, sums / np.maximum(sizes, 1), means).astype(np.float32)
    return means


def _nearness(rows: Floats, means: Floats) -> Floats:
    """(1, DIMENSIONS): how much nearer each mean is than the average mean, over all patches."""
    squares = (rows**2).sum(1)[:, None] + (means**2).sum(1) - 2 * rows @ means.T
    distances = np.sqrt(np.maximum(squares, 0))
    return np.maximum(0, distances.mean(1, keepdims=True) - distances).mean(0, keepdims=True)


def compare() -> Iterator[tuple[str, Structure]]:
    vectors, lesions = real()
    yield "of real images", Structure.of(vectors, lesions)
    made = Maker(len(vectors)).make(len(vectors))
    yield "made", Structure.of(made.vectors, made.lesions)


def main() -> int:
    columns = dict(compare())
    names = list(asdict(next(iter(columns.values()))))
    rows = [[n, *(number(asdict(c)[n]) for c in columns.values())] for n in names]
    print(table(["", *columns], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
