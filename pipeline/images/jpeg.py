"""Names the kinds of JPEG that are not read: ITU-T T.81 has more than programs write."""

import re

# Start of frame (T.81, table B.1): baseline, extended and progressive are read, in both codings.
# DHT, JPG and DAC share the range.
_READ, _NO_FRAME = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA), (0xC4, 0xC8, 0xCC)
_FRAME = re.compile(rb"\xff([\xc0-\xcf])..(.)", re.DOTALL)
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)


def unread(data: bytes) -> str | None:
    """The name of an intact JPEG's encoding that is not read; None if the file is damaged."""
    for found in _FRAME.finditer(data):
        process, bits = found[1][0], found[2][0]
        if process not in _NO_FRAME:
            return _name(process, bits)
    return None


def _name(process: int, bits: int) -> str | None:
    if process in _LOSSLESS:
        return "a lossless JPEG"
    if process not in _READ:
        return "a hierarchical JPEG"
    return "a JPEG of 12 bits a channel" if bits == 12 else None
