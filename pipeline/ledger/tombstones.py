"""Tombstones: keys of what was deleted and must not come back with the next ingest."""

from collections.abc import Sequence

from pipeline.ledger.connection import reachable
from pipeline.ledger.script import Script

# Arguments of one call: Lua's stack takes about 8,000.
_CALL = 2000


class Tombstones:
    """A key stands for an image, or for a lesion, a patient or whatever else images share.

    Every method raises LedgerUnavailable when Redis is unavailable.
    """

    def __init__(self, script: Script) -> None:
        self._script = script

    def add(self, keys: Sequence[str], deletion: str) -> None:
        for start in range(0, len(keys), _CALL):
            self._script("add_tombstones", deletion, *keys[start : start + _CALL])

    def remove(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _CALL):
            self._script("remove_tombstones", *keys[start : start + _CALL])

    def contains(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that have a tombstone."""
        found: set[str] = set()
        for start in range(0, len(keys), _CALL):
            found.update(self._script("contains_tombstones", *keys[start : start + _CALL]))
        return found

    def deletions_of(self, keys: Sequence[str]) -> dict[str, str]:
        """For each key the deletion that added it last; without those of which that is not known.

        Of tombstones that an older version added it is not.
        """
        found: list[str] = []
        for start in range(0, len(keys), _CALL):
            found += self._script("deletions_of_tombstones", *keys[start : start + _CALL])
        return {key: deletion for key, deletion in zip(keys, found, strict=True) if deletion}

    def register_deletion(self, deletion: str) -> None:
        """It is among the released ones when it has ended, whatever became of it."""
        self._script("register_deletion", deletion)

    def notify_running_jobs(self, deletion: str) -> None:
        """From now on, every other job that can still bring rows compares them with this deletion.

        Those are the jobs that have not ended, and those with a lease out. The deletion stays
        pending until it is forgotten.
        """
        self._script("notify_running_jobs", deletion)

    def pending_deletions(self, job: str) -> list[str]:
        """The deletions that were requested while this job ran and are not forgotten."""
        found: list[str] = self._script("pending_deletions", job)
        return found

    def all_pending_deletions(self) -> list[str]:
        """Whoever must know of them."""
        with reachable():
            return sorted(self._script.redis.smembers(self._script.key("deletions:pending")))

    def released_deletions(self) -> list[str]:
        """Pending deletions that have ended, and that no running job must know any more."""
        found: list[str] = self._script("released_deletions")
        return found

    def forget_deletion(self, deletion: str) -> None:
        self._script("forget_deletion", deletion)

    def epoch(self) -> int:
        """Grows when images have been deleted: what was computed in one before is out of date."""
        with reachable():
            return int(self._script.redis.get(self._script.key("epoch")) or 0)

    def advance_epoch(self) -> int:
        """The new epoch."""
        return int(self._script("advance_epoch"))
