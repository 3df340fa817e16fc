"""The files of a data set, each opened when the first of its rows is wanted."""

import threading
from collections.abc import Callable
from pathlib import Path

from pipeline.sources.tabular.tables import Table, open_table


class LateTables:
    """`path_of` says where a file is, by its number, and may fetch it. Threads can share it."""

    def __init__(self, count: int, path_of: Callable[[int], Path]) -> None:
        self._path_of = path_of
        self._tables: list[Table | None] = [None] * count
        self._locks = [threading.Lock() for _ in range(count)]

    def __getitem__(self, number: int) -> Table:
        """Raises as `open_table` and `path_of` do."""
        with self._locks[number]:  # whoever wants another file does not wait for this one
            table = self._tables[number]
            if table is None:
                table = self._tables[number] = open_table(self._path_of(number))
        return table

    @property
    def opened(self) -> list[Table]:
        """Those that somebody has wanted so far."""
        return [table for table in self._tables if table is not None]
