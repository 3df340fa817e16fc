"""What is known of local images, from `metadata.csv` and `metadata.jsonl` as of `imagefolder`.

Each row names its image in `file_name`, relative to the table's folder; the other columns are the
image's metadata. (https://huggingface.co/docs/datasets/image_dataset)
"""

import csv
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cli.documents import Document
from cli.failure import CommandError

FILE_NAME = "file_name"
_TABLES = ("metadata.csv", "metadata.jsonl")
_MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"})
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?")


def read_metadata(folder: Path) -> dict[Path, Document]:
    """Image → its metadata, from every table in `folder` and below, without what is missing."""
    known: dict[Path, Document] = {}
    for table in sorted(path for name in _TABLES for path in folder.rglob(name)):
        try:
            rows = _csv(table) if table.suffix == ".csv" else list(_jsonl(table))
        except (OSError, ValueError, csv.Error) as error:
            raise CommandError(f"{table} cannot be read: {error}") from error
        for row in rows:
            name = _file_name(table, row)
            known[table.parent / name] = _present(row)
    return known


def _file_name(table: Path, row: Document) -> str:
    """Removes it from the row: the image's file name is no metadata of the image."""
    name = row.pop(FILE_NAME, None)
    if not isinstance(name, str) or not name:
        raise CommandError(f"{table} has a row without `{FILE_NAME}`")
    return name


def _present(row: Document) -> Document:
    return {
        name: value
        for name, value in row.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }


def _jsonl(table: Path) -> Iterator[Document]:
    for number, line in enumerate(table.read_text("utf-8").splitlines(), 1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no JSON object")
            yield row


def _csv(table: Path) -> list[Document]:
    with table.open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines, strict=True, restkey="", restval=""))
    if any("" in row for row in rows):
        raise ValueError("a row has more cells than there are columns")
    readers = {name: _reader([row[name] for row in rows]) for name in (rows[0] if rows else ())}
    readers[FILE_NAME] = str
    return [_read_row(row, readers) for row in rows]


def _read_row(row: Mapping[str, str], readers: Mapping[str, Callable[[str], object]]) -> Document:
    present = {name: cell for name, cell in row.items() if cell not in _MISSING}
    return {name: readers[name](cell) for name, cell in present.items()}


def _reader(column: list[str]) -> Callable[[str], object]:
    """CSV has no types, and a range finds no age that is text. So a column holds numbers if each
    cell is one and is written as we would write it: `007` is an id."""
    cells = [cell for cell in column if cell not in _MISSING]
    if all(_INTEGER.fullmatch(cell) for cell in cells):
        return int
    return float if all(_NUMBER.fullmatch(cell) for cell in cells) else str
