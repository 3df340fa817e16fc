"""Has a Qdrant server write a collection's files anew, so that they lose what was deleted.

The server deletes by marking: the bytes stay in pages of payloads, in payload indexes and in
vectors until its optimizer rewrites their segment, and in its log. No call of its API asks for
that, but a change of where payloads lie does, because it makes every segment one to be rewritten;
the old files are deleted then. Of the log, the server deletes closed files. It closes one when it
is full, and entries that change nothing fill it.

That a purge is due, and that one runs, stands in the collection's metadata, in keys of their own
that processes add and remove without reading: so it outlives them, and all workers know of it.
"""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID, uuid4

from qdrant_client import QdrantClient, models

from pipeline.base.errors import StoreUnavailable

_KEY = "purge-"  # the prefix of our keys in the metadata
_RUNS = "payloads_on_disk"  # of a purge that runs: the setting that it restores

_PAUSE = 0.2  # seconds between two looks
_BEAT = 5.0  # seconds between two signs of life in the metadata
_DEAD = 30.0  # seconds without one: its worker was killed
_STUCK = 30.0  # seconds in which the server rewrites nothing that is old

_PATIENCE = 600.0  # seconds for what the server does already; an import may always add to it

_ENTRY = 2**20  # bytes of an entry that fills the log

Errors = Callable[[], AbstractContextManager[None]]


class ServerPurge:
    """`errors` is put around calls of the client, and translates what it raises.

    Threads may share it, and so may workers: of several purges, one runs and the others wait.
    """

    def __init__(self, client: QdrantClient, name: str, errors: Errors) -> None:
        self._client, self._name, self._errors = client, name, errors
        self._key = _KEY + uuid4().hex
        self._turn = threading.Lock()  # guards what follows
        self._run, self._restored, self._beaten = "", True, 0.0

    @property
    def is_due(self) -> bool:
        return bool(self._marks())

    def note(self) -> None:
        """Call it before points are deleted, for a kill, and afterwards, for a purge between."""
        if self._key not in self._marks():
            self._mark({self._key: {"due": True}})

    def run(self, tick: Callable[[], None]) -> None:
        """Returns when all is rewritten; the log follows with the server's next flush.

        Raises StoreUnavailable, with the purge still due, if the server does not do it.
        """
        while not self._turn.acquire(timeout=_PAUSE):
            tick()
        try:
            while self.is_due:
                self._wait_for_others(tick)
                if self._begin():
                    return self._finish(tick)
        finally:
            self._turn.release()

    # --- whose turn it is --------------------------------------------------------------------

    def _wait_for_others(self, tick: Callable[[], None]) -> None:
        seen, since = self._running(), time.monotonic()
        while seen and time.monotonic() - since < _DEAD:
            tick()
            time.sleep(_PAUSE)
            running = self._running()
            if running != seen:
                seen, since = running, time.monotonic()

    def _begin(self) -> bool:
        """Takes over all that is due. False: another one began at the same time, and goes first."""
        marks, run = self._marks(), _KEY + uuid4().hex
        restored = [mark[_RUNS] for mark in marks.values() if _RUNS in mark]
        on_disk = restored[0] if restored else self._on_disk()
        self._mark({**dict.fromkeys(marks), run: {_RUNS: on_disk, "beat": 0}})
        if any(other < run for other in self._running()):
            self._mark({run: {"due": True}})
            return False
        self._run, self._restored, self._beaten = run, on_disk, time.monotonic()
        return True

    def _finish(self, tick: Callable[[], None]) -> None:
        done = False
        try:
            self._rewrite(tick)
            done = True
        finally:
            with self._errors():
                self._set_on_disk(self._restored)
            self._mark({self._run: None if done else {"due": True}})

    # --- the work ----------------------------------------------------------------------------

    def _rewrite(self, tick: Callable[[], None]) -> None:
        self._wait_until_idle(tick)
        old = self._segments()[0]
        with self._errors():
            self._set_on_disk(not self._on_disk())
        self._fill_log(tick)
        self._wait_until_rewritten(old, tick)

    def _wait_until_idle(self, tick: Callable[[], None]) -> None:
        """A change of settings throws away what is half done, such as the index of an import."""
        begun = time.monotonic()
        while self._segments()[1] and time.monotonic() - begun < _PATIENCE:
            self._live(tick)
            time.sleep(_PAUSE)

    def _wait_until_rewritten(self, old: set[UUID], tick: Callable[[], None]) -> None:
        worked = time.monotonic()
        while True:
            segments, pending = self._segments()
            if not pending and not old & segments:
                return
            if pending:
                worked = time.monotonic()
            if time.monotonic() - worked > _STUCK or self._is_broken():
                raise StoreUnavailable("The Qdrant server does not rewrite its files")
            self._live(tick)
            time.sleep(_PAUSE)

    def _fill_log(self, tick: Callable[[], None]) -> None:
        """The server keeps the file that it writes, and some closed ones."""
        log = self._info().config.wal_config
        files = 1 + ((log and log.wal_retain_closed) or 1)
        megabytes = files * ((log and log.wal_capacity_mb) or 32) + 2
        nothing = models.Filter(must=[models.HasIdCondition(has_id=[str(uuid4())])])
        for _ in range(megabytes):
            self._live(tick)
            with self._errors():
                self._client.overwrite_payload(self._name, {"-": "-" * _ENTRY}, nothing, wait=True)

    def _live(self, tick: Callable[[], None]) -> None:
        """Says to our caller, and to those who wait for this purge, that it goes on."""
        tick()
        now = time.monotonic()
        if now - self._beaten > _BEAT:
            self._beaten = now
            self._mark({self._run: {_RUNS: self._restored, "beat": now}})

    # --- what the server says ----------------------------------------------------------------

    def _segments(self) -> tuple[set[UUID], set[UUID]]:
        """All segments, and those of them that are, or are to be, rewritten."""
        with self._errors():
            found = self._client.get_optimizations(self._name, with_=["queued", "idle_segments"])
        busy = [each.segments for each in found.running]
        busy += [each.segments for each in found.queued or []]
        pending = {segment.uuid for segments in busy for segment in segments}
        return pending | {segment.uuid for segment in found.idle_segments or []}, pending

    def _info(self) -> models.CollectionInfo:
        with self._errors():
            return self._client.get_collection(self._name)

    def _is_broken(self) -> bool:
        return self._info().status == models.CollectionStatus.RED

    def _on_disk(self) -> bool:
        return self._info().config.params.on_disk_payload is not False

    def _set_on_disk(self, on_disk: bool) -> None:
        params = models.CollectionParamsDiff(on_disk_payload=on_disk)
        self._client.update_collection(self._name, collection_params=params)

    def _marks(self) -> dict[str, dict[str, Any]]:
        metadata = self._info().config.metadata or {}
        return {key: mark for key, mark in metadata.items() if key.startswith(_KEY)}

    def _running(self) -> dict[str, dict[str, Any]]:
        return {key: mark for key, mark in self._marks().items() if _RUNS in mark}

    def _mark(self, changes: dict[str, Any]) -> None:
        """The server merges them into what is there; None removes a key."""
        with self._errors():
            self._client.update_collection(self._name, metadata=changes)
