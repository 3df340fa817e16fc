"""Lists the kinds of sources and opens them. A new kind costs its file and one line in `KINDS`."""

import threading
from collections import OrderedDict
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Annotated, Any
from weakref import WeakValueDictionary

from pydantic import Discriminator, Tag

from pipeline.base.errors import SourceError
from pipeline.sources.base import Opening, Reader, Source, SourceKind
from pipeline.sources.dataset import DATASET
from pipeline.sources.dicomweb.source import DICOMWEB
from pipeline.sources.quarantine import QUARANTINE
from pipeline.sources.upload import UPLOAD

KINDS: tuple[SourceKind, ...] = (
    DATASET,
    DICOMWEB,
    UPLOAD,
    QUARANTINE,
)

_BY_NAME = {kind.name: kind for kind in KINDS}


def open_source(source: Source, opening: Opening) -> Reader:
    """Raises SourceError, with what to do, and SourceUnavailable."""
    return _kind(source.kind).open(source, opening)


def plan_source(source: Source, opening: Opening) -> Reader:
    """Opens a source for a job that counts it. Raises SourceError, and SourceUnavailable."""
    kind = _kind(source.kind)
    return (kind.plan or kind.open)(source, opening)


def parse_source(value: Any) -> Source:
    """A source from a job's JSON object. Ignores fields of newer versions; `PublicSource` does not.

    Raises SourceError for an unknown kind.
    """
    return _kind(_kind_of(value)).model.model_validate(value, extra="ignore")


def _kind(name: str) -> SourceKind:
    if name not in _BY_NAME:
        raise SourceError("There is no such kind of source.")
    return _BY_NAME[name]


def _kind_of(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("kind", DATASET.name))
    return str(getattr(value, "kind", ""))


# What a caller may name as a source, for the body of `POST /v1/jobs`: any public kind by its
# `kind`; without one, a data set.
PublicSource: Any = Annotated[
    reduce(or_, (Annotated[kind.model, Tag(kind.name)] for kind in KINDS if kind.public)),
    Discriminator(_kind_of),
]


class SourceCache:
    """Keeps the latest readers open: the shards of a job share one. Threads can share the cache."""

    def __init__(self, opening: Opening, size: int = 8) -> None:
        self._opening, self._size = opening, size
        self._readers: OrderedDict[str, Reader] = OrderedDict()
        self._lock = threading.Lock()
        # One thread prepares a data set, which can take an hour. Threads wait only for the source
        # that they need.
        self._waiting: WeakValueDictionary[str, Any] = WeakValueDictionary()

    def plan(self, job: str, source: Source, granted: str | None = None) -> Reader:
        """Opens a source for a job that counts it: its folder may have changed.

        `granted` is the folder that was allowed when the job was accepted.
        """
        with self._alone(job):
            return self._keep(job, plan_source(source, self._opening_for(job, granted)))

    def get(self, job: str, source: Source, version: str, granted: str | None = None) -> Reader:
        """The reader of a job's source, opened again if it is not of this version."""
        with self._alone(job):
            with self._lock:
                reader = self._readers.get(job)
            if reader is None or reader.version != version:
                reader = open_source(source, self._opening_for(job, granted))
            return self._keep(job, reader)

    def clear(self) -> None:
        """Forgets all readers; each closes when no thread uses it."""
        with self._lock:
            self._readers.clear()

    def _opening_for(self, job: str, granted: str | None) -> Opening:
        own = self._opening
        policy = own.policy() if own.policy is not None else own.dicom
        return replace(own, job=job, allowed=own.allowed.granting(granted), dicom=policy)

    def _alone(self, job: str) -> Any:
        with self._lock:
            return self._waiting.setdefault(job, threading.Lock())

    def _keep(self, job: str, reader: Reader) -> Reader:
        with self._lock:
            self._readers[job] = reader
            self._readers.move_to_end(job)
            while len(self._readers) > self._size:
                self._readers.popitem(last=False)
        return reader
