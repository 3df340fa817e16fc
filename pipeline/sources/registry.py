"""Lists the kinds of sources and opens them."""

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
    """Opens a source. `cache` is the folder where local data sets are prepared.

    Raises SourceError, which says what to do, and SourceUnavailable.
    """
    if isinstance(source, UploadSource):
        return UploadReader(source, blobs)
    from pipeline.sources.dataset import DatasetReader  # slow: it takes a second to import

    return DatasetReader(source, cache, allowed)


class SourceCache:
    """Keeps the latest readers open: the shards of a job share one. Threads can share the cache."""

    def __init__(self, opener: Callable[[Source], Reader], size: int = 8) -> None:
        self._open, self._size = opener, size
        self._readers: OrderedDict[str, Reader] = OrderedDict()
        self._lock = threading.Lock()
        # Preparing a data set can take an hour. One thread does it, and threads wait only for the
        # source they need.
        self._opening: WeakValueDictionary[str, Any] = WeakValueDictionary()

    def get(self, source: Source, *, fresh: bool = False) -> Reader:
        """The reader of a source. `fresh` reopens it for a new job: the folder may have changed."""
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
