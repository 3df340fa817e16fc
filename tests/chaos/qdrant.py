"""Qdrant for several workers where there is no server: its client's own engine, in one process.

    python -m tests.chaos.qdrant SOCKET

Workers call it as they call a client. It answers one call at a time, and keeps nothing on disk.
"""

import functools
import os
import sys
import threading
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

import httpx
from qdrant_client.http.exceptions import ResponseHandlingException

KEY = b"of tests"


class _Engine:
    """Its engine is not safe to be shared by threads."""

    def __init__(self) -> None:
        # Not above: workers of an older checkout, which lacks that module, import this one.
        from tests.memory_qdrant import MemoryQdrant

        self._client = MemoryQdrant()
        self._lock = threading.Lock()

    def call(self, name: str, arguments: Any, named: Any) -> Any:
        with self._lock:
            return getattr(self._client, name)(*arguments, **named)


_engine = functools.cache(_Engine)


class Manager(BaseManager):
    pass


Manager.register("engine", callable=_engine, exposed=["call"])


class SharedClient:
    """As `QdrantClient`."""

    def __init__(self, socket: Path) -> None:
        manager: Any = Manager(address=str(socket), authkey=KEY)
        manager.connect()
        self._manager, self._engine = manager, manager.engine()

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: self._engine.call(name, arguments, named)

    def close(self) -> None:
        """Others use the engine."""


class Unreliable:
    """A client whose calls fail while the file `away` exists, as those to a server that is down.

    With the number of a process behind its name, the file is for that process alone.
    """

    def __init__(self, client: Any, away: Path) -> None:
        self._client = client
        self._switches = (away, away.with_name(f"{away.name}-{os.getpid()}"))

    def __getattr__(self, name: str) -> Any:
        if any(switch.exists() for switch in self._switches):
            raise ResponseHandlingException(httpx.ConnectError("simulated"))
        return getattr(self._client, name)


if __name__ == "__main__":
    Manager(address=sys.argv[1], authkey=KEY).get_server().serve_forever()
