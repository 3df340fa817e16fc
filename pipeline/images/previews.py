"""Draws previews: JPEGs for people to look at, without metadata."""

import numpy as np
import simplejpeg

from pipeline.images.picture import Picture
from pipeline.images.resizing import resized

# No artefact looks like structure, and a preview takes a fifth of a PNG's size.
QUALITY = 88


def preview(picture: Picture, longest: int) -> bytes:
    """A JPEG of the picture with the same aspect, at most `longest` pixels on its longest side.

    It is never enlarged. It has no metadata because a `Picture` has none.
    """
    scale = min(1.0, longest / max(picture.view.size))
    width, height = (max(1, round(side * scale)) for side in picture.view.size)
    pixels = picture.array
    if (width, height) != picture.view.size:
        pixels = resized(pixels, height, width, "bilinear")
    order = "RGB" if pixels.shape[2] == 3 else "RGBX"
    made: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), QUALITY, order, colorsubsampling="420"
    )
    return made
