"""What a similarity means in a collection, as answers say it."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from pipeline.messages.base import Message

# Why what was measured no longer holds.
Void = Literal["encoder", "images"]


class Closeness(Message):
    """Of neighbours about as similar as this hit, the share that had the searched image's label.

    `low` and `high` bound it with 95 %; `neighbours` is how many it rests on. Counted are those
    with the hit's own `label`; null: those of all labels.
    """

    share: float
    low: float
    high: float
    neighbours: int
    label: str | None


class ClosenessBasis(Message):
    """The evaluation that closeness comes from, and the field `label` that it asked about.

    `images` is how many the collection had then. Of its neighbours, nearly none was less similar
    than `least_score`: below it nothing is known. `void` says what has changed too much since: the
    encoder, or the number of images.
    """

    evaluation: str
    created_at: datetime
    label: str
    images: int
    least_score: float
    void: Void | None = Field(None, exclude_if=lambda value: value is None)
