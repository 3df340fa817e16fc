"""Cleans metadata for storage: JSON that Qdrant accepts, under the source's own names."""

import json
import math
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from pipeline.base.identity import as_identifier, is_identifier
from pipeline.messages import RESERVED, Payload

MAX_METADATA = 1_000_000  # characters of JSON for one image


@dataclass
class _Cleaner:
    """Makes JSON for Qdrant: it omits missing values, keeps finite numbers and limits texts."""

    depth: int = 8
    text: int = 65_536

    def value(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, str):
            return well_formed(value[: self.text])
        if value is None or isinstance(value, (bytes, bytearray)) or depth > self.depth:
            return None
        if isinstance(value, bool):
            return value
        if isinstance(value, int):
            # A number too large for Qdrant is some kind of id: as text it stays exact.
            return value if -(2**63) <= value < 2**63 else str(value)[: self.text]
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, (datetime, date)):
            return value.isoformat()
        if isinstance(value, dict):
            return self.mapping(value, depth + 1)
        if isinstance(value, (list, tuple)):
            return [kept for v in value if (kept := self.value(v, depth + 1)) is not None]
        if hasattr(value, "item"):  # a numpy scalar
            return self.value(value.item(), depth)
        return str(value)

    def mapping(self, values: dict[Any, Any], depth: int = 0) -> Payload:
        found = ((str(n), self.value(_identified(str(n), v), depth)) for n, v in values.items())
        return {well_formed(n): value for n, value in found if value is not None and value != ""}


def well_formed(text: str) -> str:
    """Text without the halves of characters that JSON can hold and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _identified(name: str, value: Any) -> Any:
    """Identifiers are text, in lists as well."""
    if not is_identifier(name):
        return value
    return [as_identifier(v) for v in value] if isinstance(value, list) else as_identifier(value)


def clean(values: Payload) -> Payload:
    """Metadata as the store takes it: names unchanged, missing values omitted."""
    cleaned = _Cleaner().mapping(values)
    if RESERVED in cleaned:
        other = f"{RESERVED}_"
        while other in cleaned:
            other += "_"
        cleaned[other] = cleaned.pop(RESERVED)
    return cleaned


def is_too_large(cleaned: Payload) -> bool:
    """Whether an upload could not carry the metadata of this one image."""
    return bool(cleaned) and len(json.dumps(cleaned)) > MAX_METADATA


def merged(*said: Payload) -> Payload:
    """What several say of one image, nested fields one by one: the later one counts."""
    whole: Payload = {}
    for values in said:
        for name, value in values.items():
            before = whole.get(name)
            if isinstance(before, dict) and isinstance(value, dict):
                whole[name] = merged(before, value)
            else:
                whole[name] = value
    return whole


def found_at(metadata: Payload, name: str) -> Any:
    """A field's value, or that of a nested one, `outer.inner`; None if it is not there."""
    if name in metadata:
        return metadata[name]
    outer, _, inner = name.partition(".")
    below = metadata.get(outer)
    return found_at(below, inner) if inner and isinstance(below, dict) else None


def described_by(metadata: Payload, image_id: str) -> Payload:
    """Metadata under an image id. Another `image_id` that it has is data, and gets another name."""
    said = {name: value for name, value in metadata.items() if name != "image_id"}
    own = metadata.get("image_id", image_id)
    if str(own) != image_id:
        other = "image_id_"
        while other in said:
            other += "_"
        said[other] = own
    return {**said, "image_id": image_id}
