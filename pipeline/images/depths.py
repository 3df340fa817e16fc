"""Brings pictures of more than 8 bits a channel to 8, by rules that docs/formats.md states."""

import numpy as np
from PIL.ImageFile import ImageFile

# The depths of sensors, in bits. Files of 16 bits hold them without saying which.
_DEPTHS = (8, 10, 12, 14)

# The end of the name of Pillow's decoders of 16 bits: what takes the upper byte of each value, and
# what takes the lower byte of the same.
_LOWER = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B"}


def shades(values: np.ndarray) -> np.ndarray:
    """Deep grey as uint8 (H, W): the image's own darkest value becomes 0, its brightest 255.

    Medical images store 10, 12 or 14 bits, or Hounsfield units, in 16 or 32 bits, and the file does
    not say which. Scaled by the type's range, a 12-bit scan would keep 16 shades of near-black. So
    the range comes from the image, as in a viewer's automatic window. NaN and infinity become
    black.
    """
    if values.dtype.kind in "iu":
        values = _above_darkest(values)
    values = values.astype(np.float32)
    numbers = values[np.isfinite(values)]
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.clip((values - low) * (255 / ((high - low) or 1.0)), 0, 255)
    grey: np.ndarray = np.nan_to_num(scaled).round().astype(np.uint8)
    return grey


def _above_darkest(values: np.ndarray) -> np.ndarray:
    """Exact differences, in the unsigned type of the same size: floats have only 24 bits."""
    unsigned = np.dtype(f"u{values.dtype.itemsize}")
    difference: np.ndarray = values.astype(unsigned) - values.min().astype(unsigned)
    return difference


def sixteen_bits(image: ImageFile) -> bool:
    """Whether an opened image, not yet loaded, holds 16 bits a channel in colour."""
    raw_mode = _raw_mode(image)
    return image.mode in ("RGB", "RGBA") and raw_mode[-4:] in _LOWER and "a" not in raw_mode


def dark(image: ImageFile) -> bool:
    """Whether the upper bytes of a loaded image use two bits less than they have."""
    most: int = max(high for _, high in image.getextrema()[:3])  # type: ignore[misc]
    return most < 1 << _DEPTHS[-1] - 8


def lower_bytes(image: ImageFile) -> np.ndarray:
    """The lower byte of each channel's 16 bits (H, W, C), of an opened image, not yet loaded."""
    grey = _raw_mode(image).startswith("LA")
    image.tile = [
        tile._replace(args="RGBA" if grey else _lower(tile.args)) if tile.args else tile
        for tile in image.tile
    ]
    image.load()
    # Nothing in Pillow takes the lower bytes of grey with transparency, but as colours of 8 bits,
    # two values of 16 are all there: grey's upper byte, its lower, transparency's upper, its lower.
    return np.asarray(image)[..., (1, 1, 1, 3)] if grey else np.asarray(image)


def joined(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Colours of 16 bits as uint8 (H, W, C), scaled by as many bits as the brightest value needs.

    Transparency, the fourth channel, is scaled on its own.
    """
    values = upper.astype(np.uint16) << 8 | lower
    parts = [_by_depth(values[..., :3])]
    if values.shape[2] == 4:
        parts.append(_by_depth(values[..., 3:]))
    return np.concatenate(parts, axis=2)


def _by_depth(values: np.ndarray) -> np.ndarray:
    most = int(values.max())
    depth = next((bits for bits in _DEPTHS if most < 1 << bits), 16)
    scaled: np.ndarray = (values * np.float32(255 / ((1 << depth) - 1))).round().astype(np.uint8)
    return scaled


def _raw_mode(image: ImageFile) -> str:
    args = image.tile[0].args if image.tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args or "")


def _lower(args: tuple[object, ...] | str | None) -> tuple[object, ...] | str:
    """A decoder's arguments: the raw mode, alone or before others."""
    if isinstance(args, str):
        return args[:-4] + _LOWER[args[-4:]]
    assert args  # noqa: S101 - see sixteen_bits
    return (_lower(str(args[0])), *args[1:])
