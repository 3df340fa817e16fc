"""Finds near-duplicates: copies of one picture that were scaled, compressed or lightened.

The difference hash (dHash; N. Krawetz, "Kind of Like That", hackerfactor.com, 2013) has one bit for
each of 8 by 8 cells. The bit says whether the picture grows brighter there from left to right.
Copies of one picture differ in a few of the 64 bits, unrelated pictures in about half of them.
"""

import numpy as np
from PIL.Image import Resampling

from pipeline.images.decoding import Picture


def difference_hash(picture: Picture) -> str:
    """The difference hash of a picture, as 16 hex digits."""
    # The gap lets Pillow shrink large scans in two steps, and the first step is cheap.
    small = picture.image.resize((9, 8), Resampling.BILINEAR, reducing_gap=3.0).convert("L")
    grey = np.asarray(small)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()


def hash_distance(one: str, other: str) -> int:
    """The number of differing bits of two hashes, 0 to 64."""
    return (int(one, 16) ^ int(other, 16)).bit_count()
