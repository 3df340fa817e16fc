"""What a coded picture says of itself, before it is decoded: JPEG, JPEG-LS and JPEG 2000.

Headers of DICOM are often wrong about the colours of a JPEG; its own marks are not.
"""

import struct
from dataclasses import dataclass

from pipeline.dicom.errors import BROKEN, Refused

_SOS, _APP0, _APP14 = 0xDA, 0xE0, 0xEE
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOFs; DHT, JPG and DAC are none
LOSSLESS, LS = 0xC3, 0xF7  # ITU-T T.81, Table B.1; ITU-T T.87, Table C.1
_CODESTREAM = b"\xff\x4f\xff\x51"


@dataclass(frozen=True)
class Stream:
    """`kind`: "jpeg", "lossless", "ls" or "2000"; `bits` of a sample.

    `ybr`: whether its own marks say that its colours are YCbCr; None where they do not say. Of
    JPEG 2000, `mixed`: the decoder makes RGB of its colours by itself.
    """

    kind: str
    rows: int
    columns: int
    bits: int
    samples: int
    ybr: bool | None = None
    signed: bool = False
    mixed: bool = False


def stream_of(data: bytes | bytearray) -> Stream | None:
    """None if it is no stream of these kinds. Raises Refused."""
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith((_CODESTREAM, b"\0\0\0\x0cjP  ")):
            return _jpeg2000(data, data.find(_CODESTREAM, 0, 65_536))
    except (struct.error, IndexError):
        raise Refused(BROKEN) from None
    return None


def _jpeg(data: bytes | bytearray) -> Stream:
    """Walks its segments as far as the first scan (ITU-T T.81, Annex B)."""
    at, frame, jfif, adobe = 2, None, False, None
    while True:
        mark, size = struct.unpack_from(">HH", data, at)
        kind, body = mark & 0xFF, data[at + 4 : at + 2 + size]
        if mark == 0xFFFF:  # a byte to fill up
            at += 1
            continue
        if mark < 0xFF00 or size < 2:
            raise Refused(BROKEN)
        if kind == _SOS:
            break
        if kind in _FRAMES and frame is None:
            frame = (kind, bytes(body))
        elif kind == _APP0 and body.startswith(b"JFIF"):
            jfif = True
        elif kind == _APP14 and body.startswith(b"Adobe") and len(body) > 11:
            adobe = body[11]
        at += 2 + size
    if frame is None:
        raise Refused(BROKEN)
    return _of_frame(*frame, jfif, adobe)


def _of_frame(kind: int, body: bytes, jfif: bool, adobe: int | None) -> Stream:
    bits, rows, columns, samples = struct.unpack_from(">BHHB", body)
    components = [body[6 + 3 * n : 9 + 3 * n] for n in range(samples)]
    name = {LOSSLESS: "lossless", LS: "ls"}.get(kind, "jpeg")
    ybr = _ybr(components, jfif, adobe) if name == "jpeg" and samples == 3 else None
    return Stream(name, rows, columns, bits, samples, ybr)


def _ybr(components: list[bytes], jfif: bool, adobe: int | None) -> bool | None:
    """Whether three components are YCbCr: by JFIF, by Adobe's mark, by their names and sizes."""
    if adobe is not None:
        return adobe != 0
    names = bytes(each[0] for each in components)
    if names in (b"RGB", b"rgb"):
        return False
    sizes = {each[1] for each in components}
    return True if jfif or len(sizes) > 1 else None


def _jpeg2000(data: bytes | bytearray, at: int) -> Stream:
    """SIZ, and the transformation of components in COD (ITU-T T.800, Annex A)."""
    if at < 0:
        raise Refused(BROKEN)
    size, _, right, bottom, left, top = struct.unpack_from(">HHIIII", data, at + 4)
    samples, depth = struct.unpack_from(">HB", data, at + 40)
    at += 4 + size
    mixed = False
    while True:
        mark, size = struct.unpack_from(">HH", data, at)
        if mark in (0xFF90, 0xFF93) or mark < 0xFF00 or size < 2:  # SOT, SOD
            break
        if mark == 0xFF52:
            mixed = data[at + 8] == 1
        at += 2 + size
    bits, signed = (depth & 0x7F) + 1, bool(depth & 0x80)
    return Stream("2000", bottom - top, right - left, bits, samples, None, signed, mixed)
