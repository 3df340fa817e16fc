"""The pixels that a model sees of an image: resized and cropped by Pillow, in eight bits.

This half of the preprocessing imports neither torch nor transformers, because decoders do it
(`decoder.py`). `pipeline/encoding/preprocessing.py` says where the steps come from.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.Image import Resampling

# In pixels. Resizing the shorter edge of a 1 by 65,535 image to 224 takes 13 GB. Above this size we
# compute only the part that the crop keeps. An ordinary image stays far below.
_LARGEST = 16_000_000


@dataclass(frozen=True)
class PixelSteps:
    """Resize, then crop. None skips the step."""

    resize: tuple[int, int] | int | None  # (height, width), or the length of the shorter edge
    resample: Resampling
    crop: tuple[int, int] | None  # (height, width), from the middle, black beyond the image

    @property
    def size(self) -> tuple[int, int]:
        """The (height, width) of the model's input."""
        size = self.crop or self.resize
        assert isinstance(size, tuple)  # noqa: S101 - a shorter edge always comes with a crop
        return size

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Resizes and crops an RGB image to uint8 (3, H, W); `size` is (H, W)."""
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
        if isinstance(self.resize, tuple):
            height, width = self.resize
        elif self.resize is not None:
            width, height = _shorter_edge_to(self.resize, (width, height))
        high, wide = self.crop or (height, width)
        left, top = (width - wide) // 2, (height - high) // 2
        return left / width, top / height, wide / width, high / height

    def _resized(self, image: Image.Image) -> Image.Image:
        if self.resize is None:
            return image
        if isinstance(self.resize, tuple):
            height, width = self.resize
            return image.resize((width, height), self.resample)
        width, height = _shorter_edge_to(self.resize, image.size)
        if width * height > _LARGEST:
            return self._resized_middle(image, width, height)
        return image.resize((width, height), self.resample)

    def _resized_middle(self, image: Image.Image, width: int, height: int) -> Image.Image:
        """Resizes only the part of `image` that the crop will keep.

        The pixels are nearly the same: Pillow reads the box in float32 and may swap its two passes.
        """
        assert self.crop is not None  # noqa: S101 - a shorter edge always comes with a crop
        rows, columns = min(self.crop[0], height), min(self.crop[1], width)
        left, top = (width - columns) // 2, (height - rows) // 2
        x, y = image.width / width, image.height / height
        right, bottom = min((left + columns) * x, image.width), min((top + rows) * y, image.height)
        return image.resize((columns, rows), self.resample, box=(left * x, top * y, right, bottom))


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
    if isinstance(steps.resize, tuple):
        return steps.resize[1], steps.resize[0]
    wide, high = _shorter_edge_to(steps.resize, (width, height))
    return (wide, high) if wide * high <= _LARGEST else None
