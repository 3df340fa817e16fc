"""Finds near-duplicates: copies of one picture that were scaled, compressed, lightened or trimmed.

The perceptual hash (pHash; C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions", 2010) has one bit for each of the lowest 16 by 16 frequencies of a picture's brightness.
The bit says whether the frequency's coefficient in the discrete cosine transform is positive. Of
the 256 bits, copies of one picture differ in a few, unrelated pictures in about half.

Photographs of skin look alike: a lesion in the middle of skin. A hash of 64 bits cannot tell them
apart, and one of differences between neighbours (dHash) even less. docs/performance.md has the
figures by which this hash and its bound were chosen (`python -m benchmarks.duplicates`).
"""

import numpy as np
from PIL.Image import Resampling

from pipeline.images.picture import Picture
from pipeline.images.resizing import Resizer, resized

HASH_BITS = 256

# Bits by which the hashes of copies differ at most. Of 50 million pairs of photographs of different
# lesions, two differ in no more, and one of these shows one photograph twice.
NEAR_BITS = 40

HASHED_SIDE, HASHED_GAP = 64, 3.0  # pixels, and Pillow's `reducing_gap`
_FREQUENCIES = 16  # a side

# Brightness as Pillow computes it of red, green and blue: 65,536ths.
_BRIGHTNESS = np.array((19_595, 38_470, 7_471), np.int32)

# Coefficients up to this count as zero, in grey levels times pixels: a wave of a 25th of a grey
# level. In smooth pictures, compression turns the signs of smaller ones at random.
_ZERO = 40.0


def _cosines() -> np.ndarray:
    """The transform (DCT-II) of a row of pixels into its lowest frequencies, as a matrix."""
    frequency, pixel = np.mgrid[:_FREQUENCIES, :HASHED_SIDE]
    matrix: np.ndarray = np.cos(np.pi * frequency * (2 * pixel + 1) / (2 * HASHED_SIDE))
    return matrix.astype(np.float32)


_TRANSFORM = _cosines()


def perceptual_hash(picture: Picture, resizer: Resizer = "pillow") -> str:
    """The perceptual hash of a picture, as 64 hex digits.

    By torch it takes a third of the time. It differs in some bits, so a collection keeps to one.
    """
    if resizer == "torch":
        small = resized(picture.array, HASHED_SIDE, HASHED_SIDE, Resampling.BILINEAR)
        return hash_of((small[..., :3] @ _BRIGHTNESS + (1 << 15)) >> 16)
    return hash_of(_by_pillow(picture))


def _by_pillow(picture: Picture) -> np.ndarray:
    # The gap lets Pillow shrink large scans in two steps, and the first step is cheap.
    size, gap = (HASHED_SIDE, HASHED_SIDE), HASHED_GAP
    small = picture.image.resize(size, Resampling.BILINEAR, reducing_gap=gap)
    return np.asarray(small.convert("L"))


def hash_of(brightness: np.ndarray) -> str:
    """The hash of a picture that is resized already: integers of 0 to 255 (64, 64)."""
    bits = _TRANSFORM @ brightness.astype(np.float32) @ _TRANSFORM.T > _ZERO
    bits[0, 0] = False  # the mean brightness is always positive, and says nothing
    return np.packbits(bits).tobytes().hex()


def hashes_of(brightness: np.ndarray) -> list[str]:
    """The same of many at once: uint8 (n, 64, 64)."""
    bits = _TRANSFORM @ brightness.astype(np.float32) @ _TRANSFORM.T > _ZERO
    bits[:, 0, 0] = False
    digits = np.packbits(bits.reshape(len(bits), HASH_BITS), axis=1).tobytes().hex()
    size = HASH_BITS // 4
    return [digits[n : n + size] for n in range(0, len(digits), size)]


def hash_distance(one: str, other: str) -> int:
    """The number of differing bits of two hashes, 0 to 256."""
    return (int(one, 16) ^ int(other, 16)).bit_count()
