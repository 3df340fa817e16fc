"""How a job's images lie to the rest of the collection."""

from datetime import datetime

from pipeline.messages.base import Message

LEAST = 20  # images of a group, one of each patient or lesion


class GroupDrift(Message):
    """Images of a job that share `values`, by field; empty: all of the job.

    Of `sampled` images, `beyond` lie farther from the collection than 95 % of the `reference`
    images that they are compared with: those of the collection that share their values (`own`), or
    all. `gap` is the largest difference of the two distributions' cumulative shares, 0 to 1;
    `p_value` is corrected for all groups of the job. `drifted`: both say that they are unlike.
    """

    values: dict[str, str]
    sampled: int
    reference: int
    own: bool
    beyond: int
    gap: float
    p_value: float
    drifted: bool


class DriftReport(Message):
    """`groups` is empty if there was too little to compare."""

    created_at: datetime
    groups: tuple[GroupDrift, ...]
