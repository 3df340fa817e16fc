"""Near-duplicates: whether two pictures are the same one, scaled, compressed or lightened.

The difference hash (dHash; N. Krawetz, "Kind of Like That", hackerfactor.com, 2013) says of each of
8 by 8 places whether the picture grows brighter there from left to right. Copies of one picture
differ in a few of the 64 bits, unrelated ones in about half of them.
"""

import numpy as np
from PIL.Image import Resampling

from pipeline.images.decoding import Picture


def difference_hash(picture: Picture) -> str:
    """16 hex digits."""
    # The gap lets Pillow shrink large scans in two steps, the first one cheap.
    small = picture.image.resize((9, 8), Resampling.BILINEAR, reducing_gap=3.0).convert("L")
    grey = np.asarray(small)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()


def hash_distance(one: str, other: str) -> int:
    """The number of bits, 0 to 64, in which two hashes differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()
