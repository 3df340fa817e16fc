"""Detects small files that cost much more to decode than their size in pixels suggests.

Pillow limits how far a PNG's compressed texts expand, and the caller limits the pixels. Experiments
found two more ways. A TIFF's tile is unpacked whole, however little of it the image needs. Each
scan of a progressive JPEG is a pass over all pixels and costs only 100 bytes in the file.
"""

import re
from collections.abc import Iterator
from itertools import islice

from PIL.ImageFile import ImageFile

# Cameras write one scan, and programs write up to a dozen. This limit applies to images as large as
# the cap; smaller images may have proportionally more. A hundred megapixels in 20 scans take some
# seconds.
MOST_SCANS = 20

_TILE_WIDTH, _TILE_HEIGHT = 322, 323  # TIFF 6.0, section 15

# JPEG (ITU-T T.81, table B.1). Inside a scan, 0 or a restart marker follows 0xFF.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
_LEAST_SCAN = 10  # bytes, of its header alone
_SCAN, _END, _WITHOUT_LENGTH = 0xDA, 0xD9, (0x01, 0xD8)


def tile_pixels(image: ImageFile) -> int:
    """The pixels of one tile of a TIFF; 0 if the image has no tiles."""
    tags = getattr(image, "tag_v2", {})
    return int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_HEIGHT, 0))


def too_many_scans(jpeg: bytes, pixels: int, max_pixels: int) -> bool:
    """Whether a JPEG with this many pixels has more scans than is reasonable."""
    most = MOST_SCANS * max_pixels // pixels
    if len(jpeg) < most * _LEAST_SCAN:
        return False
    # This fast check nearly always suffices. It also counts bytes in metadata and after the image.
    if jpeg.count(bytes([0xFF, _SCAN])) <= most:
        return False
    return len(list(islice(_scans(jpeg), most + 1))) > most


def _scans(jpeg: bytes) -> Iterator[int]:
    """The offset of each scan of a JPEG."""
    offset = 0
    while (found := _MARKER.search(jpeg, offset)) and found[1][0] != _END:
        offset = found.end()
        if found[1][0] == _SCAN:
            yield offset
        if found[1][0] not in _WITHOUT_LENGTH:
            offset += int.from_bytes(jpeg[offset : offset + 2], "big")
