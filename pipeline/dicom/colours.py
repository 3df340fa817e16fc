"""Colours of any kind to RGB of eight bits (PS3.3 C.7.6.3.1.2). ICC profiles are ignored."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut

from pipeline.dicom.errors import COLOURS, NO_PALETTE, Refused
from pipeline.dicom.shades import Bits

Pixels = NDArray[np.uint8]

# Rows that are computed at once where no library converts.
_AT_ONCE = 2**18


def of_palette(words: NDArray[Any], bits: Bits, header: Dataset) -> Pixels:
    """(H, W, 3) of (H, W). Raises Refused."""
    size = words.dtype.itemsize
    if size > 2:
        raise Refused(COLOURS)
    values = bits.values(np.arange(1 << 8 * size, dtype=f"u{size}"))
    try:
        table = apply_color_lut(values, header)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - see reading.refusing
        raise Refused(NO_PALETTE) from None
    # Some makers write bytes, and that they are words.
    if table.dtype.itemsize == 2 and table.max() > 255:
        table = table >> 8
    return np.take(table.astype(np.uint8), words, axis=0)


def eight_bits(values: NDArray[Any], bits: Bits) -> Pixels:
    """The upper eight of the bits that are stored; fewer are spread over all shades."""
    if values.dtype == np.uint8 and bits.count == 8:
        return values.view(np.uint8)
    plain = Bits(bits.count, bits.shift, signed=False).values(values)
    if bits.count >= 8:
        upper: Pixels = np.right_shift(plain, bits.count - 8).astype(np.uint8)
        return upper
    highest = (1 << bits.count) - 1
    table = (np.arange(highest + 1) * 255 // highest).astype(np.uint8)
    return np.take(table, plain)


def rgb(values: Pixels, photometric: str) -> Pixels:
    """Of (H, W, 3) in the colours that a header names. Raises Refused."""
    if photometric in ("RGB", "YBR_RCT", "YBR_ICT"):
        return values
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        image = Image.fromarray(np.ascontiguousarray(values), "YCbCr")
        return np.asarray(image.convert("RGB"))
    if photometric == "YBR_PARTIAL_422":
        return _of_partial(values)
    raise Refused(COLOURS)


def _of_partial(values: Pixels) -> Pixels:
    """ITU-R BT.601: luminance from 16 to 235, colours from 16 to 240."""
    made = np.empty(values.shape, np.uint8)
    from_ybr = np.array(
        [[1.1644, 0.0, 1.5960], [1.1644, -0.3917, -0.8129], [1.1644, 2.0173, 0.0]], np.float32
    )
    rows = max(1, _AT_ONCE // values.shape[1])
    for at in range(0, len(values), rows):
        part = values[at : at + rows].astype(np.float32) - np.array([16, 128, 128], np.float32)
        made[at : at + rows] = np.clip(np.rint(part @ from_ybr.T), 0, 255)
    return made
