"""An audit of labels as it is requested, its findings, and what a person decided on each."""

from datetime import datetime
from typing import Literal, get_args

from pydantic import Field

from pipeline.messages.base import FieldName, Message
from pipeline.messages.filters import Filter

# `conflicting_copies`: two images that are one picture, with different labels. `unlike_neighbours`:
# an image whose neighbours all have another label. `copies`: two images that are one picture, with
# the same label, or none. In this order they are listed.
FindingKind = Literal["conflicting_copies", "unlike_neighbours", "copies"]
KINDS: tuple[FindingKind, ...] = get_args(FindingKind)

Verdict = Literal["confirmed", "dismissed"]


class LabelAuditRequest(Message):
    """`label` is the field that is audited; images with one value of `group` belong together.

    `sample`: how many images are compared with their neighbours, and looked for copies among;
    without it, all up to 20,000. `most`: how many findings of each kind are kept, the best first.
    """

    label: FieldName
    group: FieldName | None = None
    filter: Filter | None = None
    sample: int | None = Field(None, ge=20, le=100_000)
    neighbours: int = Field(10, ge=3, le=50)
    most: int = Field(1000, ge=1, le=10_000)
    seed: int = Field(0, ge=0, lt=2**31)


class AuditedImage(Message):
    """`label` and `group` as they were when it was audited; null where it has none."""

    image_id: str
    label: str | None = None
    group: str | None = None


class Neighbour(AuditedImage):
    """`similarity` is the cosine to the audited image."""

    similarity: float


class Finding(Message):
    """`images` are the two copies, or the one image that its `neighbours` contradict.

    `id` is the same in every audit that finds these images with these labels. `place` counts all
    findings of an audit from 0, `rank` those of its kind from 1. `evidence` orders one kind: of
    copies their cosine; else, between 0 and 1, how similar the neighbours are and how many of them
    have the label `suggested` (`evaluation/label_errors.py`). `suggested` is the label that the
    neighbours speak for. Of copies: `same_bytes`, and the bits of 256 by which their perceptual
    hashes differ.
    """

    id: str
    kind: FindingKind
    place: int
    rank: int
    images: tuple[AuditedImage, ...]
    evidence: float
    suggested: str | None = None
    same_bytes: bool | None = None
    hash_distance: int | None = None
    neighbours: tuple[Neighbour, ...] = ()


class LabelAuditReport(Message):
    """What is known of an audit beside its findings. `compared` of `images` images were searched.

    `filtered`: whether by a filter, which is not kept, since it can name a patient. `labelled`: how
    many of the compared had a label and enough neighbours. `dropped`: findings beyond `most`.
    """

    created_at: datetime
    label: str
    group: str | None
    filtered: bool
    neighbours: int
    images: int
    compared: int
    labelled: int
    dropped: dict[FindingKind, int] = Field(default_factory=dict)


class Decision(Message):
    """`by` is the id of the key with which it was decided."""

    verdict: Verdict
    by: str
    at: datetime
