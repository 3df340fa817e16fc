"""Decodes one compressed frame, by the library that is fastest at it.

What the stream itself says decides, where the header says something else of the same stream: which
codec, and whether colours are YCbCr. Its size must be the header's, or a bomb would be decoded.
"""

import io
import zlib
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image

from pipeline.dicom import native
from pipeline.dicom.errors import (
    BROKEN,
    ELSEWHERE,
    NOT_READ,
    OTHER_PIXELS,
    TWELVE_BITS,
    VIDEO,
    WITHOUT_CODEC,
    Refused,
)
from pipeline.dicom.native import Array
from pipeline.dicom.stored import Attributes
from pipeline.dicom.streams import Stream, stream_of

_ROOT = "1.2.840.10008.1.2"
COMPRESSED = (f"{_ROOT}.4.", f"{_ROOT}.5", f"{_ROOT}.8.1")
RLE, DEFLATED_FRAMES = f"{_ROOT}.5", f"{_ROOT}.8.1"
_JPIP = (f"{_ROOT}.4.94", f"{_ROOT}.4.95", f"{_ROOT}.4.204", f"{_ROOT}.4.205")
_STREAMS = {
    f"{_ROOT}.4.{number}" for number in (*range(50, 67), 70, 80, 81, *range(90, 94), 201, 202, 203)
}
_VIDEO = tuple(f"{_ROOT}.4.{number}" for number in (100, 101, 102, 103, 104, 105, 106, 107, 108))


# Of a JPEG that does not say its colours: pixels that are looked at, by how many levels a coded
# colour may leave those that there are, and how many of the pixels may do so.
_ASKED, _RINGING, _STRAY = 65_536, 24, 0.01


@dataclass(frozen=True)
class Coded:
    """Numbers of shape (H, W) or (H, W, 3). `bits` of a sample are the stream's own.

    `ybr`: they are YCbCr; None: the header has to say. `unsigned`: the stream cannot have kept a
    sign, so that its highest bit is one where the header says that there are signs.
    """

    values: Array
    bits: int
    ybr: bool | None = None
    unsigned: bool = False


def check_syntax(syntax: str) -> None:
    """Raises Refused for what no decoder here reads, as far as its name tells."""
    if syntax.startswith(_VIDEO):
        raise Refused(VIDEO)
    if syntax in _JPIP:
        raise Refused(ELSEWHERE)


def decode(data: bytes | bytearray, syntax: str, attributes: Attributes) -> Coded:
    """Raises Refused, MemoryError, and whatever a codec raises on what is damaged."""
    if syntax == RLE:
        return _rle(data, attributes)
    if syntax == DEFLATED_FRAMES:
        return _deflated(data, attributes)
    stream = stream_of(data)
    if stream is None:
        raise Refused(BROKEN if syntax in _STREAMS else NOT_READ)
    size = (stream.rows, stream.columns, stream.samples)
    if size != (attributes.rows, attributes.columns, attributes.samples):
        raise Refused(OTHER_PIXELS)
    return {"jpeg": _jpeg, "lossless": _lossless, "ls": _ls, "2000": _2000}[stream.kind](
        data, stream, attributes
    )


def _rle(data: bytes | bytearray, attributes: Attributes) -> Coded:
    """PS3.5 Annex G: the planes lie one behind another."""
    pixels = attributes.rows * attributes.columns
    if attributes.allocated < 8:
        raise Refused(NOT_READ)
    try:
        made = _library("rle.rle").decode_frame(bytes(data), pixels, attributes.allocated, "<")
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # Rust's; it is no Exception
            raise Refused(BROKEN) from None
        raise
    values = np.frombuffer(made, f"<u{attributes.allocated // 8}")
    return Coded(native.shaped(values, attributes, planar=True), attributes.allocated)


def _deflated(data: bytes | bytearray, attributes: Attributes) -> Coded:
    """PS3.5 A.4.12: each frame is deflated (RFC 1951)."""
    size = -(-native.frame_bits(attributes) // 8)
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size)
    values = native.frame_of(memoryview(inflated), attributes, 0, big=False, words=False)
    return Coded(values, attributes.allocated)


def _jpeg(data: bytes | bytearray, stream: Stream, attributes: Attributes) -> Coded:
    """Baseline, and extended of 8 bits: by Pillow, as the same picture in a file of its own."""
    if stream.bits != 8:
        return _twelve(data, stream, attributes)
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        if stream.samples == 3 and stream.ybr is None:
            # Without a mark, libjpeg guesses; as YCbCr it leaves them as they are.
            image.draft("YCbCr", image.size)
            values = np.asarray(image)
            return Coded(values, 8, ybr=_looks_ybr(values, attributes))
        return Coded(np.asarray(image), 8, ybr=False)


def _looks_ybr(values: Array, attributes: Attributes) -> bool:
    """Whether colours without a mark are YCbCr, where the header says that they are RGB.

    Three quarters of all red, green and blue, most of what is dark or bright among them, would be
    no colours if they were YCbCr. Where that does not tell: colours vary less than brightness does.
    """
    if attributes.photometric != "RGB":
        return True
    step = max(1, values.shape[0] * values.shape[1] // _ASKED)
    luminance, blue, red = values.reshape(-1, 3)[::step].astype(np.float32).T
    as_rgb = (
        luminance + 1.402 * (red - 128),
        luminance - 0.344 * (blue - 128) - 0.714 * (red - 128),
        luminance + 1.772 * (blue - 128),
    )
    none = np.any([(each < -_RINGING) | (each > 255 + _RINGING) for each in as_rgb], axis=0)
    if none.mean() > _STRAY:
        return False
    return bool(blue.std() + red.std() < 1.5 * luminance.std() + 1)


def _twelve(data: bytes | bytearray, stream: Stream, attributes: Attributes) -> Coded:
    try:
        library = _library("libjpeg")
    except Refused:
        raise Refused(TWELVE_BITS) from None
    values = library.decode(bytes(data), 0)
    return Coded(values, stream.bits, ybr=stream.ybr)


def _lossless(data: bytes | bytearray, stream: Stream, attributes: Attributes) -> Coded:
    gdcm = _library("gdcm")
    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(bytes(data))
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((stream.columns, stream.rows, 1))
    image.SetDataElement(element)
    kinds, syntaxes = gdcm.PhotometricInterpretation, gdcm.TransferSyntax
    kind = kinds.RGB if stream.samples == 3 else kinds.MONOCHROME2
    image.SetPhotometricInterpretation(kinds(kind))
    image.SetTransferSyntax(syntaxes(syntaxes.JPEGLosslessProcess14_1))
    size = 1 if stream.bits <= 8 else 2
    form = gdcm.PixelFormat(stream.samples, 8 * size, stream.bits, stream.bits - 1, 0)
    image.SetPixelFormat(form)
    # GDCM gives bytes as a text.
    values = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), f"<u{size}")
    return Coded(native.shaped(values, attributes, planar=False), stream.bits)


def _ls(data: bytes | bytearray, stream: Stream, attributes: Attributes) -> Coded:
    made, said = _library("jpeg_ls").decode_buffer(bytes(data))
    values = np.frombuffer(made, f"<u{1 if stream.bits <= 8 else 2}")
    planar = said["interleave_mode"] == 0  # plane by plane
    return Coded(native.shaped(values, attributes, planar=planar), stream.bits, unsigned=True)


def _2000(data: bytes | bytearray, stream: Stream, attributes: Attributes) -> Coded:
    """Also of high throughput. The decoder undoes RCT and ICT by itself."""
    if stream.bits > 32:
        raise Refused(NOT_READ)
    values = _library("openjpeg").decode(bytes(data))
    # Headers that name a transformation mean RGB: where the stream has none, none was done.
    plain = stream.mixed or attributes.photometric in ("YBR_RCT", "YBR_ICT")
    ybr = False if plain else None
    return Coded(values, stream.bits, ybr, unsigned=not stream.signed)


@cache
def _library(name: str) -> Any:
    """Loaded when the first file needs it. Raises Refused where it is not installed."""
    try:
        library: Any = import_module(name)
    except ImportError:
        raise Refused(WITHOUT_CODEC) from None
    if name == "gdcm":  # it would quote the file
        for quiet in (library.Trace.WarningOff, library.Trace.ErrorOff, library.Trace.DebugOff):
            quiet()
    return library
