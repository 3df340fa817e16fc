"""Draws previews: JPEGs for people to look at, without metadata."""

import numpy as np
import simplejpeg

from pipeline.images.bare_jpeg import bare
from pipeline.images.picture import Picture
from pipeline.images.resizing import resized

# No artefact looks like structure, and a preview takes a fifth of a PNG's size.
QUALITY = 88


def preview(picture: Picture, longest: int) -> bytes:
    """A JPEG of the picture with the same aspect, at most `longest` pixels on its longest side.

    It is never enlarged. A JPEG that is no larger is its own preview, without its metadata. What is
    drawn has none because a `Picture` has none.
    """
    if max(picture.image.size) <= longest and (own := _own(picture)) is not None:
        return own
    scale = min(1.0, longest / max(picture.image.size))
    width, height = (max(1, round(side * scale)) for side in picture.image.size)
    pixels = picture.array
    if (width, height) != picture.image.size:
        pixels = resized(pixels, height, width, "bilinear")
    order = "RGB" if pixels.shape[2] == 3 else "RGBX"
    made: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), QUALITY, order, colorsubsampling="420"
    )
    return made


def _own(picture: Picture) -> bytes | None:
    """The picture's own file, unless it is larger than its pixels, which no preview should be."""
    own = bare(picture.file) if picture.file is not None else None
    return own if own is not None and len(own) <= 3 * picture.width * picture.height else None
