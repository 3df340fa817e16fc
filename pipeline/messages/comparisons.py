"""A comparison of encoders as it is requested, and its report."""

from datetime import datetime
from typing import Literal

from pydantic import Field, field_validator

from pipeline.messages.answers import EncoderInfo
from pipeline.messages.base import FieldName, Message
from pipeline.messages.evaluations import Metric, Ranking
from pipeline.messages.filters import Filter

# The name of the collection's own encoder, by the vectors that are stored.
STORED = "collection"


class ModelChoice(Message):
    """An encoder, and how it is used. `model`: a name on the hub, a folder, or `collection`.

    `collection` alone is the collection's encoder, by its stored vectors; with options it is that
    model, used otherwise.

    `preprocessing`: the model's `own`; `stretch` squeezes the whole picture into the model's size;
    `crop` resizes its shorter side and takes the middle.
    """

    model: str = Field(min_length=1, max_length=500)
    revision: str | None = Field(None, min_length=1, max_length=200)
    pooling: Literal["auto", "mean", "cls", "projection"] = "auto"
    preprocessing: Literal["own", "stretch", "crop"] = "own"

    @property
    def is_stored(self) -> bool:
        """Whether nothing has to be embedded."""
        return self.spelled == STORED

    @property
    def spelled(self) -> str:
        """As the command line takes it: NAME,pooling=mean,preprocessing=crop."""
        usual = {"revision": None, "pooling": "auto", "preprocessing": "own"}
        given = {name: getattr(self, name) for name in usual}
        options = [f"{n}={value}" for n, value in given.items() if value != usual[n]]
        return ",".join([self.model, *options])


class ComparisonRequest(Message):
    """Each of `models` is evaluated on the same `sample` of images, and compared with the first.

    The sample is all that is searched in as well, so its numbers are not those of an evaluation of
    the whole collection. `label` and `group` are those of an evaluation.
    """

    models: tuple[ModelChoice, ...] = Field(min_length=2, max_length=6)
    label: FieldName
    group: FieldName | None = None
    filter: Filter | None = None
    sample: int = Field(2000, ge=100, le=20_000)
    seed: int = Field(0, ge=0, lt=2**31)
    near_duplicates: Literal["leave_out", "keep"] = "leave_out"

    @field_validator("models")
    @classmethod
    def _refuse_repeats(cls, models: tuple[ModelChoice, ...]) -> tuple[ModelChoice, ...]:
        if len({model.spelled for model in models}) < len(models):
            raise ValueError("Two of the models are the same.")
        return models


class ComparedModel(Message):
    """`images_per_second` is null for the collection's own, whose vectors are stored.

    `weights_bytes`: of the weights in memory, in the precision in which the worker computes.
    """

    name: str
    encoder: EncoderInfo
    untrained: bool
    weights_bytes: int
    images_per_second: float | None
    ranking: Ranking


class Difference(Message):
    """`value` is positive where the other model is better. `low`, `high`: 95 %, over groups.

    `p`: of a permutation test that exchanges both models' results, group by group. How often chance
    alone makes a difference at least as large.
    """

    value: float
    low: float
    high: float
    p: float


class ComparedPair(Message):
    """How another model differs from the first on the same images."""

    first: str
    other: str
    overall: dict[Metric, Difference]
    macro: dict[Metric, Difference]


class ComparisonReport(Message):
    """`left_out` counts by reason the images of the sample that are in no number."""

    id: str
    created_at: datetime
    request: ComparisonRequest
    images: int
    groups: int
    left_out: dict[str, int]
    models: tuple[ComparedModel, ...]
    pairs: tuple[ComparedPair, ...]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
