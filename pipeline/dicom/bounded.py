"""Files that pydicom reads: whatever they claim, they take little memory and time."""

import io
import zlib
from typing import BinaryIO

from pipeline.dicom.errors import (
    BROKEN,
    LONG_HEADER,
    LONGER,
    MANY_ELEMENTS,
    SWOLLEN,
    Refused,
)

# Bytes. The longest headers are those of enhanced multi-frame images: some 5 KB a frame.
HEADER = 64 * 2**20
# A data element takes one to three reads, some 400 bytes of memory, and 5 µs.
READS = 600_000

# A deflated file is inflated as far as the asked frame, and at most so far.
INFLATED = 2**30
_PIECE = 2**20
# What is inflated at least, and how much is packed of what is read at once: zlib copies what it has
# not come to, so a byte at a time would take long.
_AHEAD, _PACKED = 2**16, 2**16


class Bounded:
    """What stands before a file's pixels, as far as pydicom asks for it.

    `short`: something was longer than the file. pydicom itself would go on.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._budget, self._reads = HEADER, READS
        self.short = False
        self.seek, self.tell = file.seek, file.tell

    def read(self, count: int = -1) -> bytes:
        """Raises Refused where it becomes too much, and Deflated where the rest is wanted."""
        if count < 0:  # pydicom does so in one place: to inflate all of it at once
            raise Deflated
        self._reads -= 1
        if count > self._budget:
            raise Refused(LONG_HEADER if self._has(count) else LONGER)
        if self._reads < 0:
            raise Refused(MANY_ELEMENTS)
        data = self._file.read(count) if count <= _PIECE else self._in_pieces(count)
        self._budget -= len(data)
        if data and len(data) < count:
            self.short = True
        return data

    def _has(self, count: int) -> bool:
        try:
            at = self._file.tell()
            return self._file.seek(0, io.SEEK_END) - at >= count
        except io.UnsupportedOperation:  # it is deflated
            return True

    def _in_pieces(self, count: int) -> bytes:
        """A file in a file sets aside what it is asked for, also where there is less."""
        pieces = bytearray()
        while len(pieces) < count and (piece := self._file.read(min(_PIECE, count - len(pieces)))):
            pieces += piece
        return bytes(pieces)


class Deflated(Exception):
    """From where the file stands, it is deflated."""


class Inflated(io.RawIOBase):
    """Inflates a file (RFC 1951) as far as it is read. `data` is what it holds until now."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._inflater = file, zlib.decompressobj(-zlib.MAX_WBITS)
        self.data, self._at, self._packed = bytearray(), 0, b""

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The end is not known before all is inflated."""
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation
        self._at = offset + (self._at if whence == io.SEEK_CUR else 0)
        return self._at

    def read(self, count: int = -1) -> bytes:
        """Raises Refused."""
        end = self._at + (INFLATED if count < 0 else count)
        self.fill(end)
        data = bytes(self.data[self._at : end])
        self._at += len(data)
        return data

    def fill(self, end: int) -> None:
        """Inflates as far as `end`, or less if there is less. Raises Refused."""
        if end > INFLATED:
            raise Refused(SWOLLEN)
        end = max(end, len(self.data) + _AHEAD) if end > len(self.data) else end
        try:
            while len(self.data) < end and not self._inflater.eof:
                packed = self._packed or self._file.read(_PACKED)
                made = self._inflater.decompress(packed, end - len(self.data))
                self._packed = self._inflater.unconsumed_tail
                self.data += made
                if not packed and not made:
                    return
        except zlib.error:
            raise Refused(BROKEN) from None
