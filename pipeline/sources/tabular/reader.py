"""Reads the rows of Parquet and Arrow files where they lie. Nothing is copied.

All lanes of a worker share one reader, and each works another part of the data set. What one of
them has opened is kept for the next part: to start in the middle of a group of rows costs decoding
all before it.
"""

import bisect
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, Self

from pipeline.base.identity import row_image_id, sha256
from pipeline.messages import Payload
from pipeline.sources.base import Row, own_id
from pipeline.sources.metadata import clean
from pipeline.sources.tabular.cells import class_name, picture_bytes, values, without_decimals
from pipeline.sources.tabular.columns import Columns, Features, Layout, arrange
from pipeline.sources.tabular.late import LateTables
from pipeline.sources.tabular.tables import (
    Cursor,
    Table,
    contents_of,
    fingerprint,
    is_as_it_was,
    rows_of,
)

MAX_NAME = 255  # characters, as file systems have it
# How many cursors may wait for more work. Each has a file open, and keeps the page that it is in.
IDLE = 16


@dataclass(frozen=True)
class Naming:
    """What the rows of a data set are called.

    `dataset` and `split` are in the ids of rows without their own. `names` are the files for
    people. Cells may name files in `folders`; relative ones start at the first. Unless rows are
    `numbered`, their bytes identify them.
    """

    dataset: str
    split: str
    names: tuple[str, ...]
    folders: tuple[Path, ...]
    numbered: bool = True


class TabularReader:
    """`tables` may be opened late, and `rows` are how many each of them has.

    `used` is called whenever somebody is about to read.
    """

    skipped: Mapping[str, int] = MappingProxyType({})

    def __init__(
        self,
        tables: LateTables,
        rows: Sequence[int],
        columns: Columns,
        naming: Naming,
        version: str,
        *,
        limit: int | None = None,
        used: Callable[[], object] = lambda: None,
    ) -> None:
        self._tables, self.rows, self.columns = tables, rows, columns
        self._naming, self._version, self._used = naming, version, used
        self._starts = [0, *accumulate(rows)]
        self._rows = min(self._starts[-1], limit or self._starts[-1])
        self._idle = _Idle()

    @classmethod
    def of(
        cls,
        files: Sequence[Path],
        naming: Naming,
        *,
        limit: int | None = None,
        image_column: str | None = None,
        id_column: str | None = None,
        described: Features | None = None,
        version: str = "",
        used: Callable[[], object] = lambda: None,
    ) -> Self:
        """Opens all files. Without a `version`, it is made of what is in them.

        Raises SourceError if a file cannot be read or the files do not fit together.
        """
        tables = LateTables(len(files), files.__getitem__)
        named = [(tables[number], name) for number, name in enumerate(naming.names)]
        columns = arrange(named, image_column, id_column, described or {})
        rows = [rows_of(table) for table, _ in named]
        version = version or _version(named)
        return cls(tables, rows, columns, naming, version, limit=limit, used=used)

    @property
    def version(self) -> str:
        """Looks at the files again: they can change while a job reads them."""
        self._used()
        return self._version if all(map(is_as_it_was, self._tables.opened)) else "changed"

    def contents(self) -> str:
        """The same on each host that has the same files; reads a little of each."""
        found = [contents_of(table.path) for table in self._tables.opened]
        return sha256("\n".join(found).encode())[:16]

    def __len__(self) -> int:
        return self._rows

    def read(self, start: int, stop: int) -> Iterator[Row]:
        number = bisect.bisect_right(self._starts, start) - 1
        while start < stop:
            first, end = self._starts[number], min(stop, self._starts[number + 1])
            if start < end:
                yield from self._read(number, start - first, end - first)
            start, number = max(start, end), number + 1

    def _read(self, number: int, start: int, stop: int) -> Iterator[Row]:
        """Rows of one file, by their numbers in it."""
        table, layout = self._tables[number], self.columns.layouts[number]
        cursor = self._idle.take(table, number, start)
        found = [_rows(batch, layout) for batch in cursor.read(start, stop)]
        self._idle.give(cursor)
        for row, cells in enumerate((cells for rows in found for cells in rows), start):
            yield self._row(number, row, cells)

    def _row(self, number: int, row: int, cells: Payload) -> Row:
        columns, naming = self.columns, self._naming
        cell = cells.pop(columns.image, None) if columns.image else None
        data = picture_bytes(cell, naming.folders)
        image_id, fault = own_id([cells.get(columns.id)] if columns.id else [])
        place = self._starts[number] + row
        if image_id is None and naming.numbered:
            image_id = row_image_id(naming.dataset, naming.split, place)
        return Row(place, image_id, data, clean(cells), fault=fault, name=_own_name(cell))


def _own_name(cell: Any) -> str | None:
    """The name of the file that a picture was made from, where its cell has one."""
    path = cell.get("path") if isinstance(cell, dict) else None
    return PurePath(path).name[:MAX_NAME] or None if isinstance(path, str) else None


class _Idle:
    """The cursors that no thread uses now."""

    def __init__(self) -> None:
        self._cursors: list[Cursor] = []
        self._lock = threading.Lock()

    def take(self, table: Table, number: int, row: int) -> Cursor:
        """The nearest before this row, or a new one, if that starts nearer.

        A new one replaces the nearest, since lanes go on from part to part: there is no more than
        one for each lane.
        """
        start = table.starts[bisect.bisect_right(table.starts, row) - 1]
        with self._lock:
            before = [c for c in self._cursors if c.place <= (number, row)]
            nearest = max(before, key=lambda cursor: cursor.place, default=None)
            if nearest is not None:
                self._cursors.remove(nearest)
        if nearest is not None and nearest.place >= (number, start):
            return nearest
        return Cursor.at(table, number, row)

    def give(self, cursor: Cursor) -> None:
        """Keeps it, unless its file has ended, and forgets the one that waits the longest."""
        if cursor.position < rows_of(cursor.table):
            with self._lock:
                self._cursors = [*self._cursors, cursor][-IDLE:]


def _rows(batch: Any, layout: Layout) -> Iterator[Payload]:
    named = [(name, n) for n, name in enumerate(layout.names) if name is not None]
    columns = {name: _cells(batch.column(n), name, layout) for name, n in named}
    for row in range(batch.num_rows):
        yield {name: cells[row] for name, cells in columns.items()}


def _cells(column: Any, name: str, layout: Layout) -> list[Any]:
    cells = values(column)
    if name in layout.decimals:
        cells = [without_decimals(cell, name) for cell in cells]
    if names := layout.labels.get(name):
        cells = [class_name(cell, names) for cell in cells]
    elif name in layout.widened:
        cells = [None if cell is None else float(cell) for cell in cells]
    return cells


def _version(tables: Sequence[tuple[Table, str]]) -> str:
    """Does not depend on the files' times: those may differ between two hosts' copies."""
    prints = [fingerprint(table, name) for table, name in tables]
    return sha256("\n".join(prints).encode())[:16]


def printable(path: Path, root: Path) -> str:
    """A file's name for people, relative to its data set's folder."""
    name = path.relative_to(root) if path.is_relative_to(root) else path
    return os.fsencode(name).decode("utf-8", "replace")
