"""Reads a file of a tree by its place: a path and, in an archive, a member's number and name."""

import stat
import threading
from pathlib import Path

from pipeline.images.decoding import Unusable
from pipeline.sources.folder.archives import TOO_LARGE, Archive, open_archive
from pipeline.sources.folder.damage import reason_of
from pipeline.sources.folder.tree import Place
from pipeline.sources.local import MAX_FILE

GONE = Unusable("it was there when the folder was counted, and is not any more")
OUTSIDE = Unusable("it is in no folder that KINDRED_SOURCES allows")


class Places:
    """Threads can share it. Each keeps its latest archive open, since rows come in order."""

    def __init__(self, root: Path, folders: tuple[Path, ...]) -> None:
        self._root = root.resolve()
        self._folders = (self._root, *folders)
        self._opened = threading.local()

    def read(self, place: Place) -> bytes | Unusable:
        """The bytes, or why there are none. Raises SourceUnavailable when the disk fails."""
        path = Path(self._root, *place[:1]).resolve()
        if not any(map(path.is_relative_to, self._folders)):
            return OUTSIDE  # what was a file can be a link by now
        try:
            if len(place) > 1:
                return _member(self._archive(path), int(place[1]), place[2])
            return _bytes(path)
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

    def close(self) -> None:
        """Closes this thread's archive."""
        if getattr(self._opened, "key", None) is not None:
            self._opened.key = None
            self._opened.archive.close()


def _member(archive: Archive, number: int, name: str) -> bytes | Unusable:
    """Also of an archive that was replaced meanwhile: then another picture has the number."""
    if archive.members[number].name != name:
        return GONE
    with archive.open(number) as member:
        data = member.read(MAX_FILE + 1)  # what a header says of a size can be a lie
    return data if len(data) <= MAX_FILE else Unusable(TOO_LARGE)


def _bytes(path: Path) -> bytes | Unusable:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return GONE  # what was a file can be a pipe by now, whose reading might never end
    return Unusable(TOO_LARGE) if status.st_size > MAX_FILE else path.read_bytes()
