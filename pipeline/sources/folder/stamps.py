"""Stamps tell whether a file is still the one that was planned, on whatever host it is read.

A stamp is made of what all copies of a file share, so a file's time is no part of it: its size, and
a hash of 1 KiB each from its start, middle and end. Planning reads the start in any case; the rest
costs it a quarter more of a core. Whoever reads the file has all of it, and compares without
another look at the disk. A member of an archive has the size and the checksum that a zip lists, or
the size and the time of a tar.
"""

import os
from io import BufferedReader
from typing import BinaryIO

from pipeline.base.identity import sha256
from pipeline.images.kinds import HEAD

_PIECE = 1024  # bytes
_WHOLE = HEAD  # a file of up to so many bytes is hashed as a whole


def stamp_of(data: bytes) -> str:
    """The stamp of a file that has these bytes."""
    size = len(data)
    if size > _WHOLE:
        data = data[:_PIECE] + data[size // 2 : size // 2 + _PIECE] + data[-_PIECE:]
    return _stamp(size, data)


def stamp_of_file(file: BinaryIO, head: bytes, size: int) -> str:
    """The stamp of a file, whose first HEAD bytes have been read. Raises OSError."""
    if size <= _WHOLE:
        return _stamp(size, head)
    return _stamp(size, head[:_PIECE] + _piece(file, size // 2) + _piece(file, size - _PIECE))


def _piece(file: BinaryIO, start: int) -> bytes:
    if type(file) is BufferedReader:  # of a disk: half the calls that its buffer would make
        return os.pread(file.fileno(), _PIECE, start)
    file.seek(start)
    return file.read(_PIECE)


def _stamp(size: int, pieces: bytes) -> str:
    return f"{size}:{sha256(pieces)[:16]}"
