"""What de-identification did to the files of one job: numbers by keyword, and nothing of values.

Its size does not grow with the job: the standard has some 5,000 keywords, and private elements, and
those that no dictionary knows, are one number each.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag

PRIVATE, UNKNOWN = "private elements", "unknown elements"
_COUNTERS = ("kept", "dropped", "skipped")


@dataclass
class Account:
    """`files` are images, of which `frames` became rows; `refused` could not be read.

    `kept` and `dropped` count elements by keyword; `skipped` counts files by kind. An element that
    is a sequence counts as one, with all that is in it.
    """

    files: int = 0
    frames: int = 0
    refused: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def is_empty(self) -> bool:
        return not (self.files or self.refused or self.skipped)

    def count(self, header: Dataset, kept: Iterable[str], frames: int) -> None:
        used = set(kept)
        self.files, self.frames = self.files + 1, self.frames + frames
        self.kept.update(used)
        tags = header.keys()  # the dataset itself would convert each value
        self.dropped.update(name for tag in tags if (name := _named(int(tag))) not in used)

    def as_json(self) -> dict[str, Any]:
        counters = {name: dict(sorted(getattr(self, name).items())) for name in _COUNTERS}
        return {"files": self.files, "frames": self.frames, "refused": self.refused, **counters}

    @classmethod
    def of_json(cls, found: dict[str, Any]) -> "Account":
        files, frames, refused = (int(found.get(n, 0)) for n in ("files", "frames", "refused"))
        kept, dropped, skipped = (Counter(found.get(name, {})) for name in _COUNTERS)
        return cls(files, frames, refused, kept, dropped, skipped)

    def add(self, other: "Account") -> None:
        """What another plan, or another part of the job, has counted."""
        self.files += other.files
        self.frames += other.frames
        self.refused += other.refused
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))


@lru_cache(maxsize=8192)
def _named(tag: int) -> str:
    if (tag >> 16) % 2:
        return PRIVATE
    return keyword_for_tag(tag) or UNKNOWN
