"""Checks the checksums of a PNG's chunks, as the specification wants it (PNG 3rd ed., section 13).

Pillow refuses a picture for a wrong checksum in a text, and does not look at those of the pixels.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# By the fifth bit of its first letter a chunk is ancillary: a reader may leave it out. What is
# transparent is ancillary too, but the picture would show what nobody has ever seen.
_ANCILLARY, _NEEDED, _END = 0x20, (b"tRNS",), b"IEND"


@dataclass(frozen=True)
class _Chunk:
    kind: bytes
    start: int
    end: int
    intact: bool

    @property
    def optional(self) -> bool:
        return bool(self.kind[0] & _ANCILLARY) and self.kind not in _NEEDED


def checked(data: bytes) -> bytes | None:
    """A PNG without the ancillary chunks whose checksums are wrong; None if it is damaged.

    It returns the same object if nothing is to be left out. What lies behind the end, or what is
    cut off, is the decoder's to judge.
    """
    broken = [chunk for chunk in _chunks(data) if not chunk.intact]
    if not all(chunk.optional for chunk in broken):
        return None
    for chunk in reversed(broken):
        data = data[: chunk.start] + data[chunk.end :]
    return data


def _chunks(data: bytes) -> Iterator[_Chunk]:
    view = memoryview(data)
    start = len(SIGNATURE)
    while start + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, start)
        end = start + 12 + length
        if end > len(data):
            return
        (written,) = struct.unpack_from(">I", data, end - 4)
        kind = data[start + 4 : start + 8]
        yield _Chunk(kind, start, end, zlib.crc32(view[start + 4 : end - 4]) == written)
        if kind == _END:
            return
        start = end
