"""Look-up tables as a header has them (PS3.3 C.11.1.1, C.11.2.1.1)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset


@dataclass(frozen=True)
class Table:
    """`entries` are uint16 as bytes; `first` is the value that has the first one."""

    first: int
    bits: int
    entries: bytes

    def of(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """What lies beyond the table has its first or last entry."""
        entries = np.frombuffer(self.entries, np.uint16).astype(np.float64)
        places = np.clip(np.rint(values) - self.first, 0, len(entries) - 1)
        found: NDArray[np.float64] = np.take(entries, places.astype(np.int64))
        return found

    @property
    def highest(self) -> int:
        return int((1 << self.bits) - 1)


def table_of(item: Dataset, *, signed: bool) -> Table | None:
    """Of an item of a sequence; None if it is missing or does not fit its own description.

    `signed`: what it is applied to.
    """
    descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
    if descriptor is None or len(descriptor) != 3 or data is None:
        return None
    count, first, bits = (int(each) for each in descriptor)
    count = (count & 0xFFFF) or 65_536
    first &= 0xFFFF
    if signed and first > 0x7FFF:
        first -= 65_536
    entries = _entries(item, data, count)
    if len(entries) < count or not 1 <= bits <= 16:
        return None
    entries = entries[:count]
    highest = int(entries.max())
    if highest >> bits:  # some makers write that there are fewer bits than there are
        bits = highest.bit_length()
    return Table(first, bits, entries.astype(np.uint16).tobytes())


def _entries(item: Dataset, data: object, count: int) -> NDArray[np.uint16]:
    """Words, or bytes: two of them in each word, or as many as there are entries."""
    if not isinstance(data, bytes):
        return np.array(data, np.int64, ndmin=1).astype(np.uint16)
    if len(data) in (count, count + count % 2):
        return np.frombuffer(data, np.uint8).astype(np.uint16)
    order = "<" if item.original_encoding[1] is not False else ">"
    return np.frombuffer(data[: len(data) & ~1], f"{order}u2").astype(np.uint16)
