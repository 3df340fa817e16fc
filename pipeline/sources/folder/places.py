"""Reads a file of a tree by its place: a path and, in an archive, a member's number and name."""

import os
import stat
import threading
from pathlib import Path

from pipeline.base.errors import SourceElsewhere
from pipeline.images.decoding import Unusable
from pipeline.sources.folder.archives import TOO_LARGE, Archive, open_archive
from pipeline.sources.folder.damage import reason_of, refuse_disk
from pipeline.sources.folder.stamps import stamp_of
from pipeline.sources.folder.tree import Place
from pipeline.sources.local import MAX_FILE

GONE = Unusable("it was there when the folder was counted, and is not any more")
CHANGED = Unusable(
    "it has changed since the folder was listed, or this worker's host has another: retry the job"
)
OUTSIDE = Unusable("it is in no folder that KINDRED_SOURCES allows")


class Places:
    """Threads can share it. Each keeps its latest archive open, since rows come in order."""

    def __init__(self, root: Path, folders: tuple[Path, ...]) -> None:
        self._root = root.resolve()
        self._folders = (self._root, *folders)
        self._opened = threading.local()

    def read(self, place: Place, stamp: str = "") -> bytes | Unusable:
        """The bytes, or why there are none: also if they have another stamp than this one.

        Raises SourceUnavailable when the disk fails.
        """
        path = Path(self._root, *place[:1]).resolve()
        if not any(map(path.is_relative_to, self._folders)):
            return OUTSIDE  # what was a file can be a link by now
        try:
            if len(place) > 1:
                return _member(self._archive(path), int(place[1]), place[2], stamp)
            data = _bytes(path)
            same = not stamp or isinstance(data, Unusable) or stamp_of(data) == stamp
            return data if same else CHANGED
        except (FileNotFoundError, IndexError):
            return GONE
        except Exception as error:  # noqa: BLE001 - `reason_of` raises what is no file's fault
            return Unusable(reason_of(error))

    def _archive(self, path: Path) -> Archive:
        status = path.stat()
        key = (path, status.st_mtime_ns, status.st_size)
        if getattr(self._opened, "key", None) != key:
            self.close()
            self._opened.archive = open_archive(path.open("rb"))
            self._opened.key = key
        archive: Archive = self._opened.archive
        return archive

    def refuse_absent(self) -> None:
        """Raises SourceElsewhere if this host does not have the folder."""
        refuse_absent(self._root)

    def close(self) -> None:
        """Closes this thread's archive."""
        if getattr(self._opened, "key", None) is not None:
            self._opened.key = None
            self._opened.archive.close()


def refuse_absent(root: Path) -> None:
    """Raises SourceElsewhere if this host has no such folder, or file.

    An empty folder is none: it is where a share would be mounted.
    """
    try:
        absent = stat.S_ISDIR(root.stat().st_mode) and _is_empty(root)
    except FileNotFoundError:
        absent = True
    except OSError as error:  # it is there; its files say why they cannot be read
        refuse_disk(error)
        return
    if absent:
        raise SourceElsewhere("Mount it there, or cancel the job.")


def _is_empty(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _member(archive: Archive, number: int, name: str, stamp: str) -> bytes | Unusable:
    """Also of an archive that was replaced meanwhile: then another picture has the number."""
    found = archive.members[number]
    if found.name != name:
        return GONE
    if stamp and found.stamp != stamp:
        return CHANGED
    with archive.open(number) as member:
        data = member.read(MAX_FILE + 1)  # what a header says of a size can be a lie
    return data if len(data) <= MAX_FILE else Unusable(TOO_LARGE)


def _bytes(path: Path) -> bytes | Unusable:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return GONE  # what was a file can be a pipe by now, whose reading might never end
    return Unusable(TOO_LARGE) if status.st_size > MAX_FILE else path.read_bytes()
