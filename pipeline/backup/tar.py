"""Blobs as one tar file, made while it is read."""

import tarfile
from collections.abc import Iterator

from pipeline.base.blobs import Blobs

# Folders of blobs that outlive the calls they were made for.
_KEPT = ("deletions", "previews", "uploads")


def tar_of(blobs: Blobs) -> Iterator[bytes]:
    """A tar file of all blobs that are kept, one in memory at a time.

    One that is deleted meanwhile is left out.
    """
    for folder in _KEPT:
        for name in blobs.walk(folder):
            try:
                data = blobs.read(name)
            except FileNotFoundError:
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            yield entry.tobuf() + data + bytes(-len(data) % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)
