"""Reads Parquet and Arrow files in place: their schema first, then rows from any place on.

A table is cut into groups, as its file is: reading can start at each of them. No file stays open
but those that a cursor reads from.
"""

import bisect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.base.errors import SourceError, SourceUnavailable
from pipeline.base.identity import sha256
from pipeline.images.kinds import HEAD, kind_of
from pipeline.sources.local import is_disk_fault

# In bytes. Unless it is told so, Arrow reads a whole column of a group at once, and a group can be
# the whole file: the first row of one of 1 GB took 1 GB, and takes 62 MB.
BUFFER = 1 << 20
# In bytes: how much of a group is decoded at once, and in rows, since some have next to no bytes.
DECODED = 4 << 20
MAX_BATCH = 1024
# In bytes, from the end of a file. Parquet's footer is there, with the place of every page.
TAIL = 1 << 16
# How many pieces of a file, of so many bytes, and how much of a footer tell it from another.
PIECES, PIECE, MAX_FOOTER = 16, 4096, 16 << 20

_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_PARQUET, _ARROW, _STREAM = (b"PAR1", b"PARE"), b"ARROW1", b"\xff\xff\xff\xff"
_SUFFIXES = (".parquet", ".pq", ".arrow", ".feather")


class Table(Protocol):
    """One file. Group n has the rows from `starts[n]` to `starts[n + 1]`."""

    path: Path
    schema: pa.Schema
    starts: list[int]
    state: tuple[int, ...]

    def batches(self, group: int, only: str | None = None) -> Iterator[pa.RecordBatch]:
        """All rows from that group on, to the end of the file: at least the column `only`."""


def is_tabular(path: Path) -> bool:
    """Whether a file is Parquet or Arrow by its content; by its name if it cannot be told."""
    try:
        head = _head(path)
    except OSError:
        head = b""
    named = path.suffix.lower() in _SUFFIXES
    return head.startswith((*_PARQUET, _ARROW)) or named


def open_table(path: Path) -> Table:
    """Raises SourceError, which names the file, and SourceUnavailable."""
    with faults_named(path):
        head = _head(path)
        if kind_of(head).name == "lfs pointer":
            raise SourceError(f"{path} is a Git LFS pointer, not the file: run git lfs pull.")
        if head.startswith((_ARROW, _STREAM)):
            return ArrowTable(path, stream=head.startswith(_STREAM))
        return ParquetTable(path)


def rows_of(table: Table) -> int:
    return table.starts[-1]


def state_of(path: Path) -> tuple[int, ...]:
    """What changes when a file is written or replaced. It differs between two hosts' copies."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def is_as_it_was(table: Table) -> bool:
    """Whether nobody has written, replaced or deleted its file since it was opened."""
    try:
        return state_of(table.path) == table.state
    except OSError:
        return False


def contents_of(path: Path) -> str:
    """A text that is the same for each copy of a file, and tells apart files of one size.

    It covers Parquet's footer, which has the place and size of each page, and pieces of the whole
    file: neither the footer nor the end says which bytes an image has.
    """
    with faults_named(path), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        starts = range(0, size, max(PIECE, -(-size // PIECES)))
        pieces = [_piece(file, start, PIECE) for start in starts]
        end = _piece(file, max(0, size - 8), 8)
        if end.endswith(_PARQUET):
            footer = min(int.from_bytes(end[:4], "little"), size, MAX_FOOTER)
            pieces.append(_piece(file, size - footer, footer))
        return f"{size}:{sha256(b''.join(pieces))}"


def _piece(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def fingerprint(table: Table, name: str) -> str:
    """A text that is the same for each copy of a file: its name, size, rows, and its end."""
    with faults_named(table.path):
        end = sha256(_tail(table.path, TAIL))
        return f"{name}:{table.path.stat().st_size}:{rows_of(table)}:{end}"


class ParquetTable:
    """Its groups are the file's row groups."""

    def __init__(self, path: Path) -> None:
        self.path, self.state = path, state_of(path)
        with _parquet(path) as file:
            self.schema = file.schema_arrow
            groups = [file.metadata.row_group(n) for n in range(file.num_row_groups)]
            self.starts = [0, *accumulate(group.num_rows for group in groups)]
            self._batch = _batch_size(sum(g.total_byte_size for g in groups), self.starts[-1])

    def batches(self, group: int, only: str | None = None) -> Iterator[pa.RecordBatch]:
        with _parquet(self.path) as file:
            later = range(group, len(self.starts) - 1)
            columns = None if only is None else [only]
            yield from file.iter_batches(self._batch, row_groups=later, columns=columns)


class ArrowTable:
    """Its groups are the file's record batches: mapped, and decoded where they are compressed."""

    def __init__(self, path: Path, *, stream: bool) -> None:
        self.path, self.state, self._stream = path, state_of(path), stream
        if stream and _tail(path, len(_END_OF_STREAM)) != _END_OF_STREAM:
            raise pa.ArrowInvalid("It may have lost its last rows.")
        with self._open() as reader:
            self.schema = reader.schema
        self.starts = [0, *accumulate(batch.num_rows for batch in self.batches(0))]

    def batches(self, group: int, only: str | None = None) -> Iterator[pa.RecordBatch]:
        with self._open() as reader:
            if not self._stream:
                later = range(group, reader.num_record_batches)
                yield from (reader.get_batch(n) for n in later)
                return
            for number, batch in enumerate(reader):
                if number >= group:
                    yield batch

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with pa.memory_map(os.fsencode(self.path)) as file:
            opener = pa.ipc.open_stream if self._stream else pa.ipc.open_file
            with opener(file) as reader:
                yield reader


@dataclass
class Cursor:
    """Reads one table onwards from a row. One thread at a time may use it."""

    table: Table
    number: int
    position: int
    _batches: Iterator[pa.RecordBatch]
    _rest: pa.RecordBatch | None = None

    @property
    def place(self) -> tuple[int, int]:
        return self.number, self.position

    @classmethod
    def at(cls, table: Table, number: int, row: int) -> "Cursor":
        """At the start of the group that has this row. `number` is the table's."""
        if not is_as_it_was(table):
            raise SourceUnavailable("It changes while it is read.")
        group = bisect.bisect_right(table.starts, row) - 1
        return cls(table, number, table.starts[group], table.batches(group))

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """The rows of the table from `start`, which is not behind us, to `stop`."""
        with faults_named(self.table.path):
            while self.position < stop:
                batch = self._rest or next(self._batches, None)
                if batch is None:
                    raise SourceUnavailable("It changes while it is read.")
                skipped = min(max(0, start - self.position), batch.num_rows)
                taken = batch.slice(skipped, stop - self.position - skipped)
                self.position += skipped + taken.num_rows
                rest = batch.slice(skipped + taken.num_rows)
                self._rest = rest if rest.num_rows else None
                if taken.num_rows:
                    yield taken


@contextmanager
def faults_named(path: Path) -> Iterator[None]:
    """Turns what reading a file can raise into SourceError, which names it, or SourceUnavailable.

    The libraries' own texts are not passed on: they can quote what is in the file.
    """
    try:
        yield
    except (OSError, ValueError, NotImplementedError, pa.ArrowException) as error:
        if isinstance(error, OSError) and is_disk_fault(error):
            raise SourceUnavailable("The disk, or the share, does not answer.") from error
        raise SourceError(f"{path} {_reason(error)}", why="a file cannot be read") from error


def _reason(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "cannot be read: the workers have no right to. Let them read it."
    if isinstance(error, FileNotFoundError):
        return "is not there."
    if isinstance(error, (NotImplementedError, pa.ArrowNotImplementedError)):
        return "cannot be read: it is written in a way that is not supported."
    return "cannot be read: it is damaged or cut off."


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _tail(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read(size)


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    with (
        pa.OSFile(os.fsencode(path)) as raw,
        pq.ParquetFile(raw, buffer_size=BUFFER, pre_buffer=False) as file,
    ):
        yield file


def _batch_size(size: int, rows: int) -> int:
    """In rows, for so many bytes and rows in all."""
    return max(1, min(MAX_BATCH, DECODED * rows // max(size, 1)))
