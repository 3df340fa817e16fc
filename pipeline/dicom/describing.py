"""What may be kept of a DICOM file: an allow-list, and each value in the form of its kind."""

from dataclasses import dataclass, field, replace
from typing import Any

from pydicom import Dataset

from pipeline.dicom import kinds
from pipeline.dicom.account import Account
from pipeline.dicom.burned_in import suspicion
from pipeline.dicom.errors import NO_PIXELS, Refused
from pipeline.dicom.forms import Dates
from pipeline.dicom.frames import FramePolicy
from pipeline.dicom.kept import HASHED, kept_codes, kept_dates, kept_model, kept_values
from pipeline.dicom.pseudonyms import UID, Pseudonyms, keyed
from pipeline.dicom.reading import frames_in
from pipeline.dicom.values import identifier

NO_UID = "a DICOM file without a SOP Instance UID"


@dataclass(frozen=True)
class Policy:
    """How files are described.

    `dates` says what is kept of the study's date, `keep` whether files are kept as they came.
    `trusted`: kinds whose pixels need not wait (`burned_in`).
    `account` counts what is kept and what is dropped, for one job; see `counting`.
    """

    pseudonyms: Pseudonyms = field(repr=False)
    dates: Dates = "year"
    keep: bool = False
    frames: FramePolicy = field(default_factory=FramePolicy)
    trusted: frozenset[str] = frozenset()
    account: Account | None = field(default=None, repr=False, compare=False)

    def counting(self) -> "Policy":
        """For one job: with an account of its own."""
        return replace(self, account=Account())


@dataclass(frozen=True)
class Described:
    """What is kept of a file. `frames` are those that become images, each a row.

    `skip` is the kind of a file that is no image. `hold` says why its images wait in quarantine.
    `former` has the image's identifiers under each older key.
    """

    image_id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    frames: tuple[int, ...] = ()
    of: int = 1
    skip: str | None = None
    hold: str | None = None
    former: tuple[dict[str, str], ...] = ()

    def id_of(self, frame: int) -> str:
        return self._numbered(self.image_id, frame)

    def former_of(self, frame: int) -> tuple[dict[str, str], ...]:
        return tuple(
            {**each, "image_id": self._numbered(each[HASHED[UID]], frame)} for each in self.former
        )

    def said_of(self, frame: int) -> dict[str, Any]:
        own = {} if self.of == 1 else {"frame": frame + 1, "frames": self.of}
        return {"image_id": self.id_of(frame), **self.metadata, **own}

    def _numbered(self, image_id: str, frame: int) -> str:
        return image_id if self.of == 1 else f"{image_id}#{frame + 1}"


def describe(header: Dataset, policy: Policy) -> Described:
    """Raises Refused."""
    described, kept = _described(header, policy)
    if policy.account is not None and described.skip is None:
        policy.account.count(header, kept, len(described.frames))
    elif policy.account is not None:
        policy.account.skipped[str(described.skip)] += 1
    return described


def _described(header: Dataset, policy: Policy) -> tuple[Described, list[str]]:
    """With the keywords of all elements of which something is kept."""
    skip = kinds.skip_kind(header)
    if skip is not None:
        return Described(skip=skip), []
    uid = _uid(header)
    if not uid:
        raise Refused(NO_UID)
    if "Rows" not in header:
        raise Refused(NO_PIXELS)
    said, kept = kept_values(header)
    more = (
        kept_model(header, said.get("manufacturer")),
        kept_dates(header, policy.dates),
        kept_codes(header),
    )
    for own, used in more:
        said, kept = {**own, **said}, [*kept, *used]
    hashed, *former = _hashed(header, uid, policy.pseudonyms)
    said |= hashed
    kept += [keyword for keyword, name in HASHED.items() if name in hashed]
    of = frames_in(header)
    kept += ["NumberOfFrames"] if of > 1 else []
    hold = suspicion(header, policy.trusted)
    frames = tuple(policy.frames.of(of))
    described = Described(
        hashed[HASHED[UID]], dict(said), frames, of, hold=hold, former=tuple(former)
    )
    return described, kept


def _uid(header: Dataset) -> str:
    """Of the file's meta information, where the data set has lost it (PS3.10 7.1: they are one)."""
    meta = getattr(header, "file_meta", None)
    own = identifier(header, "SOPInstanceUID")
    return own or (identifier(meta, "MediaStorageSOPInstanceUID") if meta is not None else "")


def _hashed(header: Dataset, uid: str, pseudonyms: Pseudonyms) -> list[dict[str, str]]:
    """The identifiers under each key, the newest first."""
    found = {keyword: identifier(header, keyword) for keyword in HASHED if keyword != UID} | {
        UID: uid
    }
    known = {keyword: value for keyword, value in found.items() if value}
    return [
        {HASHED[keyword]: keyed(key, keyword, value) for keyword, value in known.items()}
        for key in pseudonyms.keys
    ]
