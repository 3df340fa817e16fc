"""What a decoder makes of a file: the model's pixels, a preview and a hash, or a reason."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Resampling

from pipeline.images.decoding import NO_MEMORY, Unusable, cut, decode, masked, whole
from pipeline.images.hashes import perceptual_hash
from pipeline.images.pixels import PixelSteps
from pipeline.images.previews import preview

if TYPE_CHECKING:  # decoders do without torch
    from torch import Tensor


@dataclass(frozen=True)
class Prepared:
    """A decoded image: uint8 pixels of shape (3, H, W) for the encoder, its own size and hash.

    Where a card has decoded it, the pixels are still there.

    `preview` is a JPEG, or empty if none was ordered. `rule` says how values of DICOM became
    shades; empty for other pictures. `picture` is all of it as a PNG, if that was ordered.
    `window` is as of `Picture`.
    """

    pixels: "NDArray[np.uint8] | Tensor"
    preview: bytes
    width: int
    height: int
    phash: str
    rule: str = ""
    picture: bytes = b""
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class Order:
    """What to make: pixels by these steps, of all of the picture or of a part.

    `crop` is (left, top, width, height) in fractions of the picture. `preview` is the longest side
    of the preview in pixels; 0: no preview. `frame`: of DICOM, counted from 0. `whole`: all of the
    picture as a PNG, too. `masks` are (left, top, width, height) in pixels, made black first.
    `window`: a centre and a width instead of the file's own rule.
    """

    steps: PixelSteps
    preview: int = 0
    crop: tuple[float, float, float, float] | None = None
    frame: int = 0
    whole: bool = False
    masks: tuple[tuple[int, int, int, int], ...] = ()
    window: tuple[float, float] | None = None

    def as_json(self) -> str:
        it = self.steps
        steps = (it.resize, int(it.resample), it.crop, it.resizer)
        drawn = (self.crop, self.frame, self.whole, self.masks, self.window)
        return json.dumps((steps, self.preview, *drawn))

    @classmethod
    def of_json(cls, text: str) -> Self:
        (resize, resample, crop, resizer), longest, part, frame, whole, masks, window = json.loads(
            text
        )
        size = tuple(resize) if isinstance(resize, list) else resize
        middle = tuple(crop) if crop else None
        steps = PixelSteps(size, Resampling(resample), middle, resizer=resizer)
        covered = tuple((left, top, width, height) for left, top, width, height in masks)
        shades = tuple(window) if window else None
        return cls(steps, longest, tuple(part) if part else None, frame, whole, covered, shades)


def prepare(data: bytes, max_pixels: int, order: Order) -> Prepared | Unusable:
    """Decodes a file of at most `max_pixels`, and makes of it what is ordered.

    No content of `data` makes it raise.
    """
    try:
        picture = decode(data, max_pixels, order.frame, order.window)
        if not isinstance(picture, Unusable) and order.masks:
            picture = masked(picture, order.masks)
        if not isinstance(picture, Unusable) and order.crop is not None:
            picture = cut(picture, *order.crop)
        if isinstance(picture, Unusable):
            return picture
        return Prepared(
            pixels=order.steps.pixels_of(picture),
            preview=preview(picture, order.preview) if order.preview else b"",
            width=picture.width,
            height=picture.height,
            phash=perceptual_hash(picture, order.steps.resizer),
            rule=picture.rule,
            picture=whole(picture) if order.whole else b"",
            window=picture.window,
        )
    except MemoryError:
        return NO_MEMORY
