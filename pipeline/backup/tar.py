"""Streams blobs as one tar file."""

import tarfile
from collections.abc import Iterator

from pipeline.base.blobs import Blobs

# Folders of blobs that outlive the calls that made them.
_LASTING = (
    "calibration", "deletions", "evaluations", "incoming", "jobs", "label-audits", "originals",
    "previews", "quarantine", "uploads",
)  # fmt: skip


def tar_of(blobs: Blobs) -> Iterator[bytes]:
    """A tar file of all lasting blobs, with one blob in memory at a time.

    It leaves out a blob that is deleted in the meantime.
    """
    for folder in _LASTING:
        for name in blobs.walk(folder):
            try:
                data = blobs.read(name)
            except FileNotFoundError:
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            yield entry.tobuf() + data + bytes(-len(data) % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)
