"""What may be kept of a DICOM file: an allow-list, and each value in the form of its kind."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset

from pipeline.dicom.errors import NO_PIXELS, Refused
from pipeline.dicom.frames import FramePolicy
from pipeline.dicom.pseudonyms import Pseudonyms
from pipeline.dicom.reading import frames_in


@dataclass(frozen=True)
class Policy:
    """How files are described."""

    pseudonyms: Pseudonyms = field(repr=False)
    frames: FramePolicy = field(default_factory=FramePolicy)


@dataclass(frozen=True)
class Described:
    """What is kept of a file. `frames` are those that become images, each a row.

    `skip` is the kind of a file that is no image. `hold` says why its images wait in quarantine.
    `kept` and `dropped` count elements by keyword.
    """

    image_id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    frames: tuple[int, ...] = ()
    of: int = 1
    skip: str | None = None
    hold: str | None = None
    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def id_of(self, frame: int) -> str:
        return self.image_id if self.of == 1 else f"{self.image_id}#{frame + 1}"

    def said_of(self, frame: int) -> dict[str, Any]:
        own = {} if self.of == 1 else {"frame": frame + 1, "frames": self.of}
        return {"image_id": self.id_of(frame), **self.metadata, **own}


def describe(header: Dataset, policy: Policy) -> Described:
    """Raises Refused."""
    uid = str(header.get("SOPInstanceUID") or "")
    if not uid:
        raise Refused("a DICOM file without a SOP Instance UID")
    if "Rows" not in header:
        raise Refused(NO_PIXELS)
    metadata: dict[str, Any] = {}
    for keyword, (name, form) in _KEPT.items():
        value = header.get(keyword)
        if value not in (None, "") and (kept := form(str(value))) is not None:
            metadata[name] = kept
    for keyword, name in _HASHED.items():
        if value := str(header.get(keyword) or ""):
            metadata[name] = policy.pseudonyms.of(keyword, value)
    of = frames_in(header)
    hashed = policy.pseudonyms.of("SOPInstanceUID", uid)
    return Described(hashed, metadata, tuple(policy.frames.of(of)), of)


def _code(text: str) -> str | None:
    return text if re.fullmatch(r"[A-Z]{1,4}", text) else None


_KEPT: dict[str, tuple[str, Callable[[str], Any]]] = {"Modality": ("modality", _code)}
_HASHED = {
    "PatientID": "patient_id",
    "StudyInstanceUID": "study_id",
    "SeriesInstanceUID": "series_id",
    "AccessionNumber": "accession_id",
}
