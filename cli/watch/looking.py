"""Looks at a watched folder: which files lie in it, and which of them are complete.

A share tells nobody of what another machine writes, so we look, again and again. Of each file a
look costs one `stat`.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pipeline.sources.folder.names import is_hidden, is_system

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

# What programs call a file that they have not finished, in small letters.
_UNFINISHED = (
    "~", ".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart", ".writing",
)  # fmt: skip

# Seconds until a folder without a file is taken for one that nobody is about to fill.
EMPTY_SECONDS = 3600.0


class Stamp(NamedTuple):
    """Bytes, and nanoseconds of the file system's own clock. Another one is another file."""

    size: int
    mtime: int


Seen = tuple[str, Stamp]


def waits(name: str) -> bool:
    """Whether a file of this name is not meant to be read, or not yet."""
    return is_hidden(name) or is_system(name) or name.lower().endswith(_UNFINISHED)


def look(root: Path, aside: frozenset[str], *, tidy: bool) -> Iterator[Seen]:
    """All files by their paths in the folder. Raises OSError if the folder itself is away.

    `aside` are names directly in it that are left out. `tidy` removes folders that have been empty
    for an hour. Folders behind links are not looked at.
    """
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            entries = os.scandir(root / folder)
        except OSError:
            if not folder:
                raise
            continue  # it was removed meanwhile
        empty = True
        with entries:
            for entry in entries:
                empty = False
                path = f"{folder}/{entry.name}" if folder else entry.name
                if path in aside or waits(entry.name):
                    continue
                with suppress(OSError):  # as above
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(path)
                    elif entry.is_file():
                        yield path, stamp_of(entry.stat())
        if empty and folder and tidy:
            _remove_old(root / folder)


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns)


def stamp_at(path: Path) -> Stamp | None:
    """None if there is no file."""
    try:
        return stamp_of(path.stat())
    except OSError:
        return None


def _remove_old(folder: Path) -> None:
    with suppress(OSError):
        if time.time() - folder.stat().st_mtime > EMPTY_SECONDS:
            folder.rmdir()  # only of an empty one


@dataclass
class Settling:
    """Tells when a file has stopped changing.

    It has if looks that are `seconds` apart saw the same of it. A share's clock can be wrong, so
    only our own counts.
    """

    seconds: float
    clock: Callable[[], float] = time.monotonic
    _since: dict[str, tuple[Stamp, float]] = field(default_factory=dict)

    def settled(self, found: Iterable[Seen]) -> list[Seen]:
        """Of one look, the files that have."""
        now, before = self.clock(), self._since
        self._since, still = {}, []
        for path, stamp in found:
            known = before.get(path)
            since = known[1] if known and known[0] == stamp else now
            self._since[path] = stamp, since
            if known and known[0] == stamp and now - since >= self.seconds:
                still.append((path, stamp))
        return still

    @property
    def waiting(self) -> int:
        """How many files the last look saw."""
        return len(self._since)


def is_being_written(path: Path) -> bool:
    """Whether a process of this machine has it open for writing, where that can be known.

    Linux gives nobody a read lease of such a file (fcntl(2), F_SETLEASE). It gives one to the
    file's owner alone, and not on every share. Whoever opens the file while we hold the lease,
    which is for microseconds, waits for us, and we get SIGIO: the caller ignores it.
    """
    if fcntl is None or not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
