"""Metadata tables beside pictures: `metadata.csv`, `.tsv`, `.jsonl` or `.parquet`.

A table adds metadata to the pictures of its folder and below; it never decides which pictures
there are. A row names its picture in a column `file_name`, or another that `FILE_COLUMNS` lists, by
its path relative to the table's folder, or without a suffix. Rows that name one file under several
image ids are several images of it.
(https://huggingface.co/docs/datasets/image_dataset; `isic_id` is the ISIC archive's column)
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from pipeline.base.identity import ID_COLUMNS
from pipeline.messages import Payload
from pipeline.sources.folder.cells import (
    BadText,
    decoded,
    delimiter_of,
    headers,
    is_missing,
    reader_of,
)
from pipeline.sources.folder.names import folded, slashed, stem
from pipeline.sources.folder.tree import Directory, Fault, joined

# In the order in which they are looked for, whatever their case.
FILE_COLUMNS = (
    "file_name", "filename", "file", "file_path", "filepath", "path", "image_path", "image_name",
    "image_file", "image", "isic_id", "image_id",
)  # fmt: skip
# These identify a picture as well, so they stay metadata.
_ALSO_METADATA = frozenset({"isic_id", "image_id"})
_SUFFIXES = ("csv", "tsv", "jsonl", "parquet")
_NAMES = frozenset(f"metadata.{suffix}" for suffix in _SUFFIXES)

MAX_TABLE = 500_000_000  # bytes
csv.field_size_limit(10_000_000)  # characters; a report can stand in one cell

NO_FILE = "{table}, line {line}, names this file, and it is not there"
AGAIN = "{table}, line {line}, names this file again, with other values"
NO_NAME = "{table}, line {line}, names no file"


def is_table(name: str) -> bool:
    return name.lower() in _NAMES


@dataclass
class TableRow:
    """`file` is the name as the table gives it, with slashes. `values` are JSON, to save memory.

    `id` is the image id that the row gives, if it does.
    """

    file: str
    line: int
    values: str
    id: object
    used: bool = False


@dataclass
class Table:
    """`name` is its own file name, `folder` the one that it lies in."""

    name: str
    folder: Directory
    id_fields: tuple[str, ...] = ID_COLUMNS
    faults: list[Fault] = field(default_factory=list)
    # By folded name, then by the name itself, then by image id.
    _rows: dict[str, dict[str, dict[object, TableRow]]] = field(default_factory=dict)

    def add(self, file: str, line: int, values: Payload) -> None:
        image_id = next((values[name] for name in self.id_fields if name in values), None)
        row = TableRow(slashed(file), line, json.dumps(values), image_id)
        same = self._rows.setdefault(folded(file), {}).setdefault(row.file, {})
        twin = next(iter(same.values()), None) if image_id is None else same.get(image_id)
        if twin is None:
            same[image_id] = row
        elif twin.values != row.values:
            self.faults.append(Fault(self._shown(row), AGAIN.format(table=self.name, line=line)))

    def metadata(self, directory: Directory, name: str) -> list[Payload]:
        """What the table says of a file in a folder at or below its own, once for each image id."""
        key = joined(directory.key, name)
        own = key.removeprefix(f"{self.folder.key}/") if self.folder.key else key
        rows = self._of_file(own, directory)
        for row in rows:
            row.used = True
        return [json.loads(row.values) for row in rows]

    def unused(self) -> Iterator[Fault]:
        """The rows whose file is not there."""
        for by_name in self._rows.values():
            for row in (row for rows in by_name.values() for row in rows.values() if not row.used):
                yield Fault(self._shown(row), NO_FILE.format(table=self.name, line=row.line))

    def _of_file(self, own: str, directory: Directory) -> list[TableRow]:
        by_name = self._rows.get(folded(own)) or self._rows.get(folded(stem(own))) or {}
        exact = by_name.get(own) or by_name.get(stem(own))
        if exact is not None:
            return [*exact.values()]
        # A row that has another file of exactly its name, beside this one, is that file's.
        others = directory.files
        names = [name for name in by_name if name.rpartition("/")[2] not in others]
        return [*by_name[names[0]].values()] if names else []

    def _shown(self, row: TableRow) -> str:
        return self.folder.path(row.file)


def read_table(
    name: str, folder: Directory, file: BinaryIO, id_fields: tuple[str, ...] = ID_COLUMNS
) -> Table:
    """Reads a whole table. `name` is its own file name. Raises BadText and OSError."""
    table = Table(name, folder, id_fields)
    suffix = name.rpartition(".")[2].lower()
    data = file.read(MAX_TABLE + 1)
    if len(data) > MAX_TABLE:
        raise BadText(f"it is larger than {MAX_TABLE // 1_000_000} MB")
    if suffix == "parquet":
        _add_rows(table, _parquet(data))
    elif suffix == "jsonl":
        _add_rows(table, _jsonl(decoded(data)))
    else:
        _add_csv(table, decoded(data), "\t" if suffix == "tsv" else None)
    return table


def _add_rows(table: Table, rows: Iterator[tuple[int, Payload]]) -> None:
    column: str | None = None
    for line, row in rows:
        column = column if column in row else _file_column(list(row))
        name = row.get(column) if column else None
        if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
            reason = NO_NAME.format(table=table.name, line=line)
            table.faults.append(Fault(table.folder.path(f"{table.name}:{line}"), reason))
            continue
        table.add(str(name), line, _without(row, column))


def _without(row: Payload, column: str | None) -> Payload:
    """Without the file's name, which is no metadata, and without what is missing."""
    kept = column is not None and _folded_column(column) in _ALSO_METADATA
    return {
        name: value
        for name, value in row.items()
        if (kept or name != column) and value is not None and not _is_nan(value)
    }


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _file_column(columns: Sequence[str]) -> str | None:
    by_name = {_folded_column(column): column for column in reversed(columns)}
    return next((by_name[name] for name in FILE_COLUMNS if name in by_name), None)


def _folded_column(column: str) -> str:
    return column.strip().casefold().replace(" ", "_").replace("-", "_")


def _jsonl(text: str) -> Iterator[tuple[int, Payload]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            where = getattr(error, "colno", 1)
            raise BadText(f"line {number:,}, column {where:,}, is no JSON") from None
        if not isinstance(row, dict):
            raise BadText(f"line {number:,} is no JSON object")
        yield number, row


def _parquet(data: bytes) -> Iterator[tuple[int, Payload]]:
    """Imports the library here: most folders have no such table, and it takes a while to load."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError, ValueError):
        raise BadText("it is no parquet file, or it is damaged") from None
    yield from enumerate(table.to_pylist(), 1)


def _add_csv(table: Table, text: str, delimiter: str | None) -> None:
    lines = text.removeprefix("\ufeff")
    first, _, rest = lines.partition("\n")
    if first.strip().lower().startswith("sep=") and len(first.strip()) == len("sep=") + 1:
        delimiter, lines = first.strip()[-1], rest  # as Excel writes it
    delimiter = delimiter or delimiter_of(lines.partition("\n")[0])
    rows = _csv_rows(lines, delimiter)
    _, head = next(rows, (0, []))
    while head and not head[-1].strip():  # a comma at the end of each line
        head.pop()
    columns = headers(head)
    column = _file_column(columns)
    if column is None:
        listed = ", ".join(columns[:20])
        raise BadText(f"no column names the files: call it file_name; its columns are {listed}")
    cells = _cells(table, rows, columns)
    readers = [
        reader_of(name, (row[place] for _, row in cells), delimiter)
        for place, name in enumerate(columns)
    ]
    named = columns.index(column)
    for line, row in cells:
        if not row[named]:
            reason = NO_NAME.format(table=table.name, line=line)
            table.faults.append(Fault(table.folder.path(f"{table.name}:{line}"), reason))
            continue
        values = zip(columns, readers, row, strict=True)
        read = {name: reader(cell) for name, reader, cell in values if not is_missing(cell)}
        table.add(row[named], line, _without(read, column))


def _csv_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each row that is not empty. Raises BadText."""
    lines = io.StringIO(text, newline="")
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        begun = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise BadText(f"the row that begins in line {begun:,} is broken: {error}") from None
        if row is None:
            return
        if any(cell.strip() for cell in row):
            yield rows.line_num, [cell.strip() for cell in row]


def _cells(
    table: Table, rows: Iterator[tuple[int, list[str]]], columns: Sequence[str]
) -> list[tuple[int, list[str]]]:
    """The rows, each as long as the header. One with more cells is rejected: some are misplaced."""
    kept = []
    for line, row in rows:
        more = [cell for cell in row[len(columns) :] if cell]
        if more:
            reason = (
                f"{table.name}, line {line}, has {len(row)} cells, and its header {len(columns)}: "
                "put quotes around a cell that holds the delimiter"
            )
            table.faults.append(Fault(table.folder.path(f"{table.name}:{line}"), reason))
        else:
            kept.append((line, (row + [""] * len(columns))[: len(columns)]))
    return kept
