"""Makes pixels square that are longer one way than the other (PS3.3 C.7.6.3.1.7, 10.7.1)."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset

from pipeline.dicom.elements import pair

# Below a hundredth, nothing is to be seen, and what is drawn anew is a little blurred.
_LEAST = 1.01
# Beyond it, the header is wrong.
_MOST = 20.0
_LONGEST = 65_535


def squared(
    pixels: NDArray[np.uint8], header: Dataset, groups: list[Dataset], max_pixels: int
) -> NDArray[np.uint8]:
    """The same picture, enlarged along the side on which its pixels are longer.

    Where that would be more than `max_pixels`, it is made smaller along the other one.
    """
    ratio = _ratio(header, groups)
    if not 1 / _MOST <= ratio <= _MOST or max(ratio, 1 / ratio) < _LEAST:
        return pixels
    height, width = pixels.shape[:2]
    larger = (width, round(height * ratio)) if ratio > 1 else (round(width / ratio), height)
    smaller = (round(width / ratio), height) if ratio > 1 else (width, round(height * ratio))
    fits = larger[0] * larger[1] <= max_pixels and max(larger) <= _LONGEST
    size = larger if fits else (max(1, smaller[0]), max(1, smaller[1]))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def _ratio(header: Dataset, groups: list[Dataset]) -> float:
    """The height of a pixel over its width; 1 where nothing says, or it cannot be."""
    measures = (group.get("PixelMeasuresSequence") for group in groups)
    for source in (*(each[0] for each in measures if each), header):
        for name in _NAMES:
            found = pair(source, name)
            if found is not None:
                height, width = found
                return height / width if height > 0 and width > 0 else 1.0
    return 1.0


# All of them say the vertical first.
_NAMES = (
    "PixelAspectRatio",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
)
