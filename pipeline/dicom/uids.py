"""Unique identifiers as DICOM writes them, to tell an original number from a key of ours."""

import re

# PS3.5 9.1: at most 64 characters, components of digits without leading zeros. Ours have none of
# that form, and no other id that a data set is likely to have has three components or more.
_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*)){2,}")
_KEY = re.compile(r"[0-9a-f]{32}")

LONGEST = 64


def is_uid(text: str) -> bool:
    return len(text) <= LONGEST and _UID.fullmatch(text) is not None


def is_key(text: str) -> bool:
    """Whether it is a keyed hash, as `Pseudonyms.of` makes it."""
    return _KEY.fullmatch(text) is not None
