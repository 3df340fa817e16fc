"""The baseline that an encoder must beat: a histogram of colours.

32 bins for each of red, green and blue, compared by Hellinger's distance (the Bhattacharyya
coefficient): the cosine of the roots of the shares. A picture of skin says much by its colours
alone, so better than chance proves nothing.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BINS = 32


def histogram(picture: Image.Image) -> NDArray[np.float32]:
    """float32 (96,), of length 1: roots of the shares of pixels in each bin."""
    counts = np.array(picture.convert("RGB").histogram(), np.float32)
    binned = counts.reshape(3 * BINS, 256 // BINS).sum(1)
    found: NDArray[np.float32] = np.sqrt(binned / binned.sum())
    return found
