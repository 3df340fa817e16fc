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
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, time
from itertools import islice
from typing import Any, BinaryIO

from pipeline.base.identity import ID_COLUMNS, as_identifier
from pipeline.messages import Payload
from pipeline.sources.base import own_id
from pipeline.sources.folder.cells import (
    BadText,
    Column,
    Reader,
    decoded,
    delimiters_of,
    headers,
    is_missing,
    parsed,
)
from pipeline.sources.folder.names import folded, slashed, stem
from pipeline.sources.folder.tree import Directory, Fault, joined
from pipeline.sources.metadata import found_at, well_formed
from pipeline.sources.tabular.cells import values, without_decimals

# In the order in which they are looked for, whatever their case.
FILE_COLUMNS = (
    "file_name", "filename", "file", "file_path", "filepath", "path", "image_path", "image_name",
    "image_file", "image_file_name", "image_filename", "dateiname", "image", "isic_id", "image_id",
)  # fmt: skip
# These identify a picture as well, so they stay metadata.
_ALSO_METADATA = frozenset({"isic_id", "image_id"})
# What these hold are ids of images, as in ISIC's challenges, unless there is a suffix.
_IDS = _ALSO_METADATA | {"image", "image_name"}
_SUFFIXES = ("csv", "tsv", "jsonl", "parquet")
_NAMES = frozenset(f"metadata.{suffix}" for suffix in _SUFFIXES)

MAX_TABLE = 500_000_000  # bytes
csv.field_size_limit(10_000_000)  # characters; a report can stand in one cell

NO_FILE = "{table}, line {line}, names this file, and it is not there"
AGAIN = "{table}, line {line}, names this file again, with other values"
NO_NAME = "{table}, line {line}, names no file"
NO_COLUMN = "no column names the files: call it file_name, in the table's first line"


def is_table(name: str) -> bool:
    return name.lower() in _NAMES


@dataclass(slots=True)
class TableRow:
    """`file` is the name as the table gives it, with slashes. `values` are JSON, to save memory.

    `id` is the image id that the row gives, if it does.
    """

    file: str
    line: int
    values: str
    id: str | None
    used: bool = False
    by_path: bool = False  # there is a file at the path that it gives


# The rows of one folded name. Nearly always it is one, and a table can have millions of them.
_Rows = TableRow | dict[tuple[str, str | None], TableRow]


@dataclass
class Table:
    """`name` is its own file name, `folder` the one that it lies in.

    `by_id`: the rows give ids of images, which are no paths, so a file may lie further below.
    """

    name: str
    folder: Directory
    id_fields: tuple[str, ...] = ID_COLUMNS
    by_id: bool = False
    faults: list[Fault] = field(default_factory=list)
    no_column: str = NO_COLUMN
    no_name: str = NO_NAME
    _rows: dict[str, _Rows] = field(default_factory=dict)  # by folded names

    def column_of(self, columns: Sequence[str]) -> str | None:
        """The column that names the files."""
        return _file_column(columns)

    def said(self, row: Payload, column: str | None) -> Payload:
        """What a row says, without its name in `column`."""
        return _without(row, column, self.id_fields)

    def add(self, file: str, line: int, values: Payload) -> None:
        file = well_formed(file)
        self.add_row(folded(file), slashed(file), line, values, AGAIN)

    def add_row(self, key: str, file: str, line: int, values: Payload, again: str) -> None:
        """`again` is the reason to reject a row that says otherwise than an earlier one."""
        image_id, _ = own_id(found_at(values, name) for name in self.id_fields)
        row = TableRow(file, line, json.dumps(values, default=_plain), image_id)
        key = row.file if key == row.file else key  # one text in memory, not two
        same = self._rows.get(key)
        if same is None:
            self._rows[key] = row
            return
        if isinstance(same, TableRow):
            same = self._rows[key] = {(same.file, same.id): same}
        twin = None
        if row.id is None:  # a row without an image id is about the picture that others name
            twin = next((each for each in same.values() if each.file == row.file), None)
        twin = twin or same.setdefault((row.file, row.id), row)
        if twin.values != row.values:
            reason = again.format(table=self.name, line=line)
            self.faults.append(Fault(self.shown(row.file, line), reason))

    def metadata(self, directory: Directory, name: str) -> list[Payload]:
        """What the table says of a file in a folder at or below its own, once for each image id."""
        key = joined(directory.key, name)
        own = key.removeprefix(f"{self.folder.key}/") if self.folder.key else key
        rows = self._of_file(own, directory)
        for row in rows:
            row.used = row.by_path = True
        if not rows and self.by_id and "/" in own:
            rows = self._of_id(name)
        return [self.values_of(row) for row in rows]

    def values_of(self, row: TableRow) -> Payload:
        values: Payload = json.loads(row.values)
        return values

    def unused(self) -> Iterator[Fault]:
        """The rows whose file is not there."""
        return self.unused_rows(NO_FILE)

    def unused_rows(self, why: str) -> Iterator[Fault]:
        for key in self._rows:
            for row in self.called(key):
                if not row.used:
                    reason = why.format(table=self.name, line=row.line)
                    yield Fault(self.shown(row.file, row.line), reason)

    def _of_file(self, own: str, directory: Directory) -> list[TableRow]:
        """The rows that name a file exactly, else in another spelling, else without its suffix."""
        for spelled in dict.fromkeys((own, stem(own))):
            rows = self.called(folded(spelled))
            if rows and (exact := [row for row in rows if row.file == own]):
                return exact
            free = [row for row in rows if not _is_anothers(row.file, own, directory)]
            if free:
                named = spelled if any(row.file == spelled for row in free) else free[0].file
                return [row for row in free if row.file == named]
        return []

    def _of_id(self, name: str) -> list[TableRow]:
        """The rows that give a file's own name as an id, if no file lies where they say."""
        rows = [row for row in self.called(folded(stem(name))) if not row.by_path]
        for row in rows:
            row.used = True
        return rows

    def called(self, key: str) -> list[TableRow]:
        rows = self._rows.get(key)
        return [rows] if isinstance(rows, TableRow) else [*(rows or {}).values()]

    def shown(self, file: str, line: int) -> str:
        """What a list of rejected rows calls a row."""
        return self.folder.path(file)


def _is_anothers(named: str, own: str, directory: Directory) -> bool:
    """Whether a row, which names a file in other letters than its own, names another one exactly.

    `own` lies in `directory`; both are relative to the table's folder. Of folders, it is enough
    that there is one of the name.
    """
    theirs, ours = named.split("/"), own.split("/")
    if len(theirs) != len(ours):
        return False
    place = next(at for at, part in enumerate(theirs) if part != ours[at])
    level: Directory | None = directory
    for _ in ours[place + 1 :]:
        level = level.parent if level else None
    if level is None:
        return False
    return theirs[place] in (level.files if place == len(ours) - 1 else level.folders)


def read_table(
    name: str, folder: Directory, file: BinaryIO, id_fields: tuple[str, ...] = ID_COLUMNS
) -> Table:
    """Reads a whole table. `name` is its own file name. Raises BadText and OSError."""
    table = Table(name, folder, id_fields)
    read_into(table, file)
    return table


def read_into(table: Table, file: BinaryIO) -> None:
    """Raises BadText and OSError."""
    suffix = table.name.rpartition(".")[2].lower()
    if suffix == "parquet":
        _add_rows(table, _parquet(_limited(file)))
    elif suffix == "jsonl":
        _add_rows(table, _jsonl(decoded(_limited(file))))
    else:
        _add_csv(table, decoded(_limited(file)), prefers_tabs=suffix == "tsv")


def _limited(file: BinaryIO) -> bytes:
    data = file.read(MAX_TABLE + 1)
    if len(data) > MAX_TABLE:
        raise BadText(f"it is larger than {MAX_TABLE // 1_000_000} MB")
    return data


def _add_rows(table: Table, rows: Iterator[tuple[int, Payload]]) -> None:
    column: str | None = None
    for line, row in rows:
        column = column if column in row else table.column_of(list(row))
        table.by_id = table.by_id or _is_one_of(column, _IDS)
        name = as_identifier(row.get(column)) if column else None
        if not isinstance(name, str) or name == "":
            reason = table.no_name.format(table=table.name, line=line)
            table.faults.append(Fault(table.folder.path(f"{table.name}:{line}"), reason))
            continue
        table.add(name, line, table.said(row, column))


def _without(row: Payload, column: str | None, id_fields: tuple[str, ...]) -> Payload:
    """Without the file's name, unless it is an id as well, and without what is missing."""
    kept = column in id_fields or _is_one_of(column, _ALSO_METADATA)
    return {
        name: value
        for name, value in row.items()
        if (kept or name != column) and value is not None and not _is_nan(value)
    }


def _is_one_of(column: str | None, names: frozenset[str]) -> bool:
    return column is not None and folded_column(column) in names


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _file_column(columns: Sequence[str]) -> str | None:
    by_name = {folded_column(column): column for column in reversed(columns)}
    return next((by_name[name] for name in FILE_COLUMNS if name in by_name), None)


def folded_column(column: str) -> str:
    return column.strip().casefold().replace(" ", "_").replace("-", "_")


def _jsonl(text: str) -> Iterator[tuple[int, Payload]]:
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        try:
            row = parsed(line.rstrip("\r\n"))  # so that a fault has its column
        except ValueError as error:
            where = getattr(error, "colno", 1)
            raise BadText(f"line {number:,}, column {where:,}, is no JSON") from None
        except RecursionError:
            raise BadText(f"line {number:,} is nested too deep") from None
        if not isinstance(row, dict):
            raise BadText(f"line {number:,} is no JSON object")
        yield number, row


def _lines(text: str) -> Iterator[str]:
    """With their ends; one by one, because a table can be large."""
    return (line[0] for line in re.finditer(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+", text))


def _parquet(data: bytes) -> Iterator[tuple[int, Payload]]:
    """Imports the library here: most folders have no such table, and it takes a while to load."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(io.BytesIO(data)).read()
    except (pa.ArrowException, OSError, ValueError):
        raise BadText("it is no parquet file, or it is damaged") from None
    names = headers(table.column_names)
    columns = [
        [without_decimals(cell, name) for cell in values(column)]
        for name, column in zip(names, table.columns, strict=True)
    ]
    for number, cells in enumerate(zip(*columns, strict=True), 1):
        yield number, dict(zip(names, cells, strict=True))


def _plain(value: object) -> object:
    """JSON for what a parquet file has beside it: dates, times, bytes."""
    if isinstance(value, date | time):
        return value.isoformat()
    return None if isinstance(value, bytes) else str(value)


# --- CSV -----------------------------------------------------------------------------------------


def _add_csv(table: Table, text: str, *, prefers_tabs: bool) -> None:
    """Reads the text twice, so that its cells are never all in memory."""
    lines = text.removeprefix("\ufeff")
    first = next((line for line in _lines(lines) if line.strip()), "")
    said = re.fullmatch(r"\s*sep=(.)\s*", first, re.IGNORECASE)  # as Excel writes it
    if said:
        delimiter, lines = said[1], lines.replace(said[0].strip(), "", 1)
    elif prefers_tabs and "\t" in first:
        delimiter = "\t"
    else:
        delimiter = _delimiter(table, _header(lines))
    lines = _without_blanks(lines, delimiter)
    rows = _csv_rows(lines, delimiter)
    _, head = next(rows, (0, []))
    while head and not head[-1].strip():  # a comma at the end of each line
        head.pop()
    columns = headers(head)
    if not columns:
        raise BadText("it is empty")
    column = table.column_of(columns)
    if column is None:  # its first line can be a patient's, so it is not quoted
        raise BadText(table.no_column)
    table.by_id = _is_one_of(column, _IDS)
    readers = _readers(rows, columns, delimiter, table.id_fields)
    named = columns.index(column)
    rows = _csv_rows(lines, delimiter)
    next(rows)
    for line, row in rows:
        fault = _row_fault(table, line, row, columns, named)
        if fault is not None:
            table.faults.append(Fault(table.folder.path(f"{table.name}:{line}"), fault))
            continue
        values = zip(columns, readers, row, strict=False)  # a row can be shorter
        read = {name: reader(cell) for name, reader, cell in values if not is_missing(cell)}
        table.add(row[named], line, table.said(read, column))


def _delimiter(table: Table, header: str) -> str:
    """The one that yields a column of files; commas in names of columns may be more."""
    for delimiter in delimiters_of(header):
        with suppress(csv.Error, StopIteration):
            cells = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True))
            if table.column_of(cells) is not None:
                return delimiter
    return delimiters_of(header)[0]


def _header(text: str) -> str:
    """The first line that is not blank; a line may end within quotes."""
    header = ""
    for line in islice(filter(str.strip, _lines(text)), 20):
        header += line
        if header.count('"') % 2 == 0:
            break
    return header


def _without_blanks(text: str, delimiter: str) -> str:
    """Without the blanks behind quoted cells, as people align them: `"a.jpg" , "nv"`."""
    end = rf"(?=[{re.escape(delimiter)}\r\n]|\Z)"
    if not re.search(rf'"[ ]+{end}', text):
        return text
    quoted = rf'((?:^|[{re.escape(delimiter)}\r\n])[ ]*"(?:[^"]|"")*")[ ]*{end}'
    return re.sub(quoted, r"\1", text)


def _readers(
    rows: Iterator[tuple[int, list[str]]],
    columns: Sequence[str],
    delimiter: str,
    id_fields: tuple[str, ...],
) -> list[Reader]:
    """How to read each column's cells, by all of them."""
    found = [Column(name, delimiter, text=name in id_fields) for name in columns]
    for _, row in rows:
        if len(row) <= len(columns) or not any(row[len(columns) :]):
            for each, cell in zip(found, row, strict=False):
                each.see(cell)
    return [each.reader() for each in found]


def _row_fault(
    table: Table, line: int, row: Sequence[str], columns: Sequence[str], named: int
) -> str | None:
    """Why a row is rejected: with more cells than the header has, some are misplaced."""
    if any(row[len(columns) :]):
        return (
            f"{table.name}, line {line}, has {len(row)} cells, and its header {len(columns)}: "
            "put quotes around a cell that holds the delimiter"
        )
    present = len(row) > named and row[named]
    return None if present else table.no_name.format(table=table.name, line=line)


def _csv_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each row that is not empty. Raises BadText."""
    rows = csv.reader(_lines(text), delimiter=delimiter, skipinitialspace=True, strict=True)
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
