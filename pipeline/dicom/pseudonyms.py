"""Keyed hashes of patients' numbers and of UIDs, by which what belongs together stays together."""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from pipeline.base.errors import NotFound

UID = "SOPInstanceUID"  # the kind of an image's own UID
_UID = re.compile(r"[0-2](?:\.(?:0|[1-9]\d*)){3,}")  # PS3.5 9.1, and long enough to be no version
# Of a request: a UID, or the name of a field whose values are hashes of original numbers.
_NAMING = re.compile(
    rb'[0-2](?:\.\d+){3}|"(?:patient|study|series|accession|instance)_id"|'
    rb'"(?:study|series|accession)":'
)


@dataclass(frozen=True)
class Pseudonyms:
    """`keys` are secrets, the newest first."""

    keys: tuple[bytes, ...] = field(repr=False)

    def of(self, kind: str, value: str) -> str:
        """32 hex digits, the same for the same kind, value and key."""
        return keyed(self.keys[0], kind, value)

    def all_of(self, kind: str, value: str) -> list[str]:
        """Under each key: what was embedded before a rotation has another."""
        return [keyed(key, kind, value) for key in self.keys]

    def name_of(self, path: str) -> str:
        """What a file is called in lists, whose name may be a patient's."""
        return self.names_of(path)[0]

    def names_of(self, path: str) -> list[str]:
        """Under each key."""
        return [f"dicom/{each[:16]}" for each in self.all_of("name", path)]


def no_pseudonyms() -> Pseudonyms:
    """Where no key is known: nothing has a hash."""
    return Pseudonyms(())


def may_name_patient(request: bytes) -> bool:
    """Whether a request, as JSON, can have an original number in it."""
    return _NAMING.search(request) is not None


def is_uid(value: str) -> bool:
    """Whether a text is a DICOM UID as a file has it, and no pseudonym."""
    return len(value) <= 64 and _UID.fullmatch(value) is not None


def no_image(image_id: str) -> NotFound:
    """An error is stored and logged, so it repeats no UID of a file."""
    named = "with this UID" if is_uid(split_frame(image_id)[0]) else image_id
    return NotFound(f"There is no image {named}.")


def split_frame(image_id: str) -> tuple[str, str]:
    """An image's id and the end that says which frame it is, as "#3"; without one, ""."""
    base, mark, frame = image_id.rpartition("#")
    return (base, mark + frame) if mark and frame.isdigit() else (image_id, "")


def ids_of(pseudonyms: Pseudonyms, image_ids: Sequence[str]) -> dict[str, list[str]]:
    """For each id of an image that is an original UID, what it may be stored as instead."""
    found: dict[str, list[str]] = {}
    for image_id in image_ids:
        base, frame = split_frame(image_id)
        if is_uid(base):
            found[image_id] = [f"{each}{frame}" for each in pseudonyms.all_of(UID, base)]
    return found


def keyed(key: bytes, kind: str, value: str) -> str:
    return hmac.new(key, f"{kind}={value}".encode(), sha256).hexdigest()[:32]
