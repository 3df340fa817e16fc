"""Reads files that a source names, and tells a fault of the disk from a fault of the file."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import SourceUnavailable

# In bytes, for one file. A hundred megapixels of 16 bits a colour take 600 MB unpacked.
MAX_FILE = 1_000_000_000

# A disk or a network share reports these errors about itself, not about a file.
_DISK_FAULTS = frozenset(
    {
        errno.EDQUOT, errno.EHOSTDOWN, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
        errno.ENOSPC, errno.ENOTCONN, errno.EROFS, errno.ESTALE, errno.ETIMEDOUT,
    }
)  # fmt: skip


def read_file(path: str | Path, folders: Sequence[Path]) -> bytes:
    """A file's bytes; empty if it is in none of the folders, after all links, or cannot be read.

    Raises SourceUnavailable when the disk fails: that is no row's fault.
    """
    try:
        real = Path(os.path.realpath(path))
        # Reading a device or a pipe might never end.
        readable = real.is_file() and real.stat().st_size <= MAX_FILE
        return real.read_bytes() if readable and any(map(real.is_relative_to, folders)) else b""
    except (OSError, TypeError, ValueError) as error:
        if isinstance(error, OSError) and is_disk_fault(error):
            raise SourceUnavailable("The disk, or the share, does not answer.") from error
        return b""


def is_disk_fault(error: OSError) -> bool:
    """Whether the disk failed, or the share: trying again can help."""
    return error.errno in _DISK_FAULTS


def is_disk_error(error: OSError) -> bool:
    """Whether the disk failed, or the worker may not write where data sets are prepared."""
    known = is_disk_fault(error) or isinstance(error, PermissionError)
    return known or str(error).startswith("Not enough disk space")  # the `datasets` library's check
