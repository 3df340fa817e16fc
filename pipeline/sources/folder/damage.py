"""Why one file cannot be read; or an exception, if that is not the file's fault."""

import tarfile
import zipfile
import zlib

from pipeline.base.errors import SourceUnavailable
from pipeline.sources.local import is_disk_fault

# What the libraries raise for an archive that is damaged, or that its writer tampered with.
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)

ARCHIVE = "its archive is damaged, or packed in a way that is not read: unpack it"


def reason_of(error: Exception) -> str:
    """Raises SourceUnavailable when the disk fails, and the error if it is none of a file."""
    if isinstance(error, OSError):
        refuse_disk(error)
        if error.strerror:
            return f"it cannot be read: {error.strerror}"
        return ARCHIVE  # gzip and lzma raise such errors
    if isinstance(error, DAMAGED):
        return ARCHIVE
    raise error


def refuse_disk(error: OSError) -> None:
    """A disk that does not answer is no fault of a file."""
    if is_disk_fault(error):
        raise SourceUnavailable("The disk, or the share, does not answer.") from error
