"""What an evaluation found of closeness, kept with its collection until either changes much.

keep(blobs, Kept(…))            an evaluation, when it ends
Calibrations(…).current()       searches: a Calibration, or None where there was no evaluation
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from threading import Lock

from pipeline.base.blobs import Blobs
from pipeline.messages import Closeness, ClosenessBasis, EncoderInfo, Message
from pipeline.messages.base import read
from pipeline.messages.closeness import Void
from pipeline.messages.evaluations import Calibrated, CalibrationPoint

FOLDER = "calibration"  # in the backup's list of blobs
_NAME = f"{FOLDER}/closeness.json"

# By which share a collection may grow or shrink before what was measured is void: a choice. If all
# new images are of other labels and lie evenly among the old ones, a fifth of them makes a share a
# sixth less (0.2 of 1.2); where they crowd at some similarities, more. It was not measured.
CHANGE = 0.2

# A new evaluation, and a collection that has changed, show so many seconds later in each worker.
LOOK_SECONDS = 5.0


class Kept(Message):
    """What is kept: of `images` in the collection then, with the encoder that it had."""

    evaluation: str
    created_at: datetime
    encoder: EncoderInfo
    label: str
    group: str | None
    images: int
    least_score: float
    curves: tuple[Calibrated, ...]


@dataclass(frozen=True)
class Calibration:
    """`void` says why it no longer holds."""

    kept: Kept
    void: Void | None = None

    @property
    def basis(self) -> ClosenessBasis:
        fields = ("evaluation", "created_at", "label", "images", "least_score")
        return ClosenessBasis(**{n: getattr(self.kept, n) for n in fields}, void=self.void)

    def closeness(self, score: float, label: str | None) -> Closeness | None:
        """Of a hit with this cosine and label; None if it is less similar than what was seen.

        Between the curve's points it is on the line from one to the next, and beyond the last it is
        as of the last.
        """
        if score < self.kept.least_score:
            return None
        chosen = label if label in self._curves else None
        below, above, part = _around(self._curves[chosen], score)

        def between(least: float, most: float) -> float:
            return round(least + part * (most - least), 4)

        return Closeness(
            share=between(below.share, above.share),
            low=between(below.low, above.low),
            high=between(below.high, above.high),
            neighbours=(above if part > 0.5 else below).neighbours,
            label=chosen,
        )

    @cached_property
    def _curves(self) -> dict[str | None, tuple[CalibrationPoint, ...]]:
        return {curve.label: curve.points for curve in self.kept.curves}


def _around(
    points: Sequence[CalibrationPoint], score: float
) -> tuple[CalibrationPoint, CalibrationPoint, float]:
    """The points on both sides of a score, and which part of the way from one to the other it is.

    Beyond the first and the last, that one alone.
    """
    at = bisect_right(points, score, key=lambda point: point.score)
    if at in (0, len(points)):
        only = points[min(at, len(points) - 1)]
        return only, only, 0.0
    below, above = points[at - 1], points[at]
    return below, above, (score - below.score) / (above.score - below.score)


def keep(blobs: Blobs, found: Kept) -> None:
    """In place of what was kept before. Raises BlobsUnavailable."""
    blobs.write(_NAME, found.model_dump_json().encode(), durable=True)


@dataclass
class Calibrations:
    """Reads what is kept, and looks whether it still holds, once in `LOOK_SECONDS`.

    Safe to call from several threads. `images` counts the collection's.
    """

    blobs: Blobs
    encoder: EncoderInfo
    images: Callable[[], int]
    _found: Calibration | None = field(default=None, init=False)
    _looked: float = field(default=-LOOK_SECONDS, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    def current(self) -> Calibration | None:
        """None if the collection was never evaluated.

        Raises BlobsUnavailable and StoreUnavailable.
        """
        with self._lock:
            if time.monotonic() - self._looked >= LOOK_SECONDS:
                self._found = self._read()
                self._looked = time.monotonic()
            return self._found

    def _read(self) -> Calibration | None:
        try:
            kept = read(Kept, self.blobs.read(_NAME))
        except FileNotFoundError:
            return None
        except ValueError:  # of a newer version, whose evaluations mean something else
            return None
        return Calibration(kept, self._void(kept))

    def _void(self, kept: Kept) -> Void | None:
        if kept.encoder.identity != self.encoder.identity:
            return "encoder"
        change = abs(self.images() - kept.images)
        return "images" if change > CHANGE * kept.images else None
