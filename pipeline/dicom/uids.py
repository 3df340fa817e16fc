"""Tells an original number from a key of ours."""

import re

_KEY = re.compile(r"[0-9a-f]{32}")

# Characters of a UID (PS3.5 9.1), and more than an accession number has.
LONGEST = 64
_POSSIBLE = re.compile(r"[0-9.]{1,64}")


def is_key(text: str) -> bool:
    """Whether it is a keyed hash, as `Pseudonyms.of` makes it."""
    return _KEY.fullmatch(text) is not None


def may_be_uid(text: str) -> bool:
    """Whether a device may have written it as a UID, whatever the standard says of zeros."""
    return _POSSIBLE.fullmatch(text) is not None
