"""Asks a service that seems to be unavailable whether it is well again."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from pipeline.base.blobs import PARTS, Blobs
from pipeline.base.outage import Away, Outage

_BYTES = bytes(65_536)  # a nearly full disk may still take a few


@dataclass
class Asked:
    """`ask` calls the service, in ways that its `outage` watches: if writes fail, it writes.

    It does so in a thread of its own, one at a time: a server that hangs keeps only that waiting.
    """

    outage: Outage
    ask: Callable[[], object]
    _asking: threading.Thread | None = None

    def look(self) -> Away | None:
        """What `outage` says; call it often."""
        away = self.outage.look()
        if away is not None or self.outage.suspect:
            self._begin()
        return away

    def _begin(self) -> None:
        if self._asking is None or not self._asking.is_alive():
            self._asking = threading.Thread(target=self._ask, name="ask", daemon=True)
            self._asking.start()

    def _ask(self) -> None:
        try:
            self.ask()
        except Exception:  # noqa: BLE001 - `outage` has seen it
            return


def ask_blobs(blobs: Blobs) -> None:
    """Writes, reads and deletes one. Raises BlobsUnavailable."""
    name = f"{PARTS}/{uuid4().hex}"  # the sweep deletes it if we cannot
    blobs.write(name, _BYTES)
    blobs.read(name)
    blobs.delete(name)
