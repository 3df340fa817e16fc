"""Copies of data sets that the `datasets` library prepares on the disk, and when they go.

A copy holds pictures and metadata, of patients who may since have been deleted, so none outlives
the jobs that read it.
"""

import fcntl
import os
import shutil
import weakref
from pathlib import Path


class PreparedCopies:
    """A folder that several processes may share. Each reader of a copy holds it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def exist(self) -> bool:
        return self.folder.exists() and any(self.folder.iterdir())

    def hold_for(self, reader: object) -> None:
        """Keeps the copies until `reader` is garbage. Waits while they are being deleted."""
        lock = self._lock()
        fcntl.flock(lock, fcntl.LOCK_SH)
        weakref.finalize(reader, os.close, lock)

    def delete(self) -> bool:
        """False, and nothing is touched, while a reader of any process holds them."""
        if not self.folder.exists():
            return True
        lock = self._lock()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for entry in self.folder.iterdir():
                _remove(entry)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True

    def _lock(self) -> int:
        """Beside the folder, since all that lies in it goes."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(f"{self.folder}.lock", os.O_RDWR | os.O_CREAT, 0o600)


def _remove(entry: Path) -> None:
    """What cannot be removed now is tried again at the next turn."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
