"""Small files that cost much more to decode than their size in pixels says.

Pillow bounds what a PNG's packed texts unfold to, and the caller bounds the pixels. Two ways are
left, both found by trying: a TIFF's tile, unpacked whole however little of it the image needs, and
a progressive JPEG's scans, each of which is a pass over all pixels and costs 100 bytes in the file.
"""

import re
from collections.abc import Iterator
from itertools import islice

from PIL.ImageFile import ImageFile

# Cameras write one scan and programs up to a dozen, so this is for images as large as the cap;
# smaller ones may have as many more. A hundred megapixels in 20 scans take some seconds.
MOST_SCANS = 20

_TILE_WIDTH, _TILE_HEIGHT = 322, 323  # TIFF 6.0, section 15

# JPEG (ITU-T T.81, table B.1). In a scan 0xFF is followed by 0 or by a restart marker.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
_SCAN, _END, _WITHOUT_LENGTH = 0xDA, 0xD9, (0x01, 0xD8)


def tile_pixels(image: ImageFile) -> int:
    """Pixels of one tile of a TIFF; 0 where there are none."""
    tags = getattr(image, "tag_v2", {})
    return int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_HEIGHT, 0))


def too_many_scans(jpeg: bytes, pixels: int, max_pixels: int) -> bool:
    """Whether a JPEG of so many pixels is passed over more often than is reasonable."""
    most = MOST_SCANS * max_pixels // pixels
    # Nearly always enough, and fast; what lies behind the picture or in its metadata counts too.
    if jpeg.count(bytes([0xFF, _SCAN])) <= most:
        return False
    return len(list(islice(_scans(jpeg), most + 1))) > most


def _scans(jpeg: bytes) -> Iterator[int]:
    """Where each scan of a JPEG begins."""
    place = 0
    while (found := _MARKER.search(jpeg, place)) and found[1][0] != _END:
        place = found.end()
        if found[1][0] == _SCAN:
            yield place
        if found[1][0] not in _WITHOUT_LENGTH:
            place += int.from_bytes(jpeg[place : place + 2], "big")
