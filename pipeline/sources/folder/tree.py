"""Walks a folder as it is: every file is listed, and none is chosen by its name.

Links: a file behind a link is read, and a folder behind a link is walked, if it ends where the
operator allows (`AllowedSources`). A link to a folder of the same tree is skipped, since that
folder is walked in its own place.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pipeline.sources.folder.damage import reason_of, refuse_disk
from pipeline.sources.folder.names import is_hidden, is_system, shown

Place = tuple[str, ...]

OUTSIDE = "a link to a place that KINDRED_SOURCES does not allow"
BROKEN_LINK = "a link to nothing"


@dataclass(frozen=True)
class File:
    """One regular file. `name` is its path in the tree, as text; `place` finds it again.

    `open` raises OSError, and what an archive raises if it is damaged.
    """

    name: str
    place: Place
    size: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True)
class Skipped:
    """A file that is no picture, and the kind of thing that it is."""

    name: str
    kind: str


@dataclass(frozen=True)
class Fault:
    """A file or a folder that must be rejected, and why."""

    name: str
    reason: str


@dataclass
class Directory:
    """What lies directly in one folder, in the order of names.

    `name` is its path in the tree; `key` is the same without the names of archives, which is what
    tables write. `files` are functions, so that a folder of a million files costs their names only.
    """

    name: str
    key: str
    files: dict[str, Callable[[], File | Skipped | Fault]] = field(default_factory=dict)
    folders: list[Callable[[], "Directory"]] = field(default_factory=list)
    others: list[Skipped | Fault] = field(default_factory=list)

    def path(self, own: str) -> str:
        """The path in the tree of what lies in this folder."""
        return joined(self.name, own)


def joined(folder: str, own: str) -> str:
    return f"{folder}/{own}" if folder else own


@dataclass
class LocalTree:
    """`allowed` are the real folders in which links may end. `root` is a folder, or one file."""

    root: Path
    allowed: tuple[Path, ...]

    def __post_init__(self) -> None:
        self._real = Path(os.path.realpath(self.root))
        self._linked: set[Path] = set()

    def directory(self) -> Directory:
        """Raises OSError if the folder itself cannot be read."""
        if self._real.is_dir():
            return self._list(str(self._real), "")
        name = shown(self._real.name)
        return Directory("", "", {name: lambda: self._file(str(self._real), name, (".",))})

    def _list(self, path: str, name: str) -> Directory:
        found = Directory(name, name)
        with os.scandir(path) as entries:
            listed = sorted(entries, key=lambda entry: shown(entry.name))
        for entry in listed:
            self._add(found, entry)
        return found

    def _add(self, found: Directory, entry: os.DirEntry[str]) -> None:
        own = shown(entry.name)
        name = found.path(own)
        if is_system(own) or is_hidden(own):
            kind = "system" if is_system(own) else "hidden"
            found.others += [Skipped(each, kind) for each in _all_below(entry, name)]
        elif entry.is_symlink():
            self._add_link(found, entry, name)
        elif entry.is_dir(follow_symlinks=False):
            found.folders.append(lambda: self._walk(entry.path, name))
        else:
            place = (os.path.relpath(entry.path, self._real),)
            found.files[own] = lambda: self._file(entry.path, name, place)

    def _add_link(self, found: Directory, entry: os.DirEntry[str], name: str) -> None:
        target = Path(os.path.realpath(entry.path))
        within = target.is_relative_to(self._real)
        if not target.exists():
            found.others.append(Fault(name, BROKEN_LINK))
        elif not within and not any(target.is_relative_to(each) for each in self.allowed):
            found.others.append(Fault(name, OUTSIDE))
        elif not target.is_dir():
            place = (os.path.relpath(entry.path, self._real),)
            found.files[shown(entry.name)] = lambda: self._file(str(target), name, place)
        elif within or self._real.is_relative_to(target) or target in self._linked:
            found.others.append(Skipped(name, "link"))
        else:
            self._linked.add(target)
            found.folders.append(lambda: self._walk(entry.path, name))

    def _walk(self, path: str, name: str) -> Directory:
        try:
            return self._list(path, name)
        except OSError as error:
            refuse_disk(error)
            reason = f"this folder cannot be read: {error.strerror}"
            return Directory(name, name, others=[Fault(f"{name}/", reason)])

    def _file(self, path: str, name: str, place: Place) -> File | Skipped | Fault:
        try:
            status = Path(path).stat()
        except OSError as error:
            return Fault(name, reason_of(error))
        if not stat.S_ISREG(status.st_mode):
            return Skipped(name, "special")  # reading a device or a pipe might never end
        return File(name, place, status.st_size, lambda: Path(path).open("rb"))


def _all_below(entry: os.DirEntry[str], name: str) -> Iterator[str]:
    """The names of all files below a folder that is skipped; of a file, its own."""
    if entry.is_symlink() or not entry.is_dir(follow_symlinks=False):
        yield name
        return
    for folder, _, files in os.walk(entry.path):  # it leaves out what it cannot list
        below = shown(os.path.relpath(folder, entry.path))
        for file in sorted(files):
            yield f"{name}/{shown(file)}" if below == "." else f"{name}/{below}/{shown(file)}"
