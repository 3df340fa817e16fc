"""A JPEG's picture without what lies beside it: names, places, thumbnails, comments.

What is kept is on a list, and what says more than the picture needs is written anew. So nothing
passes that is not known.
"""

import re
from collections.abc import Iterator

# ITU-T T.81, table B.1.
_START, _END = b"\xff\xd8", b"\xff\xd9"
_SCAN = 0xDA
# Quantisation, Huffman codes, restarts, frames: baseline, extended and progressive.
_OF_THE_PICTURE = frozenset((0xDB, 0xC4, 0xDD, 0xC0, 0xC1, 0xC2))
_JFIF, _ADOBE = 0xE0, 0xEE
_BESIDE = frozenset((*range(0xE0, 0xF0), 0xFE))  # applications' segments and comments

_SEGMENT = re.compile(rb"\xff+([\xc0-\xfe])(..)", re.DOTALL)

# A scan ends at a marker. 0 or a restart follows an 0xFF inside of it.
_AFTER_SCAN = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")

_IMAGE_ENDS = re.compile(rb"\xff+\xd9")

# That the colours are YCbCr: without resolution and thumbnail (T.871, section 10.1).
_PLAIN_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"

# How the colours are to be read is in the last byte of Adobe's segment, and flags are before it.
_PLAIN_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
_ADOBE_LENGTH = 12


def bare(data: bytes) -> bytes | None:
    """A JPEG of exactly the same pixels, or None if it is of a rare make."""
    if not data.startswith(_START):
        return None
    parts = [_START, *_kept(data)]
    return b"".join(parts) if parts[-1] == _END else None


def _kept(data: bytes) -> Iterator[bytes]:
    """Up to the end of the image, or to what is not known."""
    at = len(_START)
    while (found := _SEGMENT.match(data, at)) is not None:
        code, body = found[1][0], found.end()
        at = found.start(2) + int.from_bytes(found[2], "big")
        if at > len(data):
            return
        if code in _BESIDE:
            yield _rewritten(code, data[body:at])
        elif code in _OF_THE_PICTURE:
            yield data[found.start(1) - 1 : at]
        elif code == _SCAN and (end := _AFTER_SCAN.search(data, at)) is not None:
            yield data[found.start(1) - 1 : end.start()]
            at = end.start()
        else:
            return
        if _IMAGE_ENDS.match(data, at):
            yield _END
            return


def _rewritten(code: int, body: bytes) -> bytes:
    """What says how to read the colours."""
    if code == _JFIF and body.startswith(b"JFIF\0") and len(body) >= 14:
        return _PLAIN_JFIF
    if code == _ADOBE and body.startswith(b"Adobe") and len(body) >= _ADOBE_LENGTH:
        return _PLAIN_ADOBE + body[_ADOBE_LENGTH - 1 : _ADOBE_LENGTH]
    return b""
