"""The pixels that a model sees of an image: resized and cropped, in eight bits.

This half of the preprocessing imports no transformers, because decoders do it (`decoder.py`).
`pipeline/encoding/preprocessing.py` says where the steps come from.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling

from pipeline.images.picture import Picture
from pipeline.images.resizing import TORCH_FILTERS, Resizer, resized

# In pixels. Resizing the shorter edge of a 1 by 65,535 image to 224 takes 13 GB. Above this size we
# compute only the part that the crop keeps. An ordinary image stays far below.
_LARGEST = 16_000_000


@dataclass(frozen=True)
class PixelSteps:
    """Resize, then crop. None skips the step."""

    resize: tuple[int, int] | int | None  # (height, width), or the length of the shorter edge
    resample: Resampling
    crop: tuple[int, int] | None  # (height, width), from the middle, black beyond the image
    resizer: Resizer = field(default="pillow", kw_only=True)

    @property
    def size(self) -> tuple[int, int]:
        """The (height, width) of the model's input."""
        size = self.crop or self.resize
        assert isinstance(size, tuple)  # noqa: S101 - a shorter edge always comes with a crop
        return size

    @property
    def torch_can(self) -> bool:
        """Whether torch has these steps too."""
        return self.resize is not None and self.resample in TORCH_FILTERS

    def pixels_of(self, picture: Picture) -> NDArray[np.uint8]:
        """Resizes and crops a picture to uint8 (3, H, W); `size` is (H, W)."""
        size = resized_size(self, picture.width, picture.height)
        if self.resizer == "pillow" or size is None:
            return self.pixels(picture.image)
        small = resized(picture.array, size[1], size[0], self.resample)
        return np.ascontiguousarray(_cropped(small, self.crop)[..., :3].transpose(2, 0, 1))

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resizes and crops an RGB image by Pillow, to uint8 (3, H, W)."""
        image = self._resized(image)
        if self.crop and self.crop != (image.height, image.width):
            height, width = self.crop
            left, top = (image.width - width) // 2, (image.height - height) // 2
            # Beyond the image Pillow fills in black, as the processor does.
            image = image.crop((left, top, left + width, top + height))
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of a picture of this size that `pixels` shows: (left, top, width, height).

        In fractions of the picture. It reaches beyond it where the crop fills in black.
        """
        if self.resize is not None:
            width, height = _resized_to(self.resize, (width, height))
        high, wide = self.crop or (height, width)
        left, top = (width - wide) // 2, (height - high) // 2
        return left / width, top / height, wide / width, high / height

    def _resized(self, image: Image.Image) -> Image.Image:
        if self.resize is None:
            return image
        width, height = _resized_to(self.resize, image.size)
        if width * height > _LARGEST and self.crop is not None:
            return self._resized_middle(image, width, height, self.crop)
        return image.resize((width, height), self.resample)

    def _resized_middle(
        self, image: Image.Image, width: int, height: int, crop: tuple[int, int]
    ) -> Image.Image:
        """Resizes only the part of `image` that the crop will keep.

        The pixels are nearly the same: Pillow reads the box in float32 and may swap its two passes.
        """
        rows, columns = min(crop[0], height), min(crop[1], width)
        left, top = (width - columns) // 2, (height - rows) // 2
        x, y = image.width / width, image.height / height
        right, bottom = min((left + columns) * x, image.width), min((top + rows) * y, image.height)
        return image.resize((columns, rows), self.resample, box=(left * x, top * y, right, bottom))


def _cropped(pixels: NDArray[np.uint8], crop: tuple[int, int] | None) -> NDArray[np.uint8]:
    """The middle of (H, W, channels), black beyond, as Pillow's `crop` and the processor do."""
    if crop is None or crop == pixels.shape[:2]:
        return pixels
    made = np.zeros((*crop, pixels.shape[2]), np.uint8)
    (to_top, top, rows), (to_left, left, columns) = map(_overlap, pixels.shape[:2], crop)
    made[to_top : to_top + rows, to_left : to_left + columns] = pixels[
        top : top + rows, left : left + columns
    ]
    return made


def _overlap(length: int, wanted: int) -> tuple[int, int, int]:
    """Where the middle of a side begins in what is wanted, where in what is there, its length."""
    start = (length - wanted) // 2
    return max(0, -start), max(0, start), min(length, wanted)


def _resized_to(resize: tuple[int, int] | int, size: tuple[int, int]) -> tuple[int, int]:
    """The (width, height) to which an image of that size is resized."""
    if isinstance(resize, tuple):
        return resize[1], resize[0]
    return _shorter_edge_to(resize, size)


def _shorter_edge_to(edge: int, size: tuple[int, int]) -> tuple[int, int]:
    """The (width, height) whose shorter edge is `edge`; the longer edge is rounded down."""
    width, height = size
    if width <= height:
        return edge, int(edge * height / width)
    return int(edge * width / height), edge


def resized_size(steps: PixelSteps, width: int, height: int) -> tuple[int, int] | None:
    """The (width, height) that an image is resized to, before the crop; None if it is not, or if
    only a part of it is."""
    if steps.resize is None:
        return None
    wide, high = _resized_to(steps.resize, (width, height))
    return (wide, high) if wide * high <= _LARGEST else None
