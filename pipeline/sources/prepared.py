"""Manages the copies of data sets that earlier versions prepared on the disk.

A copy contains pictures and metadata. Its patients may have been deleted since, so a copy is
deleted when no job reads it any more.
"""

import fcntl
import os
import shutil
import weakref
from pathlib import Path


class PreparedCopies:
    """A folder that several processes may share. Each reader of a copy locks it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def exist(self) -> bool:
        return self.folder.exists() and any(self.folder.iterdir())

    def lock_for(self, reader: object) -> None:
        """Protects the copies until `reader` is garbage. Waits while they are being deleted."""
        lock = self._lock()
        fcntl.flock(lock, fcntl.LOCK_SH)
        weakref.finalize(reader, os.close, lock)

    def delete(self) -> bool:
        """Returns False, and deletes nothing, while a reader in any process uses the copies."""
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
        """Opens the lock file. It is beside the folder, since everything inside is deleted."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(f"{self.folder}.lock", os.O_RDWR | os.O_CREAT, 0o600)


def _remove(entry: Path) -> None:
    """An entry that cannot be removed now is tried again the next time."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
