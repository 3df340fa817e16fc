"""How long a zip's list of its members is, before it is read into memory.

The end of a zip says it: a record of 22 bytes and a comment (APPNOTE 4.3.16) and, in a large one, a
locator of 20 bytes before it that says where a longer record lies (4.3.14, 4.3.15).
"""

import struct
from typing import BinaryIO

_END, _LOCATOR, _END_64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
_COMMENT = 65_535  # bytes, at most
_IN_END_64 = 0xFFFFFFFF


def directory_bytes(file: BinaryIO) -> int:
    """0 if the file has no such record: then it is no zip, as its reader will say."""
    size = file.seek(0, 2)
    start = max(0, size - _COMMENT - 42)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + 16:
        return 0
    (length,) = struct.unpack_from("<I", tail, at + 12)
    return int(length) if length < _IN_END_64 else _longer(file, tail[max(0, at - 20) : at])


def _longer(file: BinaryIO, locator: bytes) -> int:
    if len(locator) < 20 or not locator.startswith(_LOCATOR):
        return _IN_END_64
    (place,) = struct.unpack_from("<Q", locator, 8)
    file.seek(place)
    record = file.read(56)
    if len(record) < 56 or not record.startswith(_END_64):
        return _IN_END_64
    (length,) = struct.unpack_from("<Q", record, 40)
    return int(length)
