"""A decoded picture, as Pillow and as NumPy see it."""

from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Picture:
    """An upright RGB picture, 8 bits a channel, without any metadata. It is read only.

    `file` is the JPEG that holds it as it is: not turned, not cut, nothing in it damaged.
    """

    def __init__(self, view: Image.Image, file: bytes | None = None) -> None:
        """`view` is in RGB, or in RGBX: RGB and a fourth byte that says nothing."""
        self.view = view
        self.file = file

    @classmethod
    def of(cls, array: NDArray[np.uint8], file: bytes | None = None) -> Self:
        """Of RGBX (H, W, 4). It keeps the array, and copies nothing."""
        height, width = array.shape[:2]
        view = Image.frombuffer("RGBX", (width, height), array, "raw", "RGBX", 0, 1)
        made = cls(view, file)
        made.array = array
        return made

    @property
    def width(self) -> int:
        """In pixels, after applying the EXIF orientation."""
        return self.view.width

    @property
    def height(self) -> int:
        """In pixels, after applying the EXIF orientation."""
        return self.view.height

    @cached_property
    def image(self) -> Image.Image:
        """In RGB."""
        return self.view if self.view.mode == "RGB" else self.view.convert("RGB")

    @cached_property
    def array(self) -> NDArray[np.uint8]:
        """RGB (H, W, 3), or RGBX (H, W, 4)."""
        return np.array(self.view)
