"""One image, one identity: the business key, and the point id that follows from it."""

import hashlib
from uuid import UUID, uuid5

# Fixed for ever: another namespace would give every image a second point.
NAMESPACE = UUID("7d0f6f6e-4a8e-5c51-9f4b-0d6a6b1f9a55")

# Columns that hold an image's own id, in the order they are looked for.
ID_COLUMNS = ("image_id", "SOPInstanceUID", "sop_instance_uid")


def point_id(key: str) -> UUID:
    """UUIDv5 (RFC 9562) of the business key: what is delivered twice is one point."""
    return uuid5(NAMESPACE, key)


def row_key(dataset: str, split: str, row: int) -> str:
    """The key of a data set's row that has no id of its own."""
    return f"{dataset}/{split}#{row}"


def sha256(data: bytes) -> str:
    """Hex digest of the bytes as they came."""
    return hashlib.sha256(data).hexdigest()
