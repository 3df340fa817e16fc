"""What a decoder makes of a file: the model's pixels, a preview and a hash, or a reason."""

import json
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Resampling

from pipeline.images.decoding import NO_MEMORY, Unusable, cut, decode
from pipeline.images.hashes import perceptual_hash
from pipeline.images.pixels import PixelSteps
from pipeline.images.previews import preview


@dataclass(frozen=True)
class Prepared:
    """A decoded image: uint8 pixels of shape (3, H, W) for the encoder, its own size and hash.

    `preview` is a JPEG, or empty if none was ordered.
    """

    pixels: NDArray[np.uint8]
    preview: bytes
    width: int
    height: int
    phash: str


@dataclass(frozen=True)
class Order:
    """What to make: pixels by these steps, of all of the picture or of a part.

    `crop` is (left, top, width, height) in fractions of the picture. `preview` is the longest side
    of the preview in pixels; 0: no preview.
    """

    steps: PixelSteps
    preview: int = 0
    crop: tuple[float, float, float, float] | None = None

    def as_json(self) -> str:
        it = self.steps
        steps = (it.resize, int(it.resample), it.crop, it.resizer)
        return json.dumps((steps, self.preview, self.crop))

    @classmethod
    def of_json(cls, text: str) -> Self:
        (resize, resample, crop, resizer), longest, part = json.loads(text)
        size = tuple(resize) if isinstance(resize, list) else resize
        middle = tuple(crop) if crop else None
        steps = PixelSteps(size, Resampling(resample), middle, resizer=resizer)
        return cls(steps, longest, tuple(part) if part else None)


def prepare(data: bytes, max_pixels: int, order: Order) -> Prepared | Unusable:
    """Decodes a file of at most `max_pixels`, and makes of it what is ordered.

    No content of `data` makes it raise.
    """
    try:
        picture = decode(data, max_pixels)
        if not isinstance(picture, Unusable) and order.crop is not None:
            picture = cut(picture, *order.crop)
        if isinstance(picture, Unusable):
            return picture
        return Prepared(
            pixels=order.steps.pixels_of(picture),
            preview=preview(picture, order.preview) if order.preview else b"",
            width=picture.width,
            height=picture.height,
            phash=perceptual_hash(picture),
        )
    except MemoryError:
        return NO_MEMORY
