"""Lists as a table in a file, for the program in which people sort and filter them."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.failure import CommandError
from pipeline.base.cells import harmless


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """How many rows. UTF-8 with a mark, by which Excel knows it. Raises CommandError."""
    count = 0
    try:
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            for row in rows:
                table.writerow({name: harmless(row.get(name)) for name in columns})
                count += 1
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
    return count
