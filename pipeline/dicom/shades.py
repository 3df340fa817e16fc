"""From stored values to shades of grey, as a reader sees them (PS3.3 C.11).

Of up to 16 bits, the whole way is one table with an entry for each value that a pixel can have.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.dicom.tables import Table

Numbers = NDArray[np.float64]
Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

TABLE_BITS = 16
_WHITE = 255
_SAME = np.arange(256, dtype=np.uint8)
# Pixels at once: where no table is, and where one is, so that what numpy makes of them stays near.
_ROWS, _PIXELS = 2**20, 2**17


@dataclass(frozen=True)
class Rescale:
    """PS3.3 C.11.1.1.2."""

    slope: float = 1.0
    intercept: float = 0.0

    def of(self, values: Numbers) -> Numbers:
        return values * self.slope + self.intercept


@dataclass(frozen=True)
class Window:
    """PS3.3 C.11.2.1.2 and .3."""

    centre: float
    width: float
    function: Function = "LINEAR"

    def of(self, values: Numbers) -> Numbers:
        """0 to 1."""
        if self.function == "SIGMOID":
            steep = np.clip(-4 * (values - self.centre) / self.width, -700, 700)
            return 1 / (1 + np.exp(steep))
        if self.function == "LINEAR_EXACT" or self.width < 1:  # by the standard, LINEAR is >= 1
            return np.clip((values - self.centre) / self.width + 0.5, 0, 1)
        if self.width == 1:
            return (values > self.centre - 0.5).astype(np.float64)
        return np.clip((values - (self.centre - 0.5)) / (self.width - 1) + 0.5, 0, 1)


@dataclass(frozen=True)
class Range:
    """From the darkest to the brightest value."""

    low: float
    high: float

    def of(self, values: Numbers) -> Numbers:
        """NaN is black."""
        width = self.high - self.low
        if not width > 0:
            return np.zeros_like(values)
        scaled = np.clip((values - self.low) / width, 0, 1)
        return np.nan_to_num(scaled, nan=0.0)


@dataclass(frozen=True)
class TableOfShades:
    """A VOI LUT (PS3.3 C.11.2.1.1)."""

    table: Table

    def of(self, values: Numbers) -> Numbers:
        return self.table.of(values) / self.table.highest


Modality = Rescale | Table
Shading = Window | Range | TableOfShades


def window_of(shading: Shading) -> tuple[float, float] | None:
    """Centre and width of the window that does nearly the same; None where there is none."""
    if isinstance(shading, Window):
        return shading.centre, shading.width
    if isinstance(shading, TableOfShades):
        low = float(shading.table.first)
        high = low + len(shading.table.entries) // 2
    else:
        low, high = shading.low, shading.high
    found = (low + high) / 2, high - low
    return found if np.isfinite(found).all() and high > low else None


@dataclass(frozen=True)
class Bits:
    """How a pixel's value is stored in a word: `count` bits above `shift` others."""

    count: int
    shift: int
    signed: bool

    def values(self, words: NDArray[Any]) -> NDArray[Any]:
        """Of unsigned words, in integers of their size; what the other bits are is no matter."""
        size = 8 * words.dtype.itemsize
        above = size - self.count - self.shift
        lifted = np.left_shift(words, above) if above else words
        if self.signed:
            lifted = lifted.view(f"i{words.dtype.itemsize}")
        below = size - self.count
        return np.right_shift(lifted, below) if below else lifted

    def value(self, number: int) -> int:
        """A number of `count` bits, which can have been read without its sign."""
        rest = number & (1 << self.count) - 1
        return rest - (rest >> self.count - 1 << self.count) if self.signed else rest


@lru_cache(maxsize=16)
def _all_values(allocated: int, bits: Bits) -> NDArray[Any]:
    """The value of each word that there is."""
    return bits.values(np.arange(1 << allocated, dtype=f"u{allocated // 8}"))


@lru_cache(maxsize=32)
def table_of(
    allocated: int, bits: Bits, modality: Modality, shading: Shading, inverse: bool
) -> NDArray[np.uint8]:
    """The shade of each word that there is, of `allocated` bits."""
    values = _all_values(allocated, bits).astype(np.float64)
    return _shades(values, modality, shading, inverse)


def shaded(
    words: NDArray[Any],
    bits: Bits,
    modality: Modality,
    shading: Shading,
    inverse: bool,
) -> NDArray[np.uint8]:
    """The shades of unsigned words or, where these are floats, of numbers; (H, W)."""
    allocated = 8 * words.dtype.itemsize
    if allocated <= TABLE_BITS and words.dtype.kind == "u":
        return looked_up(table_of(allocated, bits, modality, shading, inverse), words)
    flat = words.reshape(-1)
    made = np.empty(flat.shape, np.uint8)
    for at in range(0, len(flat), _ROWS):
        piece = flat[at : at + _ROWS]
        values = piece if piece.dtype.kind == "f" else bits.values(piece)
        made[at : at + _ROWS] = _shades(values.astype(np.float64), modality, shading, inverse)
    return made.reshape(words.shape)


def looked_up(table: NDArray[np.uint8], words: NDArray[Any]) -> NDArray[np.uint8]:
    """The table's entry for each of uint8 or uint16."""
    if len(table) == 256 and np.array_equal(table, _SAME):
        return words
    if len(table) == 256 and np.array_equal(table, _WHITE - _SAME):
        inverse: NDArray[np.uint8] = np.subtract(_WHITE, words, dtype=np.uint8)
        return inverse
    flat = np.ascontiguousarray(words).reshape(-1)
    if len(table) == 256:
        return np.frombuffer(flat.tobytes().translate(table.tobytes()), np.uint8).reshape(
            words.shape
        )
    made = np.empty(flat.shape, np.uint8)
    for at in range(0, len(flat), _PIXELS):
        # No word is beyond the table, and without a check it takes half of the time.
        piece, there = flat[at : at + _PIXELS], made[at : at + _PIXELS]
        np.take(table, piece, out=there, mode="clip")
    return made.reshape(words.shape)


def extremes(
    words: NDArray[Any],
    bits: Bits,
    modality: Modality,
    padding: tuple[float, float] | None,
) -> Range:
    """The darkest and the brightest value without those from `padding[0]` to `padding[1]`."""
    whole = words.dtype.kind == "u"
    if whole and isinstance(modality, Table):  # the order of values can be another behind it
        words = np.unique(words)
    elif whole and padding is None:
        values = bits.values(words)
        return _range(np.array([values.min(), values.max()]), modality, None)
    flat, found = words.reshape(-1), Range(np.inf, -np.inf)
    for at in range(0, len(flat), _ROWS):
        piece = flat[at : at + _ROWS]
        values = piece if piece.dtype.kind == "f" else bits.values(piece)
        part = _range(values, modality, padding)
        found = Range(min(found.low, part.low), max(found.high, part.high))
    return found


def _range(values: NDArray[Any], modality: Modality, padding: tuple[float, float] | None) -> Range:
    if padding is not None:
        values = values[(values < padding[0]) | (values > padding[1])]
    scaled = modality.of(values.astype(np.float64))
    scaled = scaled[np.isfinite(scaled)]
    if not len(scaled):
        return Range(np.inf, -np.inf)
    return Range(float(scaled.min()), float(scaled.max()))


def _shades(
    values: Numbers, modality: Modality, shading: Shading, inverse: bool
) -> NDArray[np.uint8]:
    with np.errstate(all="ignore"):
        shades = np.nan_to_num(shading.of(modality.of(values)), nan=0.0)
    made = np.rint(shades * _WHITE).astype(np.uint8)
    return _WHITE - made if inverse else made
