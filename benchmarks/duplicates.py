"""`python -m benchmarks.duplicates`: which hash and bound tell copies of a picture from others.

Photographs of skin lesions are held, and searched by copies of some of them: smaller and larger,
compressed, lightened, trimmed. A false hit is a photograph of another lesion within the bound.
Other photographs of the same lesion are neither right nor wrong, and are counted apart.
"""

import argparse
import io
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from PIL.Image import Resampling

from benchmarks import machine
from benchmarks.by_id import FULL
from benchmarks.report import number, table
from pipeline.images.hashes import NEAR_BITS, perceptual_hash
from pipeline.images.picture import Picture
from pipeline.images.resizing import Resizer

SOME_COPIES = 1000  # pictures of which copies are made, each in every way
_CHUNK = 1000  # rows of the matrix of distances at a time: 40 MB for 10,015 images

Hash = Callable[[Image.Image], np.ndarray]


@dataclass(frozen=True)
class Candidate:
    """A hash, as booleans, and the most bits by which copies may differ."""

    name: str
    hash: Hash
    bounds: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """What one hash finds at one bound."""

    name: str
    bits: int
    bound: int
    ms: float  # of a core, for one hash
    recall: dict[str, float]  # the share of copies found, by how they were made
    false_hits: float  # photographs of other lesions, in one search among all
    same_lesion: int  # pairs of photographs of one lesion within the bound

    @property
    def precision(self) -> float:
        """Of what searches by copies find."""
        right = sum(self.recall.values()) / len(self.recall)
        return right / (right + self.false_hits) if right else 0.0


@dataclass(frozen=True)
class Duplicates:
    images: int
    copied: int
    found: list[Found]

    def __str__(self) -> str:
        ways = list(self.found[0].recall)
        header = ["hash, bound", "ms", "false hits", "precision", *ways, "same lesion"]
        rows = [
            [
                f"{f.name}, {f.bound} of {f.bits}",
                f"{f.ms:.2f}",
                number(f.false_hits) if f.false_hits >= 0.01 else f"{f.false_hits:.4f}",
                f"{f.precision:.4f}",
                *(f"{f.recall[way]:.3f}" for way in ways),
                f"{f.same_lesion:,}",
            ]
            for f in self.found
        ]
        return "\n".join(
            [
                table(header, rows),
                "",
                f"{self.images:,} photographs, {self.copied:,} of them copied in each way. False "
                "hits: photographs of other lesions in one search among all. Then the share of "
                "the copies that is found, and the pairs of photographs of one lesion.",
            ]
        )


# --- hashes --------------------------------------------------------------------------------------


def _grey(image: Image.Image, width: int, height: int) -> np.ndarray:
    small = image.resize((width, height), Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(small.convert("L"), dtype=np.float32)


def _differences(side: int) -> Hash:
    """dHash: whether the picture grows brighter from left to right (N. Krawetz, 2013)."""

    def made(image: Image.Image) -> np.ndarray:
        grey = _grey(image, side + 1, side)
        return (grey[:, 1:] > grey[:, :-1]).ravel()

    return made


def _frequencies(image: Image.Image) -> np.ndarray:
    """pHash as it is known: 8 by 8 frequencies of 32 by 32 pixels, against their median."""
    frequency, pixel = np.mgrid[:9, :32]
    transform = np.cos(np.pi * frequency * (2 * pixel + 1) / 64)
    low = (transform @ _grey(image, 32, 32) @ transform.T)[1:, 1:].ravel()
    return low > np.median(low)


def _kindreds(resizer: Resizer) -> Hash:
    def made(image: Image.Image) -> np.ndarray:
        packed = bytes.fromhex(perceptual_hash(Picture(image), resizer))
        return np.unpackbits(np.frombuffer(packed, np.uint8)).astype(bool)

    return made


CANDIDATES = (
    Candidate("dHash (until now: the page's bound)", _differences(8), (10,)),
    Candidate("dHash (until now: the CLI's advice)", _differences(8), (6,)),
    Candidate("dHash", _differences(16), (16, 24)),
    Candidate("pHash", _frequencies, (4, 8)),
    Candidate("Kindred's pHash", _kindreds("pillow"), (32, NEAR_BITS, 48)),
    Candidate("Kindred's pHash, by torch", _kindreds("torch"), (32, NEAR_BITS, 48)),
)


# --- copies --------------------------------------------------------------------------------------


def _scaled(image: Image.Image, factor: float) -> Image.Image:
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Resampling.BICUBIC)


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    image.save(out := io.BytesIO(), "JPEG", quality=quality)
    return Image.open(out).convert("RGB")


def _trimmed(image: Image.Image, part: float) -> Image.Image:
    x, y = round(image.width * part / 2), round(image.height * part / 2)
    return image.crop((x, y, image.width - x, image.height - y))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half size": lambda image: _scaled(image, 0.5),
    "3/4 size": lambda image: _scaled(image, 0.75),
    "twice the size": lambda image: _scaled(image, 2),
    "JPEG 90": lambda image: _compressed(image, 90),
    "JPEG 60": lambda image: _compressed(image, 60),
    "JPEG 40": lambda image: _compressed(image, 40),
    "half size, JPEG 40": lambda image: _compressed(_scaled(image, 0.5), 40),
    "12 levels lighter": lambda image: image.point(lambda value: min(255, value + 12)),
    "15 % lighter": lambda image: image.point(lambda value: min(255, int(value * 1.15))),
    "2 % trimmed": lambda image: _trimmed(image, 0.02),
    "5 % trimmed": lambda image: _trimmed(image, 0.05),
}


# --- measuring -----------------------------------------------------------------------------------


def measure(rows: int, copied: int, source: Path = FULL) -> Duplicates | None:
    """Of the first `rows` images, shuffled; None if there is no folder of real images."""
    if not source.is_dir():
        return None
    cells = pq.read_table(source, columns=["image", "lesion_id"])
    chosen = cells.take(np.random.default_rng(0).permutation(cells.num_rows)[:rows])
    images = [_opened(cell["bytes"]) for cell in chosen["image"].to_pylist()]
    lesions = np.unique(chosen["lesion_id"].to_pylist(), return_inverse=True)[1]
    copies = {way: [make(image) for image in images[:copied]] for way, make in COPIES.items()}
    found = [f for each in CANDIDATES for f in _measured(each, images, lesions, copies)]
    return Duplicates(len(images), min(copied, len(images)), found)


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _measured(
    candidate: Candidate,
    images: Sequence[Image.Image],
    lesions: np.ndarray,
    copies: dict[str, list[Image.Image]],
) -> list[Found]:
    start = time.thread_time()
    hashes = np.stack([candidate.hash(image) for image in images])
    ms = 1000 * (time.thread_time() - start) / len(images)
    apart = {
        way: (np.stack([candidate.hash(copy) for copy in made]) != hashes[: len(made)]).sum(axis=1)
        for way, made in copies.items()
    }
    others, same = pairs_by_distance(hashes, lesions)
    return [
        Found(
            candidate.name,
            hashes.shape[1],
            bound,
            ms,
            {way: float((distances <= bound).mean()) for way, distances in apart.items()},
            2 * int(others[: bound + 1].sum()) / len(images),
            int(same[: bound + 1].sum()),
        )
        for bound in candidate.bounds
    ]


def pairs_by_distance(hashes: np.ndarray, lesions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of pairs at each distance, 0 to all bits: of different lesions, and of the same.

    `hashes` are booleans of shape (images, bits), `lesions` one number for each image.
    """
    count, bits = hashes.shape
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    others, same = np.zeros(bits + 1, int), np.zeros(bits + 1, int)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        distances = np.rint((bits - signs[part] @ signs.T) / 2).astype(int)
        later = np.arange(count) > np.arange(count)[part, None]  # each pair once
        alike = lesions[part, None] == lesions
        others += np.bincount(distances[later & ~alike], minlength=bits + 1)
        same += np.bincount(distances[later & alike], minlength=bits + 1)
    return others, same


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.duplicates", description=__doc__)
    parser.add_argument("--images", type=Path, default=FULL, help="a folder of parquet files")
    parser.add_argument("--rows", type=int, default=10_015)
    arguments = parser.parse_args()
    measured = measure(arguments.rows, SOME_COPIES, arguments.images)
    if measured is None:
        print(f"{arguments.images} is no folder", file=sys.stderr)
        return 1
    described = machine.describe()
    print(table(["measured on", ""], [[k, described[k]] for k in ("cpu", "cores", "python")]))
    print(f"\n{measured}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
