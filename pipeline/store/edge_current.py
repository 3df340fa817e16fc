"""The shard that is read and written just now; it can be exchanged for another under both.

The engine's binding holds Python's interpreter lock in every call, so calls run one after the other
and readers need no lock. Writers take one all the same: it keeps them out while the shard's folder
is copied for an index, and while a new shard takes its place.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import qdrant_edge as edge


@dataclass
class _Open:
    shard: edge.EdgeShard
    readers: int = 0


class Current:
    """Safe to call from several threads. One at a time may record changes, take them, exchange."""

    def __init__(self, shard: edge.EdgeShard) -> None:
        self._open = _Open(shard)
        self._readers = threading.Condition()
        self._writer = threading.Lock()
        self._changed: set[UUID] | None = None

    @property
    def shard(self) -> edge.EdgeShard:
        """To be used where it cannot be exchanged meanwhile."""
        return self._open.shard

    @contextmanager
    def reading(self) -> Iterator[edge.EdgeShard]:
        """The shard; it stays open at least until the block ends."""
        with self._readers:
            opened = self._open
            opened.readers += 1
        try:
            yield opened.shard
        finally:
            with self._readers:
                opened.readers -= 1
                self._readers.notify_all()

    @contextmanager
    def writing(self, ids: Iterable[UUID] = ()) -> Iterator[edge.EdgeShard]:
        """The shard, for a change of these points, with all other writers kept out."""
        with self._writer:
            if self._changed is not None:
                self._changed.update(ids)
            yield self._open.shard

    def record_changes(self) -> None:
        """From here on changes are remembered. To be called in a block of `writing`."""
        self._changed = set()

    def forget(self) -> None:
        """Changes are remembered no longer."""
        with self._writer:
            self._changed = None

    def changes(self) -> list[UUID]:
        """Takes the points that were changed since the last call."""
        with self._writer:
            return self.changes_while_writing()

    def changes_while_writing(self) -> list[UUID]:
        """The same, to be called in a block of `writing`."""
        changed, self._changed = self._changed or set(), set()
        return list(changed)

    def exchange(self, shard: edge.EdgeShard) -> edge.EdgeShard:
        """Puts `shard` in its place and returns the old one, which nobody reads any more.

        To be called in a block of `writing`.
        """
        with self._readers:
            old, self._open = self._open, _Open(shard)
            self._changed = None
            self._readers.wait_for(lambda: not old.readers)
        return old.shard
