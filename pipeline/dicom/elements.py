"""Single values of a header, from their bytes.

pydicom would make objects of them, and check what they say; for what every image has that takes
longer than to decode a small one. Whatever is not in the usual form is left to pydicom.
"""

import io
import struct
from functools import cache
from math import isfinite
from typing import Any

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

_ITEM = [0xFFFE, 0xE000]
_BINARY = (None, "US", "SS", "UN")
_DECIMAL = ("DS", "IS")
_TEXT = (None, "CS", "DS", "IS", "UN")


def integer(source: Dataset, keyword: str) -> int | None:
    """Of US; None where it is missing or empty. Raises what pydicom and `int` raise."""
    raw = _raw(source, keyword)
    if raw is None:
        return None
    if isinstance(raw, RawDataElement) and raw.VR in _BINARY and len(raw.value or b"") == 2:
        return int.from_bytes(raw.value or b"", "little" if raw.is_little_endian else "big")
    value = _parsed(source, keyword)
    return None if value in (None, "") else int(value)


def code(source: Dataset, keyword: str) -> str:
    """Of CS, without blanks; empty where it is missing. Raises what pydicom raises."""
    raw = _raw(source, keyword)
    if isinstance(raw, RawDataElement) and raw.VR in _TEXT:
        return _first(raw)
    return "" if raw is None else str(_parsed(source, keyword) or "").strip()


def number(source: Dataset, keyword: str) -> float | None:
    """The first one of DS and other forms; None where it is missing, or is no finite number."""
    try:
        raw = _raw(source, keyword)
        if raw is None:
            return None
        if isinstance(raw, RawDataElement) and raw.VR in _DECIMAL:
            found = float(_first(raw))
        else:
            found = float(_parsed(source, keyword))
    except Exception:  # noqa: BLE001 - what it raises says that it is none
        return None
    return found if isfinite(found) else None


def pair(source: Dataset, keyword: str) -> tuple[float, float] | None:
    """Both of DS or IS; None where it has not two finite numbers."""
    raw = _raw(source, keyword)
    if not isinstance(raw, RawDataElement) or raw.VR not in (None, *_DECIMAL):
        value = None if raw is None else raw.value
        texts = [str(each) for each in value] if isinstance(value, MultiValue) else []
    else:
        texts = (raw.value or b"").decode("latin-1").strip(" \0").split("\\")
    try:
        first, second = (float(text) for text in texts)
    except ValueError:
        return None
    return (first, second) if isfinite(first) and isfinite(second) else None


def item(source: Dataset, keyword: str, number: int) -> Dataset | None:
    """Of a sequence; None where there is none. Raises what pydicom raises.

    The others are not parsed: a thousand frames can have as many items.
    """
    raw = _raw(source, keyword)
    if isinstance(raw, RawDataElement) and raw.value and raw.VR in (None, "SQ"):
        found = _nth(raw, number)
        if found is not None:
            return found
    sequence = None if raw is None else source.get(keyword)
    return sequence[number] if sequence and number < len(sequence) else None


def _nth(raw: RawDataElement, number: int) -> Dataset | None:
    """None where there is none, or one of undefined length stands before it."""
    value, at = raw.value or b"", 0
    order = "<" if raw.is_little_endian else ">"
    while at + 8 <= len(value):
        *tag, length = struct.unpack_from(f"{order}HHI", value, at)
        if tag != _ITEM or at + 8 + length > len(value):
            return None
        at += 8
        if not number:
            part = io.BytesIO(value[at : at + length])
            implicit, little = raw.is_implicit_VR, raw.is_little_endian
            return read_dataset(part, implicit, little, length, at_top_level=False)
        number, at = number - 1, at + length
    return None


@cache
def tag_of(keyword: str) -> BaseTag:
    """One object for each: two of them are compared in Python, which takes a dictionary long."""
    return BaseTag(tag_for_keyword(keyword) or 0)


def _raw(source: Dataset, keyword: str) -> Any:
    """Without a copy, and without parsing it."""
    return source._dict.get(tag_of(keyword))


def _first(raw: RawDataElement) -> str:
    text = (raw.value or b"").decode("latin-1")
    return text.partition("\\")[0].strip(" \0")


def _parsed(source: Dataset, keyword: str) -> Any:
    value = source.get(keyword)
    return value[0] if isinstance(value, MultiValue) and value else value
