"""Says of each hit how close it is, by what the collection's evaluation has measured."""

from dataclasses import dataclass
from uuid import UUID

from pipeline.base.errors import InvalidQuery
from pipeline.evaluation.closeness import Calibration
from pipeline.messages import Closeness, Payload, SearchQuery
from pipeline.retrieval.targets import QueryTarget
from pipeline.store import ScoredPoint

# From this cosine on it is the same vector, so the same picture: float32 leaves less than 1e-6.
_SAME = 1 - 1e-5

# What is wrong where a search names a least closeness.
_NEVER = "Nothing is known of closeness here yet: run `kindred evaluate`, or leave it out."
_VOID = {
    "encoder": "The collection was evaluated with another encoder: run `kindred evaluate` again.",
    "images": "The collection has changed much since it was evaluated: run `kindred evaluate`"
    " again.",
}


def check_closeness(search: SearchQuery, calibration: Calibration | None) -> None:
    """Raises InvalidQuery for a least closeness where none is known."""
    if search.min_closeness is None or (calibration and calibration.void is None):
        return
    void = calibration.void if calibration else None
    raise InvalidQuery(_VOID[void] if void else _NEVER, ("min_closeness",))


@dataclass(frozen=True)
class Judge:
    """Of the hits of one search. Without a `calibration` it says nothing.

    It says nothing either of what an evaluation leaves out of its neighbours: the searched image
    itself, `own`, its copies, and the images of its `groups`.
    """

    calibration: Calibration | None = None
    least: float | None = None
    own: frozenset[UUID] = frozenset()
    groups: frozenset[str] = frozenset()

    @property
    def needed(self) -> set[str]:
        """The payload fields that it reads."""
        if self.calibration is None:
            return set()
        kept = self.calibration.kept
        return {kept.label} | ({kept.group} if kept.group else set())

    def of(self, point: ScoredPoint) -> tuple[Closeness | None, bool | None]:
        """How close a hit is, and whether that is enough: None if nobody asks, or can say."""
        if self.calibration is None or self._is_own(point):
            return None, None
        label = point.payload.get(self.calibration.kept.label)
        found = self.calibration.closeness(point.score, None if label is None else str(label))
        if self.least is None:
            return found, None
        return found, found is not None and found.share >= self.least

    def _is_own(self, point: ScoredPoint) -> bool:
        group = _group(point.payload, self.calibration)
        return point.id in self.own or point.score >= _SAME or group in self.groups


def judge_of(
    search: SearchQuery, target: QueryTarget, pictures: int, calibration: Calibration | None
) -> Judge:
    """`pictures` is the number of those sent along."""
    holds = calibration is not None and calibration.void is None
    if not (holds and search.is_of_one_image(pictures)):
        return Judge()
    groups = {_group(record.payload, calibration) for record in target.positives}
    return Judge(
        calibration,
        search.min_closeness,
        frozenset(record.id for record in target.positives),
        frozenset(group for group in groups if group is not None),
    )


def _group(payload: Payload, calibration: Calibration | None) -> str | None:
    """What an evaluation calls the image's group; None for one that is alone."""
    field = calibration.kept.group if calibration else None
    value = payload.get(field) if field else None
    return None if value is None else str(value)
