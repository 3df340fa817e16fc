"""Bytes that are not vectors: uploads, previews, and what is asked and answered.

One class over fsspec, so that a folder and an object store (`s3://…`, with s3fs installed) behave
alike. A blob appears whole or not at all.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID, uuid4

import fsspec

from pipeline.base.errors import BlobsUnavailable

# Where files are written before they are whole: in one folder, so that it can be swept.
PARTS = "parts"


class Blobs:
    """`url` is a folder or an fsspec URL. Names are relative POSIX paths that we make ourselves."""

    def __init__(self, url: str) -> None:
        self._fs: Any
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._local = "file" in self._fs.protocol

    def write(self, name: str, data: bytes) -> None:
        """Raises BlobsUnavailable when the disk is full or the bucket away: never a row's fault."""
        path = self._path(name)
        try:
            if self._local:
                _write_whole(Path(path), Path(self._root, PARTS), data)
            else:
                self._fs.pipe_file(path, data)
        except OSError as error:
            raise _away(error) from error

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError for a blob that is not there, and BlobsUnavailable."""
        with _reached():
            data: bytes = self._fs.cat_file(self._path(name))
        return data

    def exists(self, name: str) -> bool:
        return bool(self._fs.exists(self._path(name)))

    def age(self, name: str) -> float | None:
        """Seconds since it was written; None if it is gone."""
        try:
            with _reached():
                written: datetime = self._fs.modified(self._path(name))
        except FileNotFoundError:
            return None
        return (datetime.now(UTC) - written).total_seconds()

    def names(self, folder: str) -> list[str]:
        """The blobs in a folder, as names to read them by; none where there is no folder."""
        try:
            found = self._fs.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(f"{folder}/{PurePosixPath(path).name}" for path in found)

    def walk(self, folder: str) -> Iterator[str]:
        """All blobs below a folder, in no special order."""
        for path in self._fs.find(self._path(folder)):
            yield f"{folder}/{path.rpartition(f'{self._root}/{folder}/')[2]}"

    def delete(self, name: str) -> None:
        """Removes a blob or everything under a prefix; what is not there is no error.

        Raises BlobsUnavailable.
        """
        try:
            with _reached():
                self._fs.rm(self._path(name), recursive=True)
        except FileNotFoundError:
            return

    def _path(self, name: str) -> str:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise ValueError(f"not a blob name: {name!r}")
        return f"{self._root}/{name}"


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _away(error) from error


def _away(error: OSError) -> BlobsUnavailable:
    why = os.strerror(error.errno) if error.errno else type(error).__name__
    return BlobsUnavailable(f"Nothing can be kept or read just now: {why}.")


def _write_whole(path: Path, parts: Path, data: bytes) -> None:
    """Readers see the old file or the new one, also when the process dies in between."""
    part = parts / uuid4().hex
    try:
        try:
            _write_and_move(part, path, data)
        except FileNotFoundError:
            for folder in (parts, path.parent):
                folder.mkdir(parents=True, exist_ok=True)
            _write_and_move(part, path, data)
    finally:
        part.unlink(missing_ok=True)


def _write_and_move(part: Path, path: Path, data: bytes) -> None:
    part.write_bytes(data)
    os.replace(part, path)  # noqa: PTH105


def preview_name(point: UUID) -> str:
    """Spread over 256 folders, since file systems slow down with millions of files in one."""
    return f"previews/{point.hex[:2]}/{point}.jpg"


def request_folder(request: str) -> str:
    return f"requests/{request}"


def deletion_folder(deletion: str) -> str:
    return f"deletions/{deletion}"


def upload_folder(job: str) -> str:
    return f"uploads/{job}"


def manifest_of(upload: str) -> str:
    """The list of an upload's files. It is written last: what has none was not accepted."""
    return f"{upload}/manifest.json"
