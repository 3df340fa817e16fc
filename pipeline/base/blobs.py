"""Stores bytes that are not vectors: uploads, previews, requests and their answers.

One class over fsspec makes a folder and an object store (`s3://…`, with s3fs installed) behave
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

# Unfinished files are written here. They share one folder because the sweep cleans only that.
PARTS = "parts"


class Blobs:
    """`url` is a folder or an fsspec URL. Blob names are relative POSIX paths of our own making."""

    def __init__(self, url: str) -> None:
        self._fs: Any
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._local = "file" in self._fs.protocol

    def write(self, name: str, data: bytes) -> None:
        """Raises BlobsUnavailable, never a row's fault: the disk is full or the bucket is down."""
        path = self._path(name)
        try:
            if self._local:
                _write_whole(Path(path), Path(self._root, PARTS), data)
            else:
                self._fs.pipe_file(path, data)
        except OSError as error:
            raise _unavailable(error) from error

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError if there is no such blob, and BlobsUnavailable."""
        with _storage_errors():
            data: bytes = self._fs.cat_file(self._path(name))
        return data

    def exists(self, name: str) -> bool:
        return bool(self._fs.exists(self._path(name)))

    def age(self, name: str) -> float | None:
        """Seconds since the blob was written; None if it is gone."""
        try:
            with _storage_errors():
                written: datetime = self._fs.modified(self._path(name))
        except FileNotFoundError:
            return None
        return (datetime.now(UTC) - written).total_seconds()

    def names(self, folder: str) -> list[str]:
        """The names of a folder's blobs, as `read` takes them; empty if there is no folder."""
        try:
            found = self._fs.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(f"{folder}/{PurePosixPath(path).name}" for path in found)

    def walk(self, folder: str) -> Iterator[str]:
        """The names of all blobs below a folder, in no particular order."""
        for path in self._fs.find(self._path(folder)):
            yield f"{folder}/{path.rpartition(f'{self._root}/{folder}/')[2]}"

    def delete(self, name: str) -> None:
        """Deletes a blob, or everything under a prefix. A missing blob is not an error.

        Raises BlobsUnavailable.
        """
        try:
            with _storage_errors():
                self._fs.rm(self._path(name), recursive=True)
        except FileNotFoundError:
            return

    def _path(self, name: str) -> str:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise ValueError(f"not a blob name: {name!r}")
        return f"{self._root}/{name}"


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unavailable(error) from error


def _unavailable(error: OSError) -> BlobsUnavailable:
    why = os.strerror(error.errno) if error.errno else type(error).__name__
    return BlobsUnavailable(f"Blobs cannot be read or written just now: {why}.")


def _write_whole(path: Path, parts: Path, data: bytes) -> None:
    """Readers see the old file or the new one, even if the process dies in between."""
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
    """Previews spread over 256 folders: file systems slow down with millions of files in one."""
    return f"previews/{point.hex[:2]}/{point}.jpg"


def request_folder(request: str) -> str:
    return f"requests/{request}"


def deletion_folder(deletion: str) -> str:
    return f"deletions/{deletion}"


def upload_folder(job: str) -> str:
    return f"uploads/{job}"


def manifest_of(upload: str) -> str:
    """The list of an upload's files. It is written last: without it, no upload was accepted."""
    return f"{upload}/manifest.json"
