"""Indexes for many points, built aside, so that no search waits for one.

    copy        the shard's folder, while writers wait and searches go on
    build       in a process of its own (`edge_build.py`); points that change are remembered
    catch up    those points are taken over from the shard that is read, while all go on
    switch      the rest of them, while writers wait; then the alias, and the shard in memory
    let go      of the old shard, in pieces, since each call keeps all others waiting

Until the alias is written the old generation is complete, and from then on the new one is, so a
kill at any moment loses nothing; the next start deletes the one that is not read.
"""

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import qdrant_edge as edge

from pipeline.base.errors import StoreUnavailable
from pipeline.base.logs import where
from pipeline.store import edge_build, edge_folder
from pipeline.store.edge_current import Current
from pipeline.store.edge_folder import Folder

logger = logging.getLogger("kindred.store")

# An index is built when a third of all points has none. Each is then made of 1.5 times as many
# points as the one before, so that all of them together cost three times the last; and the points
# without one, which are compared one by one, stay within 25 ms a search at a million.
_SHARE = 1 / 3

# The copy, and the segment that is made from it, beside the store; and something to go on with.
_ROOM = 2.5

_RETRY_SECONDS = 600.0

_READ = 2**20  # bytes at once

# Points a call while catching up, during which a search waits: about 5 ms.
_BATCH = 64

# So few changes are taken over while writers wait.
_FEW = 512


class _Stopped(Exception):
    """The store is being closed."""


class Indexer:
    """Builds an index where `index_from` points have none (0: never).

    `folder.open()` has given `path`, which holds the shard of `current`.
    """

    def __init__(self, folder: Folder, path: Path, current: Current, index_from: int) -> None:
        self._folder, self._path, self._current = folder, path, current
        self._from = index_from
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._thread: threading.Thread | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def maybe_build(self) -> None:
        """Starts a thread that builds, if one is due. Takes microseconds."""
        if self._thread is not None or not self._due():
            return
        with self._lock:
            if self._thread is None and not self._stopping.is_set():
                self._idle.clear()
                self._thread = threading.Thread(target=self._run, name="index", daemon=True)
                self._thread.start()

    def wait_until_idle(self) -> None:
        """Returns when no index is being built."""
        self._idle.wait()

    def close(self) -> None:
        """Gives up what is being built."""
        with self._lock:
            self._stopping.set()
            if self._child is not None:
                self._child.kill()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _due(self) -> bool:
        if not self._from:
            return False
        with self._current.reading() as shard:
            info = shard.info()
        missing = info.points_count - info.indexed_vectors_count
        return missing >= max(self._from, info.points_count * _SHARE)

    def _run(self) -> None:
        while not self._stopping.is_set() and self._due():
            try:
                self._build()
            except _Stopped:
                break
            except StoreUnavailable as error:
                self._wait(str(error))
            except Exception as error:  # noqa: BLE001 - searches go on without an index, exactly
                self._wait(where(error))
        self._thread = None
        self._idle.set()

    def _wait(self, reason: str) -> None:
        logger.warning("no index was built", extra={"reason": reason})
        self._idle.set()
        self._stopping.wait(_RETRY_SECONDS)
        self._idle.clear()

    def _build(self) -> None:
        started = time.monotonic()
        self._check_room()
        path = self._folder.following()
        try:
            self._copy(path)
            self._optimize(path)
            self._read_through(path)
            shard = edge_folder.load(path)
            try:
                self._catch_up(shard)
                old = self._switch(path, shard)
            except BaseException:
                shard.close()
                raise
        except BaseException:
            self._current.forget()
            edge_folder.remove(path)
            raise
        left, self._path = self._path, path
        self._dispose(old)
        edge_folder.remove(left)
        seconds = round(time.monotonic() - started)
        points = shard.info().indexed_vectors_count
        logger.info("index built", extra={"points": points, "seconds": seconds})

    def _check_room(self) -> None:
        needed = int(_ROOM * sum(entry.stat().st_size for entry in self._path.rglob("*")))
        free = shutil.disk_usage(self._path).free
        if free < needed:
            raise StoreUnavailable(f"the disk has {free} bytes free; an index needs {needed}")

    def _copy(self, path: Path) -> None:
        """No links: the engine writes into its files where they are."""
        with self._current.writing() as shard:
            shard.flush()
            self._current.record_changes()
            shutil.copytree(self._path, path, copy_function=self._copy_file)

    def _copy_file(self, source: str, target: str) -> None:
        self._go_on()
        shutil.copyfile(source, target)

    def _optimize(self, path: Path) -> None:
        """-P: or Python would look for modules in the folder of the script."""
        numbers = (os.getpid(), self._folder.encoder.dimensions, self._from // 2)
        command = [sys.executable, "-P", edge_build.__file__, str(path), *map(str, numbers)]
        with self._lock:
            self._go_on()
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        status = self._child.wait()
        self._go_on()
        if status:
            raise StoreUnavailable(f"the process that builds an index has ended with {status}")

    def _read_through(self, path: Path) -> None:
        """Into the system's memory: the engine, which reads it page by page while all others wait,
        then opens a million points in half a second instead of three."""
        buffer = bytearray(_READ)
        for file in path.rglob("*"):
            if file.is_file():
                with file.open("rb", buffering=0) as opened:
                    while opened.readinto(buffer):
                        self._go_on()

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise _Stopped

    def _catch_up(self, shard: edge.EdgeShard) -> None:
        changed = self._current.changes()
        while changed:
            self._apply_changes(changed, shard)
            if len(changed) < _FEW:
                return
            changed = self._current.changes()

    def _switch(self, path: Path, shard: edge.EdgeShard) -> edge.EdgeShard:
        """The shard that is read no more."""
        with self._current.writing():
            self._apply_changes(self._current.changes_while_writing(), shard)
            shard.flush()
            self._folder.switch(path)
            return self._current.exchange(shard)

    def _dispose(self, shard: edge.EdgeShard) -> None:
        """Closes what nobody reads. The payload indexes of points without an index lie in memory,
        and to free those of a million at once would keep all others waiting for seconds."""
        with suppress(Exception):  # as on a full disk; what is left is freed with the rest
            for field in shard.info().payload_schema:
                edge_folder.check_free(self._path)
                shard.update(edge.UpdateOperation.delete_field_index(field))
        shard.close()

    def _apply_changes(self, changed: Sequence[UUID], shard: edge.EdgeShard) -> None:
        """These points as they are read now: changed, new, or gone."""
        for start in range(0, len(changed), _BATCH):
            self._go_on()
            ids = list(changed[start : start + _BATCH])
            held = self._current.shard.retrieve([*ids], with_payload=True, with_vector=True)
            edge_folder.check_free(self._path)
            points = [edge.Point(record.id, record.vector or [], record.payload) for record in held]
            gone = set(ids) - {record.id for record in held}
            if points:
                shard.update(edge.UpdateOperation.upsert_points(points))
            if gone:
                shard.update(edge.UpdateOperation.delete_points([*gone]))
