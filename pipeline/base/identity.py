"""One image, one identity: the business key, and the point id that follows from it."""

import hashlib
import re
from typing import Any
from uuid import UUID, uuid5

# Fixed for ever: another namespace would give every image a second point.
NAMESPACE = UUID("7d0f6f6e-4a8e-5c51-9f4b-0d6a6b1f9a55")

# Columns that hold an image's own id, in the order they are looked for.
ID_COLUMNS = ("image_id", "SOPInstanceUID", "sop_instance_uid")

_INTEGER = re.compile("0|-?[1-9][0-9]{0,18}")


def point_id(key: str) -> UUID:
    """UUIDv5 (RFC 9562) of the business key: what is delivered twice is one point."""
    return uuid5(NAMESPACE, key)


def row_key(dataset: str, split: str, row: int) -> str:
    """The key of a data set's row that has no id of its own."""
    return f"{dataset}/{split}#{row}"


def is_identifier(name: str) -> bool:
    """Whether a field says which one (image, lesion, patient, study), by the custom of its name."""
    return name.endswith(("_id", "ID", "_uid", "UID"))


def as_identifier(value: Any) -> Any:
    """123 for 123.0: a column of whole numbers that has gaps is read as one of floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def spellings(identifier: str | int) -> list[str | int]:
    """An identifier as text and, where it is one, as a number: sources keep it either way."""
    text = str(identifier)
    if not _INTEGER.fullmatch(text) or not -(2**63) <= int(text) < 2**63:
        return [text]
    return [text, int(text)]


def sha256(data: bytes) -> str:
    """Hex digest of the bytes as they came."""
    return hashlib.sha256(data).hexdigest()
