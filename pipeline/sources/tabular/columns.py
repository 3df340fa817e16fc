"""Decides what the columns of a data set are: its images, their ids, names of classes, metadata.

The files of one data set need not agree: columns may be missing, or in another order, and integers
may stand beside other numbers. Where a column's types clash, there is an error that names it.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.types as t

from pipeline.base.errors import SourceError
from pipeline.base.identity import ID_COLUMNS, is_identifier
from pipeline.images.decoding import inspect
from pipeline.sources.tabular.tables import Table, faults_named, rows_of
from pipeline.sources.tabular.types import (
    Clash,
    clash,
    holds_decimals,
    holds_files,
    is_bytes,
    is_file,
    is_text,
    plain,
)

Features = Mapping[str, Any]  # a column's feature, as the `datasets` library describes it


@dataclass(frozen=True)
class Layout:
    """One file's columns by position; what is None is not read.

    `labels` has the names of a column's classes. `widened` are integers here that are other numbers
    elsewhere. The columns in `decimals` have some.
    """

    names: tuple[str | None, ...]
    labels: Mapping[str, Sequence[Any]]
    widened: frozenset[str]
    decimals: frozenset[str]

    def to_json(self) -> dict[str, Any]:
        return {
            "names": list(self.names),
            "labels": {name: list(labels) for name, labels in self.labels.items()},
            "widened": sorted(self.widened),
            "decimals": sorted(self.decimals),
        }

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> "Layout":
        sets = frozenset(said["widened"]), frozenset(said["decimals"])
        return cls(tuple(said["names"]), said["labels"], *sets)


@dataclass(frozen=True)
class Columns:
    """`image` and `id` are columns; without an `id`, a row's place identifies its image."""

    image: str | None
    id: str | None
    layouts: tuple[Layout, ...]

    def to_json(self) -> dict[str, Any]:
        """Files of one data set mostly have one layout, which is there once."""
        layouts = [layout.to_json() for layout in self.layouts]
        different = [one for n, one in enumerate(layouts) if one not in layouts[:n]]
        of_files = [different.index(layout) for layout in layouts]
        return {"image": self.image, "id": self.id, "layouts": different, "of_files": of_files}

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> "Columns":
        layouts = [Layout.of_json(one) for one in said["layouts"]]
        return cls(said["image"], said["id"], tuple(layouts[n] for n in said["of_files"]))


@dataclass(frozen=True)
class _File:
    """A file with its name for people, its columns' names, made unique, and their features."""

    table: Table
    name: str
    columns: tuple[str, ...]
    features: Features

    def type_of(self, column: str) -> pa.DataType:
        """As Kindred stores it: a class is the text that names it."""
        kind = self.table.schema.field(self.columns.index(column)).type
        return pa.string() if self.labels_of(column) and t.is_integer(kind) else kind

    def labels_of(self, column: str) -> Sequence[Any]:
        known = self._feature(column)
        names = known.get("names") if known.get("_type") == "ClassLabel" else None
        return names if isinstance(names, list) else ()

    def is_picture(self, column: str) -> bool:
        kind, known = self._stored(column), self._feature(column).get("_type")
        return known == "Image" or (known in (None, "Value") and (is_file(kind) or is_bytes(kind)))

    def is_other_file(self, column: str) -> bool:
        return holds_files(self._stored(column)) or self._feature(column).get("_type") == "Image"

    def rank(self, column: str) -> int:
        """How surely a column of pictures is the one that is meant: 0 is the best."""
        if self._feature(column).get("_type") == "Image":
            return 0
        return 1 if is_file(self._stored(column)) else 2

    def _stored(self, column: str) -> pa.DataType:
        return plain(self.table.schema.field(self.columns.index(column)).type)

    def _feature(self, column: str) -> Mapping[str, Any]:
        found = self.features.get(column)
        return found if isinstance(found, dict) else {}


def arrange(
    tables: Sequence[tuple[Table, str]],
    image: str | None,
    image_id: str | None,
    described: Features,
) -> Columns:
    """What the columns of these files, with their names, are. `described` is said beside them.

    Raises SourceError, which lists the columns or names the two types that clash.
    """
    everything = _files(tables, described)
    files = [file for file in everything if rows_of(file.table)] or everything
    names = list(dict.fromkeys(name for file in files for name in file.columns))
    empty = not any(rows_of(table) for table, _ in tables)
    chosen = None if empty else _image_column(files, names, image)
    own = None if empty and image_id not in names else _id_column(names, image_id)
    _refuse_clashes(files, [name for name in names if name != chosen])
    layouts = [_layout(file, files, chosen, own) for file in everything]
    return Columns(chosen, own, tuple(layouts))


def _files(tables: Sequence[tuple[Table, str]], described: Features) -> list[_File]:
    """A file that describes no column has those that the first one describes."""
    own = [_features(table.schema) for table, _ in tables]
    known = dict(described)
    for features in reversed(own):
        known |= features
    return [
        _File(table, name, _unique(table.schema.names), {**known, **features})
        for (table, name), features in zip(tables, own, strict=True)
    ]


def _features(schema: pa.Schema) -> Features:
    """What the `datasets` library noted in a file; nothing if another program wrote the file."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    """Some programs write two columns of one name."""
    seen: list[str] = []
    for name in names:
        seen.append(_free(name, seen))
    return tuple(seen)


def _free(name: str, taken: Iterable[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _image_column(files: Sequence[_File], names: Sequence[str], wanted: str | None) -> str:
    places = [(name, file) for name in names for file in files if name in file.columns]
    pictures = [(name, file) for name, file in places if file.is_picture(name)]
    if wanted is None and pictures:
        return _best(pictures)
    readable = [name for name, file in places if is_text(plain(file.type_of(name)))]
    if wanted is not None and wanted in [*readable, *(name for name, _ in pictures)]:
        return wanted
    which = "no column of images" if wanted is None else f"no column of images named {wanted}"
    raise SourceError(f"The data set has {which}; its columns are {listed(names)}.")


def _best(pictures: Sequence[tuple[str, _File]]) -> str:
    """The first column of the best rank. Of several of bare bytes, the first that has images."""
    rank = min(file.rank(name) for name, file in pictures)
    best = {name: file for name, file in reversed(pictures) if file.rank(name) == rank}
    names = list(reversed(best))
    if rank < 2 or len(names) == 1:
        return names[0]
    return next((one for one in names if _begins_with_an_image(best[one], one)), names[0])


def _begins_with_an_image(file: _File, column: str) -> bool:
    with faults_named(file.table.path):
        position = file.columns.index(column)
        batch = next(file.table.batches(0), None)
        cells = [] if batch is None else batch.column(position).drop_null()
        return len(cells) > 0 and inspect(cells[0].as_py(), 1 << 62) is None


def _id_column(names: Sequence[str], wanted: str | None) -> str | None:
    if wanted is not None and wanted not in names:
        raise SourceError(f"The data set has no column {wanted}; its columns are {listed(names)}.")
    return wanted or next((name for name in ID_COLUMNS if name in names), None)


def _refuse_clashes(files: Sequence[_File], names: Sequence[str]) -> None:
    for name in names:
        having = [file for file in files if name in file.columns]
        typed = [f for f in having if not t.is_null(plain(f.type_of(name)))]
        for other in typed[1:]:
            found = clash(typed[0].type_of(name), other.type_of(name), name)
            if found and not _is_empty(typed[0], name) and not _is_empty(other, name):
                said = _sentence(found, typed[0], other)
                raise SourceError(said, why="types of a column clash")


def _sentence(found: Clash, one: _File, other: _File) -> str:
    first, second = str(found.one)[:100], str(found.other)[:100]
    return (
        f"The data set's files do not fit together: column {found.path[:100]} is {first} in"
        f" {one.name} and {second} in {other.name}."
    )


def _is_empty(file: _File, column: str) -> bool:
    """Whether a column has no value at all: then its type means nothing."""
    position = file.columns.index(column)
    only = column if Counter(file.table.schema.names)[column] == 1 and "." not in column else None
    with faults_named(file.table.path):
        for batch in file.table.batches(0, only):
            cells = batch.column(column) if only else batch.column(position)
            if cells.null_count < len(cells):
                return False
    return True


def _layout(
    file: _File,
    files: Sequence[_File],
    image: str | None,
    own: str | None,
) -> Layout:
    kept = [n for n in file.columns if n in (image, own) or not file.is_other_file(n)]
    integers = [n for n in kept if t.is_integer(file.type_of(n)) and not is_identifier(n)]
    return Layout(
        names=tuple(name if name in kept else None for name in file.columns),
        labels={name: labels for name in kept if (labels := file.labels_of(name))},
        widened=frozenset(name for name in integers if _is_float(files, name)),
        decimals=frozenset(name for name in kept if holds_decimals(file.type_of(name))),
    )


def _is_float(files: Sequence[_File], column: str) -> bool:
    return any(column in f.columns and t.is_floating(f.type_of(column)) for f in files)


def listed(columns: Sequence[str]) -> str:
    """The first 20 columns: some tables have ten thousand."""
    more = len(columns) - 20
    named = ", ".join(name[:60] for name in columns[:20])
    return f"{named} and {more:,} more" if more > 0 else named
