"""Heartbeats: which workers live, what they embed with, and how much they take at once."""

import contextlib

from pydantic import BaseModel, ConfigDict

from pipeline.base.errors import LedgerUnavailable
from pipeline.ledger.script import Script
from pipeline.messages import EncoderInfo

# Missed beats until a worker counts as gone, and what it held is handed to others.
BEATS = 5


class WorkerInfo(BaseModel):
    """What a worker says of itself. `ready`: it has embedded a test image."""

    model_config = ConfigDict(frozen=True)

    name: str
    ready: bool
    lanes: int
    device: str
    dtype: str
    encoder: EncoderInfo


class WorkerLedger:
    """`heartbeat` is the interval of the beats in seconds."""

    def __init__(self, script: Script, heartbeat: float) -> None:
        self._script = script
        self.alive_for = heartbeat * BEATS

    def beat(self, info: WorkerInfo) -> None:
        self._script("heartbeat", info.name, info.lanes, info.model_dump_json(), self.alive_for)

    def leave(self, name: str) -> None:
        """A courtesy: a worker that cannot say that it leaves is missed soon enough."""
        with contextlib.suppress(LedgerUnavailable):
            self._script.once("leave", name)

    def alive(self) -> list[WorkerInfo]:
        found = self._script("live_workers", self.alive_for)
        return [WorkerInfo.model_validate_json(info) for info in found]
