"""Tombstone keys: hashes of an image's id, or of its lesion's or patient's.

They are hashed because a patient's number must be neither in Redis nor in a deletion's blobs.
"""

import hashlib
from collections.abc import Iterator, Sequence

from pipeline.base.identity import is_identifier
from pipeline.messages import Deletion, Payload


def tombstone_key(field: str, value: object) -> str:
    return hashlib.sha256(f"{field}={value}".encode()).hexdigest()[:32]


def tombstone_keys(image_id: str, metadata: Payload) -> list[str]:
    """A tombstone under any of these blocks the image: its id, and each identifier it shares."""
    shared = ((n, v) for n, v in _identifiers(metadata) if n != "image_id")
    return [tombstone_key("image_id", image_id), *(tombstone_key(n, v) for n, v in shared)]


def _identifiers(metadata: Payload, above: str = "") -> Iterator[tuple[str, object]]:
    """Each identifier and its value. A nested field is `outer.inner`, as in a filter."""
    for name, value in metadata.items():
        if isinstance(value, dict):
            yield from _identifiers(value, f"{above}{name}.")
        elif is_identifier(name):
            each = value if isinstance(value, list) else [value]
            yield from ((f"{above}{name}", one) for one in each)


def keys_of_images(image_ids: Sequence[str]) -> list[str]:
    return [tombstone_key("image_id", image_id) for image_id in image_ids]


def keys_of_deletion(wanted: Deletion) -> list[str]:
    """The keys that are known before any image is looked up: a filter has none."""
    if wanted.field is not None:
        return [tombstone_key(wanted.field, wanted.value)]
    return keys_of_images(wanted.image_ids or ())
