"""Batches of received objects: who fills them, and who makes jobs of them (`api/incoming.py`)."""

from collections.abc import Sequence

from pipeline.ledger.connection import reachable
from pipeline.ledger.script import Script


class IncomingLedger:
    """A batch has the id of the job that it becomes. Every method raises LedgerUnavailable.

    `seconds` are those after which a receiver or maker of jobs that says nothing counts as dead.
    """

    def __init__(self, script: Script) -> None:
        self._script = script

    def open(self, batch: str, seconds: float) -> None:
        self._script("open_batch", batch, seconds)

    def add(self, batch: str, seconds: float) -> int:
        """One more object lies in the blobs. How many there are by now; 0 if the batch is no longer
        this receiver's: then the object is not accepted."""
        return int(self._script("add_received", batch, seconds))

    def end(self, batch: str) -> None:
        """Nothing more is added to it: a job can be made of it now."""
        self._script("end_batch", batch)

    def claim(self, token: str, seconds: float) -> str | None:
        """A batch to make a job of; None if there is none."""
        found = self._script("claim_batch", token, seconds)
        return None if found is None else str(found)

    def hold(self, batch: str, token: str, seconds: float) -> bool:
        """Extends a claim. False if another has the batch by now."""
        return bool(self._script("hold_batch", batch, token, seconds))

    def forget(self, batch: str, rows: int) -> None:
        """Its job is in the ledger, or there was nothing to make one of."""
        self._script("forget_batch", batch, rows)

    def count(self) -> int:
        """Objects that were received, and whose jobs have not ended."""
        return int(self._script("count_incoming"))

    def unknown(self, batches: Sequence[str]) -> list[str]:
        """Those that are no open batches: their jobs were made, or Redis has lost them."""
        with reachable():
            known = self._script.redis.hgetall(self._script.key("incoming:files"))
        return [batch for batch in batches if batch not in known]
