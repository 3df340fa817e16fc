"""Single values of a header, read one by one, whatever the file has in their place.

pydicom converts a value when it is looked at, warns of it, and may raise. What may be kept is
ASCII by its form, so it is read from the raw bytes, and character sets matter to identifiers only.
"""

from collections.abc import Iterator
from typing import Any

from pydicom import Dataset
from pydicom.charset import decode_bytes, python_encoding
from pydicom.dataelem import RawDataElement

_MOST = 256  # bytes of a value that could be kept
_CONTROLS = {0x0A, 0x0C, 0x0D}  # of a name in a multi-byte set, they end a part (PS3.5 6.1.2.5.3)


def text(dataset: Dataset, keyword: str) -> str:
    """The first value, without its padding; empty if there is none, or it is not ASCII."""
    return next(iter(texts(dataset, keyword)), "")


def texts(dataset: Dataset, keyword: str) -> list[str]:
    """All values of an element of ASCII text."""
    raw = _raw(dataset, keyword)
    whole = raw.decode("ascii", "replace") if isinstance(raw, bytes) else raw
    if not whole.isascii():
        return []
    return [each.strip(" \0\t") for each in whole.split("\\")] if whole.strip(" \0") else []


def identifier(dataset: Dataset, keyword: str) -> str:
    """A text that identifies something, in the file's character set, however wrong that is."""
    raw = _raw(dataset, keyword)
    return plain(_decoded(raw, dataset) if isinstance(raw, bytes) else raw)


def plain(value: str) -> str:
    """An identifier as it is compared: without padding, which DICOM does not count (PS3.5 6.2)."""
    return value.strip(" \0\t\r\n")


def items(dataset: Dataset, keyword: str) -> Iterator[Dataset]:
    """The items of a sequence; none if it is broken."""
    try:
        if keyword not in dataset:
            return
        found = list(dataset[keyword].value or ())
    except Exception:  # noqa: BLE001 - on hostile bytes pydicom raises whatever it stumbles over
        return
    yield from (item for item in found if isinstance(item, Dataset))


def _raw(dataset: Dataset, keyword: str) -> bytes | str:
    try:
        element: Any = dataset.get_item(keyword)
        if element is None or element.value is None:
            return b""
        if isinstance(element, RawDataElement):
            return bytes(element.value[:_MOST])
        found = element.value
        if isinstance(found, bytes):
            return found[:_MOST]
        if isinstance(found, Dataset) or element.VR == "SQ":
            return b""
        several = found if element.VM > 1 else [found]
        return "\\".join(map(str, several))[:_MOST]
    except Exception:  # noqa: BLE001 - as above
        return b""


def _decoded(raw: bytes, dataset: Dataset) -> str:
    if raw.isascii():
        return raw.decode("ascii")
    terms = texts(dataset, "SpecificCharacterSet") or [""]
    known = [python_encoding[term] for term in terms if term in python_encoding] or ["utf8"]
    try:
        if len(known) == 1:
            return raw.decode(known[0])
        return decode_bytes(raw, known, _CONTROLS)
    except Exception:  # noqa: BLE001 - as above; the same bytes give the same text all the same
        return raw.decode("latin-1")
