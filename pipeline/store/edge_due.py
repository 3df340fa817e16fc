"""Whether the embedded store's files may keep something that was deleted or overwritten.

The engine deletes by marking: the bytes stay in its write-ahead log, in pages of payloads, in
payload indexes and in segments, until a purge writes all that is stored into a new shard
(`edge_generations.py`). The duty to do so is a file, so that no kill loses it.
"""

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import qdrant_edge as edge

from pipeline.store import edge_folder


class PurgeDue:
    """The file `purge-due` in the folder of one collection. Call its methods as a writer only."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "purge-due"
        self._is_due = self._file.exists()
        self._changes = 0

    def __bool__(self) -> bool:
        return self._is_due

    @property
    def changes(self) -> int:
        """How many calls deleted or overwrote something since the store was opened."""
        return self._changes

    def note(self, shard: edge.EdgeShard, ids: Sequence[UUID]) -> None:
        """Call it before these points are written or deleted; what was not stored leaves nothing.

        When it returns, the duty is on the disk. Takes 0.2 ms for 256 points of 100,000.
        """
        if not shard.retrieve([*ids], with_payload=False, with_vector=False):
            return
        self._changes += 1
        if not self._is_due:
            edge_folder.write_json(self._file, {})
            self._is_due = True

    def clear(self, covered: int) -> None:
        """The purge is done that began when `changes` was `covered`; later changes stay due."""
        if self._changes == covered:
            self._file.unlink(missing_ok=True)
            self._is_due = False
