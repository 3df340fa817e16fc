"""A decoded picture, as Pillow and as NumPy see it."""

from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_core: Any = Image.core  # type: ignore[attr-defined]


class Picture:
    """An upright RGB picture, 8 bits a channel, without any metadata. It is read only.

    `file` is the JPEG that holds it as it is: not turned, cut or covered, nothing in it damaged.
    `rule` says how values of DICOM became shades; empty for other pictures. `window` is its centre
    and width, where there is one.
    """

    def __init__(
        self,
        image: Image.Image,
        file: bytes | None = None,
        *,
        rule: str = "",
        window: tuple[float, float] | None = None,
    ) -> None:
        self.image = image
        self.file = file
        self.rule = rule
        self.window = window

    @classmethod
    def of(cls, array: NDArray[np.uint8], file: bytes | None = None) -> Self:
        """Of RGB and a byte that says nothing (H, W, 4), as Pillow keeps RGB. It copies nothing."""
        made = cls(_mapped(array), file)
        made.array = array
        return made

    def drawn(self, image: Image.Image) -> "Picture":
        """What was made of its pixels. Its file does not show that."""
        return Picture(image, rule=self.rule, window=self.window)

    @property
    def width(self) -> int:
        """In pixels, after applying the EXIF orientation."""
        return self.image.width

    @property
    def height(self) -> int:
        """In pixels, after applying the EXIF orientation."""
        return self.image.height

    @cached_property
    def array(self) -> NDArray[np.uint8]:
        """RGB (H, W, 3), or with a fourth byte that says nothing (H, W, 4)."""
        return np.array(self.image)


def _mapped(array: NDArray[np.uint8]) -> Image.Image:
    """What `Image.frombuffer` does, which offers this for RGBX, and then converts it."""
    height, width = array.shape[:2]
    mapped = _core.map_buffer(array, (width, height), "raw", 0, ("RGB", 0, 1))
    image = Image.new("RGB", (0, 0))._new(mapped)
    image.readonly = 1
    return image
