"""Which files the card may decode: intact baseline JPEGs, as nearly all photographs are.

A card's decoder is less strict than Pillow: it can decode in silence what Pillow rejects. So this
module reads all of a file's structure (ITU-T T.81), and sends to the CPU whatever is not plain.
There `pipeline/images/decoding.py` says what it is. To be sent there costs time and nothing else.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.images.kinds import HEAD, Fate, kind_of

# In pixels. A smaller image gains nothing, and the work of a larger one fills the card's memory.
LEAST_SIDE, MOST_SIDE = 16, 16_384
MOST_PIXELS = 40_000_000

_SOF0, _DHT, _SOS, _DQT, _DRI = 0xC0, 0xC4, 0xDA, 0xDB, 0xDD
_APP0, _APP1, _APP2, _APP14, _APP15, _COM = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE
_END = b"\xff\xd9"
_ORIENTATION = 0x0112

# By the components' sampling, horizontal in the upper four bits: how it is called.
_KINDS = {
    (0x11,): "grey",
    (0x11, 0x11, 0x11): "4:4:4",
    (0x21, 0x11, 0x11): "4:2:2",
    (0x22, 0x11, 0x11): "4:2:0",
}


class _NotPlain(Exception):
    """The CPU decodes this one."""


@dataclass(frozen=True)
class Frame:
    """What a JPEG's header says: the size in pixels, and how its colours are sampled."""

    width: int
    height: int
    kind: str

    @property
    def pixels(self) -> int:
        return self.width * self.height


def frame_of(data: bytes, max_pixels: int) -> Frame | None:
    """What is to be decoded; None if the CPU should look at the file. It never raises."""
    if not data.startswith(b"\xff\xd8\xff") or not data.endswith(_END):
        return None
    if kind_of(data[:HEAD]).fate is not Fate.TAKEN:
        return None
    try:
        return _Header(data).frame(max_pixels)
    except (_NotPlain, IndexError, struct.error):
        return None


class _Header:
    """Reads the segments before the only scan, then looks through the scan."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._frame: bytes | None = None
        self._quantization: set[int] = set()
        self._huffman: set[int] = set()
        self._interval = 0
        self._described = False  # by EXIF

    def frame(self, max_pixels: int) -> Frame:
        at = 2
        while True:
            marker, size = struct.unpack_from(">HH", self._data, at)
            body = self._data[at + 4 : at + 2 + size]
            if marker < 0xFF00 or len(body) != size - 2:
                raise _NotPlain
            at += 2 + size
            if marker & 0xFF == _SOS:
                frame = self._checked(body, max_pixels)
                self._check_scan(at)
                return frame
            self._read(marker & 0xFF, body)

    def _read(self, marker: int, body: bytes) -> None:
        if marker == _DQT:
            self._quantization |= _quantization_tables(body)
        elif marker == _DHT:
            self._huffman |= _huffman_tables(body)
        elif marker == _DRI and len(body) == 2:
            self._interval = int.from_bytes(body, "big")
        elif marker == _SOF0 and self._frame is None:
            self._frame = body
        elif _APP0 <= marker <= _APP15:
            self._read_application(marker, body)
        elif marker != _COM:
            raise _NotPlain

    def _read_application(self, marker: int, body: bytes) -> None:
        """Metadata say how to turn the picture, and Adobe's segment what the colours are."""
        if marker == _APP1 and body.startswith(b"Exif\0\0"):
            if self._described or not _upright(body[6:]):
                raise _NotPlain
            self._described = True
        elif marker == _APP1 and b"rientation" in body:
            raise _NotPlain
        elif marker == _APP2 and body.startswith(b"MPF\0"):
            raise _NotPlain  # several pictures in one file
        elif marker == _APP14 and body.startswith(b"Adobe") and body[11] != 1:
            raise _NotPlain  # RGB, or one of four inks

    def _checked(self, scan: bytes, max_pixels: int) -> Frame:
        frame = self._frame
        if frame is None or frame[0] != 8:
            raise _NotPlain
        height, width, count = struct.unpack_from(">HHB", frame, 1)
        components = [frame[6 + 3 * n : 9 + 3 * n] for n in range(count)]
        kind = _KINDS.get(tuple(sampling for _, sampling, _ in components))
        if kind is None or len(frame) != 6 + 3 * count:
            raise _NotPlain
        if count == 3 and bytes(name for name, _, _ in components) != b"\1\2\3":
            raise _NotPlain  # by other names they can be red, green and blue
        if not self._quantization.issuperset(table for _, _, table in components):
            raise _NotPlain
        self._check_tables(scan, components)
        found = Frame(width, height, kind)
        sides = sorted((width, height))
        if sides[0] < LEAST_SIDE or sides[1] > MOST_SIDE:
            raise _NotPlain
        if found.pixels > min(max_pixels, MOST_PIXELS):
            raise _NotPlain
        return found

    def _check_tables(self, scan: bytes, components: list[bytes]) -> None:
        """One scan of all components, each with tables that are there."""
        count = len(components)
        if len(scan) != 4 + 2 * count or scan[0] != count or scan[-3:] != b"\0\x3f\0":
            raise _NotPlain
        if [scan[1 + 2 * n] for n in range(count)] != [each[0] for each in components]:
            raise _NotPlain
        for n in range(count):
            tables = scan[2 + 2 * n]
            if not self._huffman.issuperset((tables >> 4, 0x10 | tables & 15)):
                raise _NotPlain

    def _check_scan(self, start: int) -> None:
        """Nothing but coded data up to the end, and every restart marker in its turn."""
        scan = np.frombuffer(self._data, np.uint8, offset=start)  # a tenth of the time of `bytes`
        marks = np.flatnonzero(scan == 0xFF)
        if not len(marks):
            raise _NotPlain
        # 0 follows each byte 0xFF of the coded data. The last one is the end's own.
        following = scan[marks[:-1] + 1]
        if not following.any():
            return
        found = following[following != 0]
        if not self._interval or (found != 0xD0 + np.arange(len(found)) % 8).any():
            raise _NotPlain


@lru_cache(maxsize=64)
def _quantization_tables(body: bytes) -> frozenset[int]:
    """The numbers of the tables that a segment defines."""
    found, at = set(), 0
    while at < len(body):
        if body[at] > 3 or 0 in body[at + 1 : at + 65]:  # above: of 16 bits
            raise _NotPlain
        found.add(body[at])
        at += 65
    if at != len(body):
        raise _NotPlain
    return frozenset(found)


@lru_cache(maxsize=64)
def _huffman_tables(body: bytes) -> frozenset[int]:
    """The numbers of the tables that a segment defines, with 0x10 for those of AC coefficients."""
    found, at = set(), 0
    while at < len(body):
        lengths = body[at + 1 : at + 17]
        values = body[at + 17 : at + 17 + sum(lengths)]
        room = 0  # of 2^16, what codes of these lengths take
        for bits, count in enumerate(lengths, 1):
            room += count << (16 - bits)
        if body[at] & 0xEC or len(lengths) != 16 or len(values) != sum(lengths) or room >= 1 << 16:
            raise _NotPlain
        if body[at] < 0x10 and any(value > 11 for value in values):
            raise _NotPlain
        found.add(body[at])
        at += 17 + sum(lengths)
    return frozenset(found)


def _upright(exif: bytes) -> bool:
    """Whether EXIF leaves the picture as it is. False also for what is odd about it."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return False
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    entries = exif[start + 2 : start + 2 + 12 * count]
    if len(entries) != 12 * count:
        return False
    return all(
        tag != _ORIENTATION or entry == (3, 1, 1)
        for tag, *rest in struct.iter_unpack(f"{order}HHIHxx", entries)
        for entry in [tuple(rest)]
    )
