"""Pillow's or torch's resize of many images of one size at once, as products: the same pixels.

Pillow (`src/libImaging/Resample.c`) resizes in two passes, one for each axis, and rounds to eight
bits after each. It computes in integers: each weight is a whole multiple of 2^-22. Here a weight is
cut into two digits of 11 bits. Then all sums of products are whole numbers below 2^24, which
float32 holds exactly, and so do products of half precision that are summed in float32, as graphics
cards compute them fastest. So the pixels are Pillow's own, on every device.

Torch's kernels for eight bits (`UpSampleKernelAVXAntialias.h`) do the same with shorter weights,
and always resize the width first.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Resampling
from torch import Tensor

from pipeline.images.pixels import PixelSteps, resized_size
from pipeline.images.resizing import Resizer

# Pillow's PRECISION_BITS, and the bits of the lower digit.
_BITS, _LOW = 22, 11

_SUPPORT = {
    Resampling.BOX: 0.5,
    Resampling.BILINEAR: 1.0,
    Resampling.HAMMING: 1.0,
    Resampling.BICUBIC: 2.0,
    Resampling.LANCZOS: 3.0,
}
FILTERS = frozenset(_SUPPORT)

# Half precision holds all whole numbers up to this one.
_HALF_EXACT = 2048


@dataclass(frozen=True)
class Axis:
    """One axis of a resize: its length before, the part that is read, and the lengths after.

    Of the `resized` pixels, `length` are computed, from the pixel `first` on; beyond both ends the
    image is black.
    """

    source: int
    start: float
    stop: float
    resized: int
    first: int
    length: int

    @property
    def read(self) -> float:
        """In pixels. Pillow reads both ends in single precision."""
        return float(np.float32(self.stop) - np.float32(self.start))

    @classmethod
    def whole(cls, source: int, resized: int) -> "Axis":
        return cls(source, 0.0, float(source), resized, 0, resized)


@dataclass(frozen=True)
class Resize:
    """Both axes, as (columns, rows), the filter, and whose pixels are to be made."""

    columns: Axis
    rows: Axis
    filter: Resampling
    resizer: Resizer = "pillow"

    @property
    def rows_first(self) -> bool:
        """Whether the height is resized first, as Pillow does where that leaves less to do."""
        if self.resizer == "torch":
            return False
        wide, high = self.columns.read, self.rows.read
        return high - self.rows.resized > 2 * max(0.0, wide - self.columns.resized)


def resize_for(steps: PixelSteps, width: int, height: int) -> Resize | None:
    """What makes the model's pixels of an image of this size; None if only the CPU can."""
    resized = resized_size(steps, width, height)
    if resized is None or steps.resample not in FILTERS:
        return None
    high, wide = steps.size
    axes = [
        Axis(source, 0.0, float(source), to, (to - kept) // 2, kept)
        for source, to, kept in zip((width, height), resized, (wide, high), strict=True)
    ]
    return Resize(axes[0], axes[1], steps.resample, steps.resizer)


class Planes:
    """Images of one size as numbers, (n, 3, rows, columns), padded for the products.

    Below and to the right is a line of ones: its weight is the half that is added to round. The
    rest of the padding is zero; it brings both lengths to multiples of eight.
    """

    def __init__(self, values: Tensor, height: int, width: int) -> None:
        self.values, self.height, self.width = values, height, width

    @classmethod
    def of(cls, images: Tensor, dtype: torch.dtype) -> "Planes":
        """From whole numbers (n, 3, H, W) that `dtype` holds exactly."""
        count, channels, height, width = images.shape
        shape = (count, channels, _padded(height), _padded(width))
        values = torch.zeros(shape, dtype=dtype, device=images.device)
        values[:, :, :height, :width] = images
        values[:, :, height] = 1
        values[:, :, :, width] = 1
        return cls(values, height, width)


def _padded(length: int) -> int:
    return (length // 8 + 1) * 8


def resized(planes: Planes, how: Resize) -> Tensor:
    """uint8 (n, 3, H, W), to the bit as Pillow or torch resizes."""
    passes = [_down, _across] if how.rows_first else [_across, _down]
    axes = [how.rows, how.columns] if how.rows_first else [how.columns, how.rows]
    first = passes[0](planes, axes[0], how)
    return passes[1](Planes.of(first, planes.values.dtype), axes[1], how)


def drawn(planes: Planes, how: Resize) -> Tensor:
    """uint8 (n, 3, H, W), nearly as Pillow resizes: one digit, and nothing rounded in between."""
    device, dtype = planes.values.device, planes.values.dtype
    count, channels, rows, columns = planes.values.shape
    across = _plain(how.columns, how.filter, device, dtype)
    down = _plain(how.rows, how.filter, device, dtype)
    wide = (planes.values.view(-1, columns) @ across.T).view(count * channels, rows, -1)
    both = torch.bmm(down.expand(len(wide), -1, -1), wide)
    return both.add_(0.5).clamp_(0, 255).to(torch.uint8).view(count, channels, *both.shape[1:])


def reduced(planes: Planes, columns: int, rows: int) -> Tensor:
    """uint8 (n, 3, ...): each so many columns and rows become one pixel, as by Pillow's `reduce`.

    Pillow (`src/libImaging/Reduce.c`) multiplies the sum by a reciprocal of 32 bits.
    """
    count, channels, height, width = planes.values.shape
    device, dtype = planes.values.device, planes.values.dtype
    across = _blocks(planes.width, columns, device, dtype)
    sums = _product(planes.values.view(-1, width), across.T).view(count * channels, height, -1)
    exact = dtype if 255 * columns <= _HALF_EXACT else torch.float64
    down = _blocks(planes.height, rows, device, exact)
    totals = _products(down.expand(len(sums), -1, -1), sums.to(exact)).to(torch.int64)
    halves, reciprocals = _reciprocals(planes.width, planes.height, columns, rows, device)
    mean = totals.add_(halves).mul_(reciprocals).bitwise_right_shift_(24).to(torch.uint8)
    return mean.view(count, channels, *mean.shape[1:])


def _across(planes: Planes, axis: Axis, how: Resize) -> Tensor:
    """The pass along the rows."""
    count, channels, rows, columns = planes.values.shape
    kept = (planes.values.device, planes.values.dtype)
    weights = _digits(axis, how.filter, how.resizer, *kept)
    sums = _product(planes.values.view(-1, columns), weights.T)
    rounded = _rounded(sums[:, : axis.length], sums[:, axis.length :])
    return rounded.view(count, channels, rows, axis.length)[:, :, : planes.height]


def _down(planes: Planes, axis: Axis, how: Resize) -> Tensor:
    """The pass along the columns."""
    count, channels, rows, columns = planes.values.shape
    kept = (planes.values.device, planes.values.dtype)
    weights = _digits(axis, how.filter, how.resizer, *kept)
    flat = planes.values.view(count * channels, rows, columns)
    sums = _products(weights.expand(len(flat), -1, -1), flat)
    rounded = _rounded(sums[:, : axis.length], sums[:, axis.length :])
    return rounded.view(count, channels, axis.length, columns)[..., : planes.width]


def _rounded(upper: Tensor, lower: Tensor) -> Tensor:
    """Joins the sums of both digits and rounds down, which is exact; uint8."""
    joined = torch.add(upper, lower.floor_(), alpha=2.0**-_LOW)
    return joined.clamp_(0, 255).to(torch.uint8)


def _product(values: Tensor, weights: Tensor) -> Tensor:
    if values.dtype is not torch.float16:
        return values @ weights
    return torch.mm(values, weights, out_dtype=torch.float32)


def _products(weights: Tensor, values: Tensor) -> Tensor:
    if values.dtype is not torch.float16:
        return torch.bmm(weights, values)
    return torch.bmm(weights, values, out_dtype=torch.float32)


@lru_cache(maxsize=256)
def _digits(
    axis: Axis, kind: Resampling, resizer: Resizer, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """(2 x length, padded source): the upper digits, then the lower, both times 2^11.

    The upper digit's line of ones has the half that is added to round.
    """
    whole = _weights(axis, kind, _BITS if resizer == "pillow" else _torch_bits(axis, kind))
    step = np.where(np.abs(whole) > 1 << _BITS, 2, 1)  # a digit above 2^11 has to be even
    upper = np.floor(whole / (step << _LOW) + 0.5).astype(np.int64) * step
    lower = whole - (upper << _LOW)
    joined = np.zeros((2 * axis.length, _padded(axis.source)))
    joined[: axis.length, : axis.source] = upper * 2.0**-_LOW
    joined[axis.length :, : axis.source] = lower * 2.0**-_LOW
    joined[: axis.length, axis.source] = 0.5
    return torch.from_numpy(joined).to(device=device, dtype=dtype)


@lru_cache(maxsize=64)
def _plain(axis: Axis, kind: Resampling, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(length, padded source): the weights as they are."""
    padded = np.zeros((axis.length, _padded(axis.source)))
    padded[:, : axis.source] = _weights(axis, kind) * 2.0**-_BITS
    return torch.from_numpy(padded).to(device=device, dtype=dtype)


@lru_cache(maxsize=64)
def _blocks(source: int, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(blocks, padded source): one where a pixel is in a block."""
    pixels = np.arange(_padded(source))
    inside = (pixels // size == np.arange(-(-source // size))[:, None]) & (pixels < source)
    return torch.from_numpy(inside.astype(np.float64)).to(device=device, dtype=dtype)


@lru_cache(maxsize=64)
def _reciprocals(
    width: int, height: int, columns: int, rows: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """For each block half its pixels and their reciprocal, int64 (rows, columns)."""
    wide = np.minimum(columns, width - np.arange(0, width, columns))
    high = np.minimum(rows, height - np.arange(0, height, rows))
    pixels = high[:, None] * wide
    reciprocals = (np.float32(2**32) / (256 * pixels).astype(np.float32)).astype(np.int64)
    return torch.from_numpy(pixels // 2).to(device), torch.from_numpy(reciprocals).to(device)


def _torch_bits(axis: Axis, kind: Resampling) -> int:
    """Of each weight, so that the greatest of the whole axis fits into 16 with its sign."""
    whole = replace(axis, first=0, length=axis.resized)
    greatest = int(_weights(whole, kind).max()) / (1 << _BITS)
    bits = range(_BITS)
    return next((n for n in bits if int(0.5 + greatest * (1 << (n + 1))) >= 1 << 15), _BITS)


def _weights(axis: Axis, kind: Resampling, bits: int = _BITS) -> np.ndarray:
    """int64 (length, source): Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc`.

    They are times 2^22, and rounded to so many bits of these.
    """
    start, scale = float(np.float32(axis.start)), axis.read / axis.resized
    stretch = max(scale, 1.0)
    support = _SUPPORT[kind] * stretch
    found = np.zeros((axis.length, axis.source), np.int64)
    inside = range(max(0, axis.first), min(axis.resized, axis.first + axis.length))
    pixels = np.array(inside)
    centres = start + (pixels + 0.5) * scale
    lows = np.maximum(0, (centres - support + 0.5).astype(np.int64))
    highs = np.minimum(axis.source, (centres + support + 0.5).astype(np.int64))
    taps = lows[:, None] + np.arange(max(1, int((highs - lows).max())))
    values = _FUNCTIONS[kind]((taps - centres[:, None] + 0.5) * (1.0 / stretch))
    values[taps >= highs[:, None]] = 0.0
    sums = np.add.accumulate(values, axis=1)[:, -1:]  # in Pillow's order
    values /= np.where(sums == 0, 1.0, sums)
    whole = np.trunc(values * (1 << bits) + np.copysign(0.5, values)).astype(np.int64)
    whole <<= _BITS - bits
    lines = np.broadcast_to((pixels - axis.first)[:, None], taps.shape)
    kept = taps < highs[:, None]
    found[lines[kept], taps[kept]] = whole[kept]
    return found


_Floats = NDArray[np.float64]


def _box(x: _Floats) -> _Floats:
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


def _bilinear(x: _Floats) -> _Floats:
    return np.maximum(0.0, 1.0 - np.abs(x))


def _hamming(x: _Floats) -> _Floats:
    x = np.abs(x)
    turned = np.where(x == 0, 1.0, x * math.pi)
    # Pillow's constants are of single precision.
    window = float(np.float32(0.54)) + float(np.float32(0.46)) * np.cos(turned)
    return np.where(x == 0, 1.0, np.where(x >= 1, 0.0, np.sin(turned) / turned * window))


def _bicubic(x: _Floats) -> _Floats:
    a, x = -0.5, np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _sinc(x: _Floats) -> _Floats:
    turned = np.where(x == 0, 1.0, x * math.pi)
    return np.where(x == 0, 1.0, np.sin(turned) / turned)


def _lanczos(x: _Floats) -> _Floats:
    return np.where((x >= -3) & (x < 3), _sinc(x) * _sinc(x / 3), 0.0)


_FUNCTIONS = {
    Resampling.BOX: _box,
    Resampling.BILINEAR: _bilinear,
    Resampling.HAMMING: _hamming,
    Resampling.BICUBIC: _bicubic,
    Resampling.LANCZOS: _lanczos,
}
