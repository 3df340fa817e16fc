"""Draws previews: JPEGs for people to look at, without metadata."""

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL.Image import Resampling

from pipeline.images.bare_jpeg import bare
from pipeline.images.picture import Picture
from pipeline.images.resizing import resized

# No artefact looks like structure, and a preview takes a fifth of a PNG's size.
PREVIEW_QUALITY = 88
PREVIEW_FILTER = Resampling.BILINEAR


def preview(picture: Picture, longest: int) -> bytes:
    """A JPEG of the picture with the same aspect, at most `longest` pixels on its longest side.

    It is never enlarged. A JPEG that is no larger is its own preview, without its metadata. What is
    drawn has none because a `Picture` has none.
    """
    width, height = preview_size(picture.width, picture.height, longest)
    if (width, height) != (picture.width, picture.height):
        return as_preview(resized(picture.array, height, width, PREVIEW_FILTER))
    return _own(picture) or as_preview(picture.array)


def preview_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """The (width, height) of a picture's preview."""
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def as_preview(pixels: NDArray[np.uint8]) -> bytes:
    """A JPEG of RGB (H, W, 3), or with a fourth byte that says nothing (H, W, 4)."""
    order = "RGB" if pixels.shape[2] == 3 else "RGBX"
    made: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), PREVIEW_QUALITY, order, colorsubsampling="420"
    )
    return made


def _own(picture: Picture) -> bytes | None:
    """The picture's own file, unless it is larger than its pixels, which no preview should be."""
    own = bare(picture.file) if picture.file is not None else None
    return own if own is not None and len(own) <= 3 * picture.width * picture.height else None
