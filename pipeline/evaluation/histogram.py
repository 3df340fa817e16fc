"""The baseline that an encoder must beat: a histogram of colours.

32 bins for each of red, green and blue, compared by the cosine of the roots of the shares (the
Bhattacharyya coefficient, which ranks as Hellinger's distance does). A picture of skin says much by
its colours alone, so better than chance proves nothing.
"""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BINS = 32  # of each colour

_THREADS = 4  # that read, since an object store answers late; one decodes, as searches need cores
_AT_ONCE = 64  # pictures that are read ahead, and between two looks at whether to go on

Floats = NDArray[np.float32]

# Gives the bytes of an image's preview, by its id. Raises FileNotFoundError if it has none.
Preview = Callable[[str], bytes]


def histogram(picture: Image.Image) -> Floats:
    """float32 (96,), of length 1: roots of the shares of pixels in each bin."""
    counts = np.array(picture.convert("RGB").histogram(), np.float32)
    found: Floats = np.sqrt(counts.reshape(3 * BINS, 256 // BINS).sum(1))
    return found / np.linalg.norm(found)


@dataclass
class Histograms:
    """Those of previews, each read once. `tick` is called every few pictures, and may raise."""

    preview: Preview
    tick: Callable[[int], None]
    missing: int = 0
    _known: dict[str, Floats] = field(default_factory=dict)

    def vectors(self, ids: Sequence[str]) -> Floats:
        """float32 (n, 96); of zeros, which is near nothing, for an image without a preview."""
        wanted = [each for each in ids if each not in self._known]
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(wanted), _AT_ONCE):
                part = wanted[start : start + _AT_ONCE]
                for each, data in zip(part, pool.map(self._read, part), strict=True):
                    self._known[each] = self._histogram(data)
                self.tick(len(part))
        return np.stack([self._known[each] for each in ids])

    def _read(self, image_id: str) -> bytes | None:
        try:
            return self.preview(image_id)
        except FileNotFoundError:  # it is deleted just now
            return None

    def _histogram(self, data: bytes | None) -> Floats:
        if data is None:
            self.missing += 1
            return np.zeros(3 * BINS, np.float32)
        with Image.open(io.BytesIO(data)) as picture:
            return histogram(picture)
