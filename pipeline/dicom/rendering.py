"""One frame of a DICOM file as a reader sees it: grey or colour, eight bits.

    rendered = render(data, 0, max_pixels)   # data: the file
    rendered.pixels, rendered.rule           # uint8 (H, W), "window 40/400"

Codecs run here that hostile bytes can crash: call it in a decoder's process alone.
"""

import io
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pipeline.dicom import codecs, colours, fragments, native
from pipeline.dicom.codecs import Coded
from pipeline.dicom.elements import code
from pipeline.dicom.errors import (
    NO_FRAME,
    NO_PIXELS,
    NOT_READ,
    TOO_MANY_PIXELS,
    Refused,
)
from pipeline.dicom.quick import quick
from pipeline.dicom.reading import UNDEFINED, Opened, Pixels, open_file, refusing
from pipeline.dicom.shades import Bits, Window, shaded, window_of
from pipeline.dicom.squares import squared
from pipeline.dicom.stored import Attributes, attributes_of
from pipeline.dicom.windows import groups_of, modality_of, shading_of

_FLOATS = {0x7FE00008: "f4", 0x7FE00009: "f8"}


@dataclass(frozen=True)
class Rendered:
    """`pixels` are uint8, (H, W) if grey, else (H, W, 3). `rule` says how values became shades.

    `window` is the centre and the width that do nearly the same, where shades come from values.
    """

    pixels: NDArray[np.uint8]
    rule: str
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class _File:
    """What was opened and is not refused by its header."""

    opened: Opened
    pixels: Pixels
    attributes: Attributes

    @property
    def header(self) -> Dataset:
        return self.opened.header


def check(data: bytes, max_pixels: int) -> None:
    """Reads the header alone. Raises Refused if that is enough to refuse all of its frames."""
    with refusing():
        _open(data, max_pixels)


def render(
    data: bytes, frame: int, max_pixels: int, window: tuple[float, float] | None = None
) -> Rendered:
    """The frame, counted from 0. Raises Refused and MemoryError, whatever the data.

    `window` is the centre and the width that a reader has chosen instead of the file's own rule.
    """
    with refusing():
        file = _open(data, max_pixels)
        if not 0 <= frame < file.attributes.frames:
            raise Refused(NO_FRAME)
        groups = groups_of(file.header, frame)
        coded = _decoded(file, data, frame)
        made = _rendered(file, coded, groups, window)
        pixels = squared(made.pixels, file.header, groups, max_pixels)
        return Rendered(pixels, made.rule, made.window)


def _open(data: bytes, max_pixels: int) -> _File:
    opened = quick(data) or open_file(io.BytesIO(data))
    floats = opened.pixels is not None and opened.pixels.tag in _FLOATS
    attributes = attributes_of(opened.header, floats=floats)
    codecs.check_syntax(opened.syntax)
    if attributes.rows * attributes.columns > max_pixels:
        raise Refused(TOO_MANY_PIXELS)
    if opened.pixels is None:
        raise Refused(NO_PIXELS)
    return _File(opened, opened.pixels, attributes)


def _decoded(file: _File, data: bytes, frame: int) -> Coded:
    pixels, attributes = file.pixels, file.attributes
    if pixels.length == UNDEFINED:
        whole = memoryview(data)[pixels.start :]
        table = _extended_offsets(file.header)
        stream = fragments.frame_of(whole, frame, attributes.frames, table)
        return codecs.decode(stream, file.opened.syntax, attributes)
    if file.opened.syntax.startswith(codecs.COMPRESSED):
        raise Refused(NOT_READ)
    return _uncompressed(file, data, frame)


def _uncompressed(file: _File, data: bytes, frame: int) -> Coded:
    pixels, attributes, inflated = file.pixels, file.attributes, file.opened.inflated
    start, end = pixels.start, pixels.start + pixels.length
    if inflated is not None:
        needed = -(-native.frame_bits(attributes) * (frame + 1) // 8)
        inflated.fill(min(end, start + needed))
    value = memoryview(data if inflated is None else inflated.data)[start:end]
    big = file.opened.big
    words = native.frame_of(value, attributes, frame, big=big, words=pixels.words)
    if pixels.tag in _FLOATS:
        words = words.view(_FLOATS[pixels.tag])
    return Coded(words, attributes.allocated)


def _extended_offsets(header: Dataset) -> tuple[int, ...]:
    said = header.get("ExtendedOffsetTable") or b""
    return struct.unpack(f"<{len(said) // 8}Q", said[: len(said) // 8 * 8])


def _rendered(
    file: _File, coded: Coded, groups: list[Dataset], chosen: tuple[float, float] | None
) -> Rendered:
    attributes, bits = file.attributes, _bits(file.attributes, coded)
    words = coded.values
    if words.dtype.kind == "i":
        words = words.view(f"u{words.dtype.itemsize}")
    if attributes.samples == 3:
        kind = {True: "YBR_FULL", False: "RGB", None: attributes.photometric}[coded.ybr]
        rule = "colour rgb" if kind in ("RGB", "YBR_RCT", "YBR_ICT") else "colour ybr"
        return Rendered(colours.rgb(colours.eight_bits(words, bits), kind), rule)
    if not attributes.grey:
        return Rendered(colours.of_palette(words, bits, file.header), "colour palette")
    modality = modality_of(file.header, groups, signed=bits.signed)
    shading, rule = shading_of(file.header, groups, words, bits, modality)
    if chosen is not None:
        shading, rule = Window(*chosen), "window chosen"
    pixels = shaded(words, bits, modality, shading, _inverse(file))
    return Rendered(pixels, rule, window_of(shading))


def _bits(attributes: Attributes, coded: Coded) -> Bits:
    """Which bits of a word are the value's own."""
    size = 8 * coded.values.dtype.itemsize
    if attributes.allocated == 1 and size == 8:
        return Bits(1, 0, attributes.signed)
    stored, shift = attributes.stored, attributes.high + 1 - attributes.stored
    # A stream of fewer bits holds a sign in its own highest one (JPEG-LS knows no signs).
    own = coded.bits if coded.unsigned and attributes.signed else stored
    count = min(stored, own, size)
    return Bits(
        count, shift if shift + count <= min(size, max(coded.bits, 1)) else 0, attributes.signed
    )


def _inverse(file: _File) -> bool:
    """Whether low values are bright (PS3.3 C.7.6.3.1.2, C.11.6)."""
    shape = code(file.header, "PresentationLUTShape")
    return file.attributes.photometric == "MONOCHROME1" or shape == "INVERSE"
