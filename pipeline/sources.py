"""Where images come from: data sets (hub, parquet, folders of images) and uploads.

A reader counts its rows and hands out runs of them, as bytes with metadata. It decodes nothing, so
a broken image is only one row's fault.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from pipeline.allowed import AllowedSources
from pipeline.blobs import Blobs
from pipeline.identity import ID_COLUMNS, as_identifier
from pipeline.images import Unusable
from pipeline.messages import (
    MAX_ID,
    Manifest,
    Payload,
    Source,
    UploadedFile,
    UploadSource,
)
from pipeline.metadata import clean

BAD_ID = Unusable(f"its id is longer than {MAX_ID:,} characters, or it is . or ..")


@dataclass(frozen=True)
class Row:
    """One image as it came; no bytes where there is nothing to decode.

    `key` is None where the SHA-256 of the bytes is to serve as key; `blob` is where an upload lies;
    `fault` is why the row cannot be taken, whatever the image is like; `sha256` is of an upload's
    bytes, as they came: they may be gone.
    """

    number: int
    key: str | None
    data: bytes
    metadata: Payload
    blob: str | None = None
    fault: Unusable | None = None
    sha256: str | None = None


class Reader(Protocol):
    @property
    def version(self) -> str:
        """Another one where the rows, or their order, may be others."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Iterator[Row]: ...


def open_source(source: Source, blobs: Blobs, cache: Path, allowed: AllowedSources) -> Reader:
    """`cache` is where local data sets are prepared.

    Raises SourceError, with what to do, and SourceUnavailable.
    """
    if isinstance(source, UploadSource):
        return _UploadReader(source, blobs)
    from pipeline.dataset import DatasetReader  # see there

    return DatasetReader(source, cache, allowed)


class SourceCache:
    """Keeps the last readers open: the shards of a job share one. Safe to share between threads."""

    def __init__(self, opener: Callable[[Source], Reader], size: int = 8) -> None:
        self._open, self._size = opener, size
        self._readers: OrderedDict[str, Reader] = OrderedDict()
        self._lock = threading.Lock()
        # One thread prepares a data set, which can take an hour; who wants the same one waits.
        self._opening: WeakValueDictionary[str, Any] = WeakValueDictionary()

    def get(self, source: Source, *, fresh: bool = False) -> Reader:
        """`fresh` opens it anew, as a new job must: the folder may have changed since."""
        key = source.model_dump_json()
        with self._lock:
            opening = self._opening.setdefault(key, threading.Lock())
        with opening:
            with self._lock:
                reader = None if fresh else self._readers.get(key)
            return self._keep(key, self._open(source) if reader is None else reader)

    def _keep(self, key: str, reader: Reader) -> Reader:
        with self._lock:
            self._readers[key] = reader
            self._readers.move_to_end(key)
            while len(self._readers) > self._size:
                self._readers.popitem(last=False)
        return reader


class _UploadReader:
    version = ""  # an upload does not change

    def __init__(self, source: UploadSource, blobs: Blobs) -> None:
        self._blobs = blobs
        self._files = Manifest.model_validate_json(blobs.read(source.manifest)).files

    def __len__(self) -> int:
        return len(self._files)

    def read(self, start: int, stop: int) -> Iterator[Row]:
        for number in range(start, stop):
            file = self._files[number]
            key, fault = _id_of(file)
            metadata = clean(dict(file.metadata))
            data = self._data(file.blob)
            yield Row(number, key, data, metadata, file.blob, fault, file.sha256)

    def _data(self, blob: str) -> bytes:
        try:
            return self._blobs.read(blob)
        except FileNotFoundError:  # deleted, or held already; and now the job is run again
            return b""


def _id_of(file: UploadedFile) -> tuple[str | None, Unusable | None]:
    return own_id(file.metadata.get(column) for column in ID_COLUMNS)


def upload_key(file: UploadedFile) -> str:
    """What its image is known by, or would be."""
    return _id_of(file)[0] or file.sha256


def own_id(candidates: Iterable[Any]) -> tuple[str | None, Unusable | None]:
    """The first that is an id, or what is wrong with it. NaN, lists and the like are none."""
    for own in candidates:
        usable = isinstance(own, str | int | float) and not isinstance(own, bool)
        if not usable or own == "" or own != own:  # NaN
            continue
        key = str(as_identifier(own))
        return (None, BAD_ID) if len(key) > MAX_ID or key in (".", "..") else (key, None)
    return None, None
