"""Tombstones: marks of what was deleted and must not come back with the next ingest."""

from collections.abc import Sequence

from pipeline.ledger.script import Script

# Arguments of one call: Lua's stack takes about 8,000.
_CALL = 2000


class Tombstones:
    """A mark stands for an image, or for a lesion, a patient or whatever else images share.

    Every method raises LedgerUnavailable when Redis is away.
    """

    def __init__(self, script: Script) -> None:
        self._script = script

    def add(self, marks: Sequence[str]) -> None:
        for start in range(0, len(marks), _CALL):
            self._script("add_tombstones", *marks[start : start + _CALL])

    def remove(self, marks: Sequence[str]) -> None:
        for start in range(0, len(marks), _CALL):
            self._script("remove_tombstones", *marks[start : start + _CALL])

    def contains(self, marks: Sequence[str]) -> set[str]:
        """Those of the marks that have a tombstone."""
        found: set[str] = set()
        for start in range(0, len(marks), _CALL):
            found.update(self._script("contains_tombstones", *marks[start : start + _CALL]))
        return found

    def watch(self, deletion: str) -> None:
        """From now on, jobs that are not at their end ask of each batch whether it is meant."""
        self._script("watch", deletion)

    def watching(self, job: str) -> list[str]:
        """The deletions that were asked for while this job ran."""
        found: list[str] = self._script("watching", job)
        return found
