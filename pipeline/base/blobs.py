"""Stores bytes that are not vectors: uploads, previews, requests and their answers.

One class over fsspec makes a folder and an object store (`s3://…`, with the extra `s3`) behave
alike. A blob appears whole or not at all.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID, uuid4

from pipeline.base.blob_clients import S3_PATIENCE, Patience, is_s3, open_file_system
from pipeline.base.blob_errors import away, client_errors, disk_errors, misconfigured
from pipeline.base.files import sync_folder
from pipeline.base.outage import Outage

# Unfinished files are written here. They share one folder because the sweep cleans only that.
PARTS = "parts"
# The pictures that an admin must see before they are embedded.
QUARANTINE = "quarantine"


# Tries to delete a folder of which others delete parts: the second finds what is left, or nothing.
_DELETES = 3


class Blobs:
    """`url` is a folder or an fsspec URL. Blob names are relative POSIX paths of our own making.

    Every method raises BlobsUnavailable while the disk or the store is away or full, and
    BlobsMisconfigured, which is one too, where the store refuses our settings. Neither is ever the
    fault of a row.
    """

    def __init__(self, url: str, patience: float = S3_PATIENCE) -> None:
        """`patience`: the most seconds that a call to an object store may take.

        Raises BlobsMisconfigured, as without the package that the URL needs.
        """
        self._fs: Any
        self._fs, self._root, self._local = open_file_system(url)
        self._s3 = is_s3(url)
        self._patience = Patience(url, patience)
        self.outage = Outage("blobs", "blobs")

    @property
    def free(self) -> int | None:
        """Bytes of the disk that are free; None if the blobs are on none of ours."""
        if not self._local:
            return None
        with self._errors():
            return shutil.disk_usage(_existing(Path(self._root))).free

    def probe(self) -> None:
        """Writes, lists, reads and deletes a small blob, to find wrong settings at the start.

        It leaves a folder alone: a disk that is full or gone is found, and waited for, at work.
        """
        if self._local:
            return
        name = f"{PARTS}/{uuid4().hex}"  # the sweep deletes it if we cannot
        self.write(name, b"probe")
        if name not in self.names(PARTS) or self.read(name) != b"probe":
            raise misconfigured("a blob that was just written is not there")
        self.delete(name)

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """`durable`: it survives a power cut. An object store promises that anyway."""
        path = self._path(name)
        try:
            with self._errors(writes=True):
                if self._local:
                    _write_whole(Path(path), Path(self._root, PARTS), data, durable=durable)
                else:
                    self._fs.pipe_file(path, data, **self._patience.options(len(data)))
        except FileNotFoundError as error:
            raise away(os.strerror(error.errno or 0)) from error

    def take(self, name: str, file: Path) -> None:
        """Makes a file a blob, durably. It is moved where that is possible: it may then be gone."""
        path = self._path(name)
        with self._errors(writes=True):
            if self._local:
                _take(file, Path(path))
            else:
                size = file.stat().st_size
                self._fs.put_file(str(file), path, **self._patience.options(size))

    @property
    def parts(self) -> Path | None:
        """A folder for files that `take` then only moves; the sweep deletes those of an hour ago.

        None if the blobs are on no disk of ours.
        """
        if not self._local:
            return None
        folder = Path(self._root, PARTS)
        with self._errors(writes=True):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def write_all(self, named: Sequence[tuple[str, bytes]]) -> None:
        """Writes one after the other; none after an error."""
        for name, data in named:
            self.write(name, data)

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError if there is no such blob."""
        path = self._path(name)
        with self._errors():
            data: bytes = self._fs.cat_file(path, **self._patience.options())
        return data

    def exists(self, name: str) -> bool:
        path = self._path(name)
        try:
            with self._errors():
                # fsspec's own `exists` takes any error for a no.
                self._fs.info(path, **self._patience.options())
        except FileNotFoundError:
            return False
        return True

    def age(self, name: str) -> float | None:
        """Seconds since the blob was written; None if it is gone."""
        path = self._path(name)
        try:
            with self._errors():
                written: datetime = self._fs.modified(path)
        except FileNotFoundError:
            return None
        return (datetime.now(UTC) - written).total_seconds()

    def names(self, folder: str) -> list[str]:
        """The names of a folder's blobs, as `read` takes them; empty if there is no folder."""
        return sorted(name for name, _ in self._entries(folder))

    def walk(self, folder: str) -> Iterator[str]:
        """The names of all blobs below a folder, in no particular order."""
        for name, is_folder in self._entries(folder):
            if is_folder:
                yield from self.walk(name)
            else:
                yield name

    def delete(self, name: str) -> None:
        """Deletes a blob, or everything under a prefix. A missing blob is not an error."""
        path = self._path(name)
        for _ in range(_DELETES):
            try:
                with self._errors():
                    self._remove(path)
                    return
            except FileNotFoundError:  # or a part of it, which another process deletes just now
                continue

    def _remove(self, path: str) -> None:
        if not self._s3:
            self._fs.rm(path, recursive=True)
            return
        # s3fs says nothing of what its `rm` could not delete.
        for each in self._fs.find(path, **self._patience.options()):
            self._fs.rm_file(each, **self._patience.options())

    def _entries(self, folder: str) -> list[tuple[str, bool]]:
        """(name, whether it is a folder) of all that lies directly in a folder.

        fsspec's own `find` leaves out what it cannot list.
        """
        path = self._path(folder)
        try:
            with self._errors():
                found = self._fs.ls(path, detail=True, **self._patience.options())
        except FileNotFoundError:
            return []
        return [
            (f"{folder}/{PurePosixPath(entry['name']).name}", entry["type"] == "directory")
            for entry in found
            if not entry["name"].endswith("/")  # a store's mark for an empty folder
        ]

    @contextmanager
    def _errors(self, *, writes: bool = False) -> Iterator[None]:
        """Around each call. A deletion writes nothing: it succeeds on a full disk."""
        with self.outage.watching(writes=writes):
            if self._local:
                with disk_errors():
                    yield
            else:
                with client_errors(), self._patience.watching():
                    yield

    def _path(self, name: str) -> str:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise ValueError(f"not a blob name: {name!r}")
        return f"{self._root}/{name}"


def _write_whole(path: Path, parts: Path, data: bytes, *, durable: bool) -> None:
    """Readers see the old file or the new one, even if the process dies in between."""
    part = parts / uuid4().hex
    try:
        try:
            _write_and_move(part, path, data, durable=durable)
        except FileNotFoundError:
            for folder in (parts, path.parent):
                _make(folder, durable=durable)
            _write_and_move(part, path, data, durable=durable)
    finally:
        part.unlink(missing_ok=True)


def _write_and_move(part: Path, path: Path, data: bytes, *, durable: bool) -> None:
    with part.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(part, path)  # noqa: PTH105
    if durable:
        sync_folder(path.parent)


def _take(file: Path, path: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
    try:
        os.replace(file, path)  # noqa: PTH105
    except FileNotFoundError:
        _make(path.parent, durable=True)
        os.replace(file, path)  # noqa: PTH105
    sync_folder(path.parent)


def _make(folder: Path, *, durable: bool) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    if durable:
        for each in missing:
            sync_folder(each.parent)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def preview_name(point: UUID) -> str:
    """Previews spread over 256 folders: file systems slow down with millions of files in one."""
    return f"previews/{point.hex[:2]}/{point}.jpg"


def request_folder(request: str) -> str:
    return f"requests/{request}"


def deletion_folder(deletion: str) -> str:
    return f"deletions/{deletion}"


def evaluation_folder(evaluation: str) -> str:
    return f"evaluations/{evaluation}"


def job_folder(job: str) -> str:
    return f"jobs/{job}"


def label_audit_folder(audit: str = "") -> str:
    """The findings of an audit of labels, which name images; without one, the folder of all."""
    return f"label-audits/{audit}".rstrip("/")


def incoming_folder(batch: str = "") -> str:
    """Objects that were received one by one, until their job has ended; without a
    batch, the folder of all."""
    return f"incoming/{batch}".rstrip("/")


def upload_folder(job: str) -> str:
    return f"uploads/{job}"


def dicom_folder(job: str) -> str:
    """The DICOM files of an upload, which name patients: only while its job needs them."""
    return f"dicom/{job}"


def original_name(digest: str) -> str:
    """A DICOM file as it came, which is kept if KINDRED_KEEP_DICOM is 1."""
    return f"originals/{digest[:2]}/{digest}.dcm"


def account_name(job: str) -> str:
    """What de-identification has done to the job's files, in numbers."""
    return f"{job_folder(job)}/deidentification.json"


def withheld_folder(name: str) -> str:
    """Of an image in quarantine, POINT-DIGEST; spread as previews are."""
    return f"{QUARANTINE}/{name[:2]}/{name}"


def manifest_of(upload: str) -> str:
    """The list of an upload's files. It is written last: without it, no upload was accepted."""
    return f"{upload}/manifest.json"


def pictures_folder(request: str) -> str:
    """What was sent along with a request. It goes as soon as the request is answered."""
    return f"{request_folder(request)}/pictures"
