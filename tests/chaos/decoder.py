"""A decoder that pictures of one plain colour end or stop.

It is the product's own, with one call wrapped:

    red     a fault as in C code
    green   it does not come back
    yellow  it takes 2 GiB
"""

import ctypes
import time
from typing import Any

from pipeline.images import decoder, preparing
from pipeline.images.decoder import end_with_parent, preload

__all__ = ["end_with_parent", "main", "preload"]

RED, GREEN, YELLOW = (255, 0, 0), (0, 255, 0), (255, 255, 0)


def _poisoned(decode: Any) -> Any:
    def poisoned(data: bytes, max_pixels: int, *how: Any) -> Any:
        picture = decode(data, max_pixels, *how)
        image = getattr(picture, "image", None)
        colours = image and image.resize((8, 8)).getcolors(1)
        if colours and colours[0][1] == RED:
            ctypes.string_at(0)  # a real fault
        if colours and colours[0][1] == YELLOW:
            bytearray(2**31)
        while colours and colours[0][1] == GREEN:
            time.sleep(1)
        return picture

    return poisoned


def main(arguments: list[str]) -> None:
    preparing.decode = _poisoned(preparing.decode)  # type: ignore[attr-defined]
    decoder.main(arguments)
