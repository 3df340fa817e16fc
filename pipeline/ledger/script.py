"""The one Lua script through which the ledger changes, and how it is called."""

import time
from functools import cache
from importlib.resources import files
from typing import Any

from pipeline.base.errors import LedgerUnavailable
from pipeline.base.states import FINAL_STATES
from pipeline.ledger.connection import reachable
from pipeline.ledger.records import PLAN

# A file may use what the files before it define.
_FILES = (
    "common",
    "clock",
    "jobs",
    "items",
    "dispatch",
    "reclaim",
    "workers",
    "requests",
    "tombstones",
    "withheld",
    "retention",
    "incoming",
    "snapshot",
    "end",
)

PAUSE = 0.5  # seconds between two tries


@cache
def source() -> str:
    """The files of `lua/` as one script, behind the constants that Python and Lua share."""
    folder = files("pipeline.ledger").joinpath("lua")
    parts = [folder.joinpath(f"{name}.lua").read_text("utf-8") for name in _FILES]
    return "\n".join([_constants(), *parts])


def _constants() -> str:
    final = "\n".join(f"  {state} = true," for state in sorted(FINAL_STATES))
    return f"local FINAL_STATES = {{\n{final}\n}}\nlocal PLAN = '{PLAN}'\n"


class Script:
    """Calls the script's commands in one namespace. Safe to share between threads.

    `patience` is for how many seconds a call waits for Redis to come back. Repeating a command is
    safe: what a lost answer leaves behind is a lease, and leases end.
    """

    def __init__(self, redis: Any, namespace: str, patience: float = 0) -> None:
        self.redis = redis
        self.namespace = namespace
        self._script = redis.register_script(source())
        self._patience = patience

    def once(self, command: str, *args: str | float) -> Any:
        """Raises LedgerUnavailable at once when Redis is unavailable."""
        with reachable():
            return self._script(keys=[self.namespace], args=[command, *args])

    def __call__(self, command: str, *args: str | float) -> Any:
        """Raises LedgerUnavailable when Redis stays unavailable."""
        give_up = time.monotonic() + self._patience
        while True:
            try:
                return self.once(command, *args)
            except LedgerUnavailable:
                if time.monotonic() + PAUSE > give_up:
                    raise
                time.sleep(PAUSE)

    def key(self, name: str) -> str:
        """The name of a key in this namespace."""
        return f"{self.namespace}:{name}"
