"""Lists as a table in a file, for the program in which people sort and filter them."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.failure import CommandError

# A cell that begins so is a formula for Excel, and a file may be called so.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _harmless(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """How many rows. UTF-8 with a mark, by which Excel knows it. Raises CommandError."""
    count = 0
    try:
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            for row in rows:
                table.writerow({name: _harmless(row.get(name)) for name in columns})
                count += 1
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
    return count
