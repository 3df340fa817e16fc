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

    def bury(self, marks: Sequence[str]) -> None:
        for start in range(0, len(marks), _CALL):
            self._script("bury", *marks[start : start + _CALL])

    def lift(self, marks: Sequence[str]) -> None:
        for start in range(0, len(marks), _CALL):
            self._script("lift", *marks[start : start + _CALL])

    def buried(self, marks: Sequence[str]) -> set[str]:
        """Those of the marks that have a tombstone."""
        found: set[str] = set()
        for start in range(0, len(marks), _CALL):
            found.update(self._script("buried", *marks[start : start + _CALL]))
        return found

    def watch(self, deletion: str) -> None:
        """From now on, jobs that are not at their end ask of each batch whether it is meant."""
        self._script("watch", deletion)

    def watching(self, job: str) -> list[str]:
        """The deletions that were asked for while this job ran."""
        found: list[str] = self._script("watching", job)
        return found
