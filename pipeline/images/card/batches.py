"""What the card makes of files at once: pixels, previews and hashes, as `preparing.py` of one.

Files of one size are decoded, resized and hashed together. Pixels for the model stay on the card.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import torch
from PIL.Image import Resampling
from torch import Tensor

from pipeline.images.card.codecs import Codec
from pipeline.images.card.readable import Frame
from pipeline.images.card.resampling import (
    Axis,
    Planes,
    Resize,
    drawn,
    reduced,
    resize_for,
    resized,
)
from pipeline.images.hashes import HASHED_GAP, HASHED_SIDE, hashes_of
from pipeline.images.preparing import Order, Prepared
from pipeline.images.previews import PREVIEW_FILTER, PREVIEW_QUALITY, as_preview, preview_size
from pipeline.images.resizing import Resizer

# Source pixels that are resized at once. They take some 40 bytes each of the card's memory.
MOST_PIXELS = 24_000_000

# Brightness as Pillow computes it of red, green and blue: 65,536ths.
_RED, _GREEN, _BLUE = 19_595, 38_470, 7_471


@dataclass
class Clock:
    """Adds up the seconds of each stage, for benchmarks; `wait` is called before each reading."""

    wait: Callable[[], None]
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _since: float = field(default_factory=time.perf_counter)

    def start(self) -> None:
        self.wait()
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        self.wait()
        now = time.perf_counter()
        self.seconds[stage] += now - self._since
        self._since = now


@dataclass(frozen=True)
class Maker:
    """Makes of files what an order wants. `writers` encode previews on the CPU; else the card does.

    One thread uses it at a time.
    """

    codec: Codec
    writers: Executor | None = None
    clock: Clock | None = None
    dtype: torch.dtype = torch.float32

    def make(self, files: Sequence[bytes], frame: Frame, order: Order) -> list[Prepared | None]:
        """For files of one frame; None for what the card cannot decode.

        Raises torch.OutOfMemoryError, and RuntimeError for what the card refuses.
        """
        how = resize_for(order.steps, frame.width, frame.height)
        if how is None:
            return [None] * len(files)
        if self.clock is not None:
            self.clock.start()
        decoded = self.codec.decode(files)
        self._lap("decode")
        shape = (frame.height, frame.width, 3)
        good = [n for n, one in enumerate(decoded) if one is not None and one.shape == shape]
        made: list[Prepared | None] = [None] * len(files)
        step = max(1, MOST_PIXELS // frame.pixels)
        for start in range(0, len(good), step):
            chosen = good[start : start + step]
            images = torch.stack([one for n in chosen if (one := decoded[n]) is not None])
            for number, prepared in zip(chosen, self._of(images, frame, how, order), strict=True):
                made[number] = prepared
        return made

    def _of(self, images: Tensor, frame: Frame, how: Resize, order: Order) -> list[Prepared]:
        """Of decoded images, uint8 (n, H, W, 3)."""
        planes = Planes.of(images.permute(0, 3, 1, 2), self.dtype)
        self._lap("stack")
        pixels = resized(planes, how)
        self._lap("resize")
        small = brightness(planes, order.steps.resizer)
        self._lap("hash")
        previews = self._previews(images, planes, frame, order.preview)
        hashes = hashes_of(small.cpu().numpy())
        self._lap("hash")
        return [
            Prepared(one, preview, frame.width, frame.height, phash)
            for one, preview, phash in zip(pixels, previews, hashes, strict=True)
        ]

    def _previews(
        self, images: Tensor, planes: Planes, frame: Frame, longest: int
    ) -> Sequence[bytes]:
        if not longest:
            return [b""] * len(images)
        size = preview_size(frame.width, frame.height, longest)
        small = images
        if size != (frame.width, frame.height):
            axes = [
                Axis.whole(a, b) for a, b in zip((frame.width, frame.height), size, strict=True)
            ]
            how = Resize(axes[0], axes[1], PREVIEW_FILTER)
            small = drawn(planes, how).permute(0, 2, 3, 1)
        small = small.contiguous()
        self._lap("draw previews")
        made = self._encoded(small)
        self._lap("encode previews")
        return made

    def _encoded(self, small: Tensor) -> Sequence[bytes]:
        if self.writers is None:
            return self.codec.encode(small, PREVIEW_QUALITY)
        pictures = small.cpu().numpy()
        return [*self.writers.map(as_preview, pictures)]

    def _lap(self, stage: str) -> None:
        if self.clock is not None:
            self.clock.lap(stage)


def exact_dtype(device: torch.device) -> torch.dtype:
    """What products are computed in: half precision where it is exact, as on a card."""
    noise = torch.randint(0, 256, (2, 3, 90, 120), dtype=torch.uint8)
    axes = Axis.whole(120, 50), Axis.whole(90, 70)
    how = Resize(*axes, Resampling.BICUBIC)
    expected = resized(Planes.of(noise, torch.float32), how)
    try:
        found = resized(Planes.of(noise.to(device), torch.float16), how).cpu()
    except (RuntimeError, TypeError):  # this torch, or this device, has no such products
        return torch.float32
    return torch.float16 if torch.equal(found, expected) else torch.float32


def brightness(planes: Planes, resizer: Resizer = "pillow") -> Tensor:
    """uint8 (n, 64, 64): what a perceptual hash is made of (`hashes.py`), to the bit."""
    small = _small_by_torch(planes) if resizer == "torch" else _small_by_pillow(planes)
    red, green, blue = small.to(torch.int32).unbind(1)
    sums = red * _RED + green * _GREEN + blue * _BLUE + (1 << 15)
    return sums.bitwise_right_shift_(16).to(torch.uint8)


def _small_by_torch(planes: Planes) -> Tensor:
    wide, high = (Axis.whole(length, HASHED_SIDE) for length in (planes.width, planes.height))
    return resized(planes, Resize(wide, high, Resampling.BILINEAR, "torch"))


def _small_by_pillow(planes: Planes) -> Tensor:
    width, height = planes.width, planes.height
    columns, rows = (int(n / HASHED_SIDE / HASHED_GAP) or 1 for n in (width, height))
    if columns > 1 or rows > 1:
        planes = Planes.of(reduced(planes, columns, rows), planes.values.dtype)
    how = Resize(
        Axis(planes.width, 0.0, width / columns, HASHED_SIDE, 0, HASHED_SIDE),
        Axis(planes.height, 0.0, height / rows, HASHED_SIDE, 0, HASHED_SIDE),
        Resampling.BILINEAR,
    )
    return resized(planes, how)
