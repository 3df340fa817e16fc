"""Walks a folder as it is: every file is listed, and none is chosen by its name.

Links: a file behind a link is read, and a folder behind a link is walked, if it ends where the
operator allows (`AllowedSources`). A link to a folder of the same tree is skipped, since that
folder is walked in its own place.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pipeline.sources.folder.damage import reason_of, refuse_disk
from pipeline.sources.folder.names import distinct, is_hidden, is_system, shown

Place = tuple[str, ...]

OUTSIDE = "a link to a place that KINDRED_SOURCES does not allow"
BROKEN_LINK = "a link to nothing"
MAX_DEPTH = 200  # folders in folders
DEEP = f"it lies in more than {MAX_DEPTH} folders"


@dataclass(frozen=True)
class File:
    """One regular file. `name` is its path in the tree, as text; `place` finds it again.

    `open` raises OSError, and what an archive raises if it is damaged. `stamp` is what an archive
    lists of its contents (`stamps`); empty for a file of a folder, which must be read for it.
    """

    name: str
    place: Place
    size: int
    open: Callable[[], BinaryIO]
    stamp: str = ""


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


Listed = File | Skipped | Fault


@dataclass
class Directory:
    """What lies directly in one folder, in the order of names.

    `name` is its path in the tree; `key` is the same without the names of archives, which is what
    tables write. Files and folders, by their own names, are made when their turn comes, so that a
    folder of a million files costs their names only. `parent` is known while the tree is walked.
    `alone`: a person named the one file that is in it.
    """

    name: str
    key: str
    files: Mapping[str, Callable[[], Listed]] = field(default_factory=dict)
    folders: dict[str, Callable[[], "Directory"]] = field(default_factory=dict)
    others: list[Skipped | Fault] = field(default_factory=list)
    parent: "Directory | None" = None
    alone: bool = False

    def path(self, own: str) -> str:
        """The path in the tree of what lies in this folder."""
        return joined(self.name, own)


def with_folders(files: Iterable[str]) -> set[str]:
    """Paths of files, and of all folders on the way to them."""
    found = set(files)
    for file in files:
        folder = file.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def joined(folder: str, own: str) -> str:
    return f"{folder}/{own}" if folder else own


class _Files(Mapping[str, Callable[[], Listed]]):
    """Files by the names under which they are shown; `make` takes the name and the raw one."""

    def __init__(self, make: Callable[[str, str], Listed]) -> None:
        self.raw: dict[str, str] = {}
        self._make = make

    def __getitem__(self, own: str) -> Callable[[], Listed]:
        return partial(self._make, own, self.raw[own])

    def __contains__(self, own: object) -> bool:
        return own in self.raw

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)


@dataclass
class LocalTree:
    """`allowed` are the real folders in which links may end. `root` is a folder, or one file.

    `only` are paths of files in the folder, as the disk has them: nothing else is looked at.
    """

    root: Path
    allowed: tuple[Path, ...]
    only: frozenset[str] | None = None

    def __post_init__(self) -> None:
        self._real = os.path.realpath(self.root)
        self._linked: list[Path] = []
        self._wanted = None if self.only is None else with_folders(self.only)

    def directory(self) -> Directory:
        """Raises OSError if the folder itself cannot be read."""
        if Path(self._real).is_dir():
            return self._list("", "")
        name = shown(Path(self._real).name)
        return Directory("", "", {name: lambda: regular_file(self._real, name, (".",))}, alone=True)

    def _list(self, raw: str, name: str) -> Directory:
        """A folder by its path below the root, as the disk has it, and as it is shown."""
        files = _Files(partial(self._make, raw, name))
        found = Directory(name, name, files)
        with os.scandir(self._path(raw)) as entries:
            wanted = (e for e in entries if self._wants(joined(raw, e.name)))
            listed = sorted((*_order(entry.name), entry) for entry in wanted)
        for own, _, _, entry in listed:
            self._add(found, files, own, entry, joined(raw, entry.name))
        return found

    def _add(
        self, found: Directory, files: _Files, own: str, entry: os.DirEntry[str], raw: str
    ) -> None:
        if is_system(own) or is_hidden(own):
            kind = "system" if is_system(own) else "hidden"
            found.others += [Skipped(each, kind) for each in _all_below(entry, found.path(own))]
        elif entry.is_symlink():
            self._add_link(found, files, own, entry.name, raw)
        elif entry.is_dir(follow_symlinks=False):
            self._add_folder(found, own, raw)
        else:
            files.raw[distinct(own, files)] = entry.name

    def _add_folder(self, found: Directory, own: str, raw: str) -> None:
        own = distinct(own, found.folders)
        name = found.path(own)
        if name.count("/") < MAX_DEPTH:
            found.folders[own] = partial(self._walk, raw, name)
        else:
            found.others.append(Fault(f"{name}/", DEEP))

    def _add_link(self, found: Directory, files: _Files, own: str, entry: str, raw: str) -> None:
        target, root = Path(os.path.realpath(self._path(raw))), Path(self._real)
        within = target.is_relative_to(root)
        name = found.path(own)
        if not target.exists():
            found.others.append(Fault(name, BROKEN_LINK))
        elif not within and not any(target.is_relative_to(each) for each in self.allowed):
            found.others.append(Fault(name, OUTSIDE))
        elif not target.is_dir():
            files.raw[distinct(own, files)] = entry
        elif within or root.is_relative_to(target) or self._is_walked(target):
            found.others.append(Skipped(name, "link"))
        else:
            self._linked.append(target)
            self._add_folder(found, own, raw)

    def _wants(self, raw: str) -> bool:
        return self._wanted is None or raw in self._wanted

    def _is_walked(self, target: Path) -> bool:
        return any(target.is_relative_to(each) for each in self._linked)

    def _walk(self, raw: str, name: str) -> Directory:
        try:
            return self._list(raw, name)
        except OSError as error:
            refuse_disk(error)
            reason = f"this folder cannot be read: {error.strerror}"
            return Directory(name, name, others=[Fault(f"{name}/", reason)])

    def _make(self, folder: str, name: str, own: str, raw: str) -> Listed:
        place = joined(folder, raw)
        return regular_file(self._path(place), joined(name, own), (place,))

    def _path(self, raw: str) -> str:
        return f"{self._real}/{raw}"


def _order(raw: str) -> tuple[str, bool, str]:
    """Of names that are shown alike, the one that is so on the disk comes first."""
    own = shown(raw)
    return own, own != raw, raw


def regular_file(path: str, name: str, place: Place) -> Listed:
    """The file at a path, if it is a regular one."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path costs as much as the call
    except OSError as error:
        return Fault(name, reason_of(error))
    if not stat.S_ISREG(status.st_mode):
        return Skipped(name, "special")  # reading a device or a pipe might never end
    return File(name, place, status.st_size, partial(_opened, path))


def _opened(path: str) -> BinaryIO:
    return open(path, "rb")  # noqa: PTH123 - a Path costs as much as the call


def _all_below(entry: os.DirEntry[str], name: str) -> Iterator[str]:
    """The names of all files below a folder that is skipped; of a file, its own.

    It leaves out what it cannot list.
    """
    if entry.is_symlink() or not entry.is_dir(follow_symlinks=False):
        yield name
        return
    pending = [(entry.path, name)]
    while pending:
        path, shown_as = pending.pop()
        for each in _listed(path):
            below = joined(shown_as, shown(each.name))
            if each.is_dir(follow_symlinks=False):
                pending.append((each.path, below))
            else:
                yield below


def _listed(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []
