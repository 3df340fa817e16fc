"""Decodes plain JPEGs faster than Pillow does, and names the kinds of JPEG that are not read.

ITU-T T.81 has more than programs write.
"""

import re

import simplejpeg
from PIL.Image import Transpose
from PIL.ImageFile import ImageFile

from pipeline.images.picture import Picture

# Start of frame (T.81, table B.1): baseline, extended and progressive are read, in both codings.
# DHT, JPG and DAC share the range.
_READ, _NO_FRAME = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA), (0xC4, 0xC8, 0xCC)
_FRAME = re.compile(rb"\xff([\xc0-\xcf])..(.)", re.DOTALL)
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)

# By EXIF's orientation. As Pillow's `ImageOps.exif_transpose`.
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112


def plain(opened: ImageFile, data: bytes) -> Picture | None:
    """The picture of a JPEG in colour or grey; None if only Pillow can tell what it shows.

    `opened` is Pillow's of `data`, whose pixels are not loaded. The pixels are the same, from the
    same library without Pillow's detours. What that library merely warns of, Pillow reads in its
    own way, or not.
    """
    if opened.format not in ("JPEG", "MPO") or opened.mode not in ("RGB", "L"):
        return None
    try:
        array = simplejpeg.decode_jpeg(data, "RGBX", strict=True)
    except ValueError:
        return None
    height, width = array.shape[:2]
    if (width, height) != opened.size:
        return None
    turn, picture = _turn(opened), Picture.of(array, data)
    return picture if turn is None else Picture(picture.image.transpose(turn))


def _turn(opened: ImageFile) -> Transpose | None:
    try:
        return _TURNS.get(opened.getexif().get(_ORIENTATION, 1))
    except MemoryError:  # going on would use the image in the wrong orientation
        raise
    except Exception:  # noqa: BLE001 - the pixels can be fine although the EXIF is broken
        return None


def unread(data: bytes) -> str | None:
    """The name of an intact JPEG's encoding that is not read; None if the file is damaged."""
    for found in _FRAME.finditer(data):
        process, bits = found[1][0], found[2][0]
        if process not in _NO_FRAME:
            return _name(process, bits)
    return None


def _name(process: int, bits: int) -> str | None:
    if process in _LOSSLESS:
        return "a lossless JPEG"
    if process not in _READ:
        return "a hierarchical JPEG"
    return "a JPEG of 12 bits a channel" if bits == 12 else None
