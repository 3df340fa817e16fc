"""One image has one identity: its image id, and the point id derived from it."""

import hashlib
import re
from typing import Any
from uuid import UUID, uuid5

# Never change this: another namespace would give every image a second point.
NAMESPACE = UUID("7d0f6f6e-4a8e-5c51-9f4b-0d6a6b1f9a55")

# Columns that contain an image's own id, in order of preference.
ID_COLUMNS = ("image_id", "SOPInstanceUID", "sop_instance_uid")

_IDENTIFIER_ENDINGS = ("_id", " id", "-id", "ID", "Id", "_uid", " uid", "-uid", "UID", "Uid")
_IDENTIFIERS = frozenset(
    {
        "id", "uid", "mrn", "pid", "accession", "accession_number", "accession number",
        "accessionnumber", "barcode", "caseid", "imageid", "lesionid", "patientid", "sampleid",
        "studyid", "subjectid",
    }
)  # fmt: skip

_INTEGER = re.compile("0|-?[1-9][0-9]{0,18}")


def point_id(image_id: str) -> UUID:
    """UUIDv5 (RFC 9562) of the image id: an image delivered twice is one point."""
    return uuid5(NAMESPACE, image_id)


def row_image_id(dataset: str, split: str, row: int) -> str:
    """The image id of a data set's row that has no id of its own."""
    return f"{dataset}/{split}#{row}"


def is_identifier(name: str) -> bool:
    """Whether a field identifies something (image, lesion, patient, study), judging by its name.

    Of a nested field, `a.b.patient_id`, the last name counts.
    """
    own = name.rpartition(".")[2]
    return own.endswith(_IDENTIFIER_ENDINGS) or own.casefold() in _IDENTIFIERS


def as_identifier(value: Any) -> Any:
    """The text of a number, since 007 and 7 are two identifiers. Anything else stays as it is.

    It is "123" for 123.0 as well: readers turn a column of whole numbers with gaps into floats.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def spellings(identifier: str | int) -> list[str | int]:
    """An identifier as text and, if it is one, as a number: sources store both kinds."""
    text = str(identifier)
    if not _INTEGER.fullmatch(text) or not -(2**63) <= int(text) < 2**63:
        return [text]
    return [text, int(text)]


def sha256(data: bytes) -> str:
    """The hex digest of the original bytes."""
    return hashlib.sha256(data).hexdigest()


def frame_digest(digest: str, frame: int) -> str:
    """Of one frame of a DICOM file with this SHA-256, counted from 0."""
    return sha256(f"{digest}#{frame}".encode())
