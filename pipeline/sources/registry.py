"""Which kinds of sources there are, and how one is opened."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from pipeline.base.blobs import Blobs
from pipeline.messages import Source, UploadSource
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.base import Reader
from pipeline.sources.upload import UploadReader


def open_source(source: Source, blobs: Blobs, cache: Path, allowed: AllowedSources) -> Reader:
    """`cache` is where local data sets are prepared.

    Raises SourceError, with what to do, and SourceUnavailable.
    """
    if isinstance(source, UploadSource):
        return UploadReader(source, blobs)
    from pipeline.sources.dataset import DatasetReader  # see there

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
