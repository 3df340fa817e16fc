"""An evaluation as it is requested, and its report."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from pipeline.messages.answers import EncoderInfo
from pipeline.messages.base import FieldName, Message
from pipeline.messages.filters import Filter

# The numbers of a ranking, each between 0 and 1.
Metric = Literal[
    "precision_at_1",
    "precision_at_5",
    "precision_at_10",
    "map_at_10",
    "ndcg_at_10",
    "balanced_accuracy",
]


# In place of a group: nothing belongs together.
UNGROUPED = "none"


class EvaluationRequest(Message):
    """`label` is the field whose value a neighbour should share; `group` what belongs together.

    `group` may be left out only where no image has a lesion or a patient; `none` overrules that.

    `sample`: how many images are searched by; all others are still neighbours. Without it, all up
    to 20,000. `near_duplicates`: what becomes of copies in other groups.
    """

    label: FieldName
    group: FieldName | None = None
    filter: Filter | None = None
    sample: int | None = Field(None, ge=100, le=100_000)
    seed: int = Field(0, ge=0, lt=2**31)
    near_duplicates: Literal["leave_out", "keep"] = "leave_out"
    baseline: bool = Field(True, description="Compare with a histogram of colours")
    calibrate: bool = Field(True, description="Keep what a similarity means with the collection")


class Estimate(Message):
    """A number with its interval of 95 %, from a bootstrap over groups; null where nothing is."""

    value: float | None
    low: float | None = None
    high: float | None = None


class ClassQuality(Message):
    """Of the images with one label. `images` were searched by; `held` are in the collection."""

    label: str
    images: int
    held: int
    metrics: dict[Metric, Estimate]


class Ranking(Message):
    """One way to rank. `macro` is the mean over classes, `overall` that over images."""

    name: str
    overall: dict[Metric, Estimate]
    macro: dict[Metric, Estimate]
    classes: tuple[ClassQuality, ...] = ()


class AtThreshold(Message):
    """Of neighbours at least this similar: which share of searches has one, and how many agree."""

    score: float
    coverage: float
    precision: Estimate


class CalibrationPoint(Message):
    """Of neighbours with about this score, the share that has the searched image's label."""

    score: float
    share: float
    low: float
    high: float
    neighbours: int


class Calibrated(Message):
    """`label` is null for all classes together. `points` are the isotonic curve, by score."""

    label: str | None
    points: tuple[CalibrationPoint, ...]


class NearDuplicates(Message):
    """Pairs of images of different groups whose pictures are the same or nearly so."""

    pairs: int
    images: int
    other_label: int
    treatment: Literal["leave_out", "keep"]


class Confusion(Message):
    """`shares[i][j]`: of the 10 nearest of images with label i, the share with label j."""

    labels: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]


class EvaluationReport(Message):
    """`rankings` begins with the encoder's; then the colour histogram, chance, constant guess.

    `same_group` has recall at 1, 5 and 10 of images of the searched image's own group, of groups
    that have several. `left_out` counts by reason the images that are in no number. Nearly no
    neighbour is less similar than `least_score`; the calibration says nothing below it.
    """

    id: str
    created_at: datetime
    encoder: EncoderInfo
    request: EvaluationRequest
    images: int
    evaluated: int
    groups: int
    left_out: dict[str, int]
    rankings: tuple[Ranking, ...]
    same_group: dict[str, Estimate] | None
    near_duplicates: NearDuplicates | None
    confusion: Confusion
    thresholds: tuple[AtThreshold, ...]
    calibration: tuple[Calibrated, ...]
    least_score: float | None = None
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
