"""Frames that are not compressed (PS3.5 8.1.1 and Annex D)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dicom.errors import BROKEN, NO_FRAME, Refused
from pipeline.dicom.stored import Attributes

Array = NDArray[Any]


def frame_bits(attributes: Attributes) -> int:
    """Of one frame. YBR_FULL_422 has half of the colours: four samples for two pixels."""
    samples = 2 if halved(attributes) else attributes.samples
    return attributes.rows * attributes.columns * samples * attributes.allocated


def halved(attributes: Attributes) -> bool:
    return attributes.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422")


def frame_of(
    data: memoryview, attributes: Attributes, index: int, *, big: bool, words: bool
) -> Array:
    """The words as they are stored, unsigned, of the shape of `attributes`; bits as uint8 0 or 1.

    `data` is the value of the element, or what is left of it; `big`: big-endian; `words`: its type
    is OW, so that big-endian bytes are swapped in pairs. Raises Refused.
    """
    bits = frame_bits(attributes)
    start, end = index * bits, (index + 1) * bits
    swapped = big and words and attributes.allocated <= 8
    if -(-end // 8) > len(data):
        raise Refused(NO_FRAME if start // 8 >= len(data) and index else BROKEN)
    if attributes.allocated == 1:
        return _bits(_bytes(data, start // 8, -(-end // 8), swapped), start % 8, attributes)
    values = _bytes(data, start // 8, end // 8, swapped)
    words_ = values.view(f"{'>' if big else '<'}u{attributes.allocated // 8}")
    native = words_.astype(words_.dtype.newbyteorder("="), copy=False)
    return _full(native, attributes) if halved(attributes) else shaped(native, attributes)


def shaped(values: Array, attributes: Attributes, *, planar: bool | None = None) -> Array:
    """(H, W), or (H, W, 3) of what may lie plane by plane."""
    planar = attributes.planar if planar is None else planar
    if attributes.samples > 1 and planar:
        planes = values.reshape(attributes.samples, attributes.rows, attributes.columns)
        return planes.transpose(1, 2, 0)
    return values.reshape(attributes.shape)


def _bytes(data: memoryview, start: int, end: int, swapped: bool) -> NDArray[np.uint8]:
    if not swapped:
        return np.frombuffer(data[start:end], np.uint8)
    first, last = start & ~1, min(len(data) & ~1, end + 1 & ~1)
    pairs = np.frombuffer(data[first:last], ">u2").astype("<u2").view(np.uint8)
    if len(pairs) < end - first:  # an odd number of bytes
        pairs = np.concatenate([pairs, np.frombuffer(data[last:end], np.uint8)])
    return pairs[start - first : end - first]


def _bits(packed: NDArray[np.uint8], skip: int, attributes: Attributes) -> Array:
    """The first pixel is the lowest bit; frames follow each other within a byte."""
    count = attributes.rows * attributes.columns * attributes.samples
    return shaped(np.unpackbits(packed, bitorder="little")[skip : skip + count], attributes)


def _full(values: Array, attributes: Attributes) -> Array:
    """(H, W, 3) of Y1 Y2 Cb Cr for each two pixels (PS3.3 C.7.6.3.1.2)."""
    if attributes.columns % 2:
        raise Refused(BROKEN)
    fours = values.reshape(attributes.rows, attributes.columns // 2, 4)
    full = np.empty(attributes.shape, values.dtype)
    full[:, 0::2, 0], full[:, 1::2, 0] = fours[..., 0], fours[..., 1]
    for each in (1, 2):
        full[:, 0::2, each] = full[:, 1::2, each] = fours[..., 1 + each]
    return full
