"""Compares the types of one column in several files: what fits together, and what clashes."""

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.types as t


class Clash(NamedTuple):
    """A column, with the path inside it, whose two types cannot stand for one thing."""

    path: str
    one: pa.DataType
    other: pa.DataType


def plain(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values: of a dictionary or of runs, that of what they stand for."""
    while t.is_dictionary(kind) or t.is_run_end_encoded(kind):
        kind = kind.value_type
    return kind


def is_text(kind: pa.DataType) -> bool:
    return any((t.is_string(kind), t.is_large_string(kind), t.is_string_view(kind)))


def is_bytes(kind: pa.DataType) -> bool:
    return any((t.is_binary(kind), t.is_large_binary(kind), t.is_binary_view(kind)))


def is_list(kind: pa.DataType) -> bool:
    lists = (t.is_list, t.is_large_list, t.is_fixed_size_list, t.is_list_view, t.is_large_list_view)
    return any(test(kind) for test in lists)


def is_file(kind: pa.DataType) -> bool:
    """Whether cells are struct{bytes, path}, as the `datasets` library writes files."""
    names = {field.name: plain(field.type) for field in kind} if t.is_struct(kind) else {}
    content = names.get("bytes")
    return content is not None and (is_bytes(content) or (t.is_null(content) and "path" in names))


def holds_files(kind: pa.DataType) -> bool:
    """Whether there are bytes or files anywhere in a column's cells."""
    return any(is_file(part) or is_bytes(part) for part in _parts(kind))


def holds_decimals(kind: pa.DataType) -> bool:
    return any(t.is_decimal(part) for part in _parts(kind))


def clash(one: pa.DataType, other: pa.DataType, path: str) -> Clash | None:
    """The first place where two types clash. Integers and other numbers do not, nor does null."""
    first, second = plain(one), plain(other)
    if t.is_null(first) or t.is_null(second):
        return None
    if is_list(first) and is_list(second):
        return clash(first.value_type, second.value_type, path)
    if t.is_struct(first) and t.is_struct(second):
        return _clash_of_fields(first, second, path)
    return None if _family(first) == _family(second) else Clash(path, one, other)


def _clash_of_fields(one: pa.DataType, other: pa.DataType, path: str) -> Clash | None:
    types = {field.name: field.type for field in other}
    both = ((f.name, f.type) for f in one if f.name in types)
    found = (clash(kind, types[name], f"{path}.{name}") for name, kind in both)
    return next((one for one in found if one is not None), None)


def _family(kind: pa.DataType) -> str:
    """Types of one family become the same kind of JSON."""
    tests = {
        "number": t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind),
        "text": is_text(kind),
        "bytes": is_bytes(kind) or t.is_fixed_size_binary(kind),
        "time": t.is_date(kind) or t.is_timestamp(kind),
        "object": t.is_struct(kind) or t.is_map(kind),
    }
    return next((name for name, fits in tests.items() if fits), str(kind))


def _parts(kind: pa.DataType) -> Iterator[pa.DataType]:
    """A type and all types inside it, without recursion: some are a hundred levels deep."""
    waiting = [kind]
    while waiting:
        part = plain(waiting.pop())
        yield part
        if is_list(part):
            waiting.append(part.value_type)
        elif t.is_map(part):
            waiting += [part.key_type, part.item_type]
        elif t.is_struct(part):
            waiting += [field.type for field in part]
