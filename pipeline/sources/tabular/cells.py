"""Turns the cells of Parquet and Arrow into Python values, and cells of images into their bytes."""

import contextlib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.base.identity import is_identifier
from pipeline.sources.local import read_file

# What a cell can raise: LookupError for an unknown time zone or a map with a key that stands twice,
# TypeError for a map whose keys are objects.
_FAULTS = (ValueError, ArithmeticError, LookupError, TypeError)


def values(column: Any) -> list[Any]:
    """A column's cells; None for a cell without a Python value, such as text that is not UTF-8.

    Maps are dictionaries; where a key stands twice, they are lists of pairs.
    """
    try:
        return list(column.to_pylist(maps_as_pydicts="strict"))
    except _FAULTS:
        return [_value(cell) for cell in column]


def _value(cell: Any) -> Any:
    for maps in ("strict", None):
        with contextlib.suppress(*_FAULTS):
            return cell.as_py(maps_as_pydicts=maps)
    return None


def without_decimals(value: Any, name: str) -> Any:
    """Whole decimals are integers, with all their digits; others are numbers, or an id's text."""
    if isinstance(value, Decimal):
        whole = int(value)
        if whole == value:
            return whole
        return str(value) if is_identifier(name) else float(value)
    if isinstance(value, dict):
        return {key: without_decimals(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_decimals(inner, name) for inner in value]
    return value


def class_name(value: Any, names: Sequence[Any]) -> Any:
    """By convention -1 means "not labelled"; other numbers without a name are mistakes."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


def picture_bytes(cell: Any, folders: Sequence[Path]) -> bytes:
    """The bytes of an image cell; empty if there are none, or if we may not read them.

    A cell has the bytes, or the path of a file: a relative one starts at the first folder, and the
    file must be in one of them.

    Raises SourceUnavailable when the disk fails: that is no row's fault.
    """
    if isinstance(cell, dict):
        content = cell.get("bytes")
        cell = cell.get("path") if content is None else content
    if isinstance(cell, bytes):
        return cell
    return read_file(folders[0] / cell, folders) if isinstance(cell, str) else b""
