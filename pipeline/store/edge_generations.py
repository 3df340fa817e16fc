"""Makes the next generation of the embedded store, and puts it in the place of the last one.

    copy        for an index, the shard's folder, while writers wait and searches go on;
                for a purge, point by point into a new shard, which so holds nothing else
    build       the index, in a process of its own (`edge_build.py`)
    catch up    the points that changed meanwhile are applied, while all go on
    switch      the rest of them, while writers wait; then the alias, and the shard in memory
    dispose     of the old shard, in pieces, since each call keeps all others waiting

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

import qdrant_edge as edge

from pipeline.base.errors import StoreUnavailable
from pipeline.store import edge_build, edge_folder
from pipeline.store.edge_current import Current
from pipeline.store.edge_due import PurgeDue
from pipeline.store.edge_folder import Folder

logger = logging.getLogger("kindred.store")

# Free space that is needed, in sizes of the store: for a copy of its points, with some to go on
# with; and for a copy, and the segment with an index that is made from it.
_ROOM_FOR_COPY = 1.25
_ROOM_FOR_INDEX = 2.5

# If a filter leaves fewer points, the engine compares with all of them, which is exact. An eighth
# of all: of fewer, a walk loses its way between those that fit (at a million, recall as low as
# 0.51). At least as many as take no longer than a walk, and at most as many as take 40 ms:
# docs/scale.md.
_EXACT_SHARE = 1 / 8
_EXACT_LEAST, _EXACT_MOST = 20_000, 125_000

_READ = 2**20  # bytes at once

# Points a call while copying and catching up, during which a search waits: about 5 ms.
_BATCH = 64

# Points between two flushes while copying. One flush of 100,000 points would hold the interpreter's
# lock for half a second, and until it the log would grow with the copy.
_FLUSH = 1024

# So few changes are applied while writers wait.
_FEW = 512

_TICK_SECONDS = 1.0  # between signs of life while another thread or process works


class Stopped(Exception):
    """The store is being closed."""


class Generations:
    """Makes one generation at a time, in the thread of the caller.

    `folder.open()` has given `path`, which holds the shard of `current`; `indexes` are those of its
    payload fields. With `index_from` points or more, a purge builds an index as well (0: never).
    """

    def __init__(
        self,
        folder: Folder,
        path: Path,
        current: Current,
        due: PurgeDue,
        indexes: Mapping[str, str],
        index_from: int,
    ) -> None:
        self._folder, self._path, self._current = folder, path, current
        self._due, self._indexes, self._from = due, indexes, index_from
        self._making = threading.Lock()
        self._tick: Callable[[], None] = _no_tick
        self._lock = threading.Lock()  # for the child, between its start and `stop`
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None

    def build_index(self, due: Callable[[], bool]) -> None:
        """Returns when all points are in an index, or at once if none is due any more.

        Raises Stopped, StoreUnavailable, and the engine's bare Exception.
        """
        with self._alone(_no_tick):
            if due():  # a purge may have built it
                self._check_room(_ROOM_FOR_INDEX)
                self._make(self._copy_indexed, "index built")

    def purge(self, tick: Callable[[], None]) -> None:
        """See Store. Raises as `build_index`, and what `tick` raises, which ends it."""
        with self._alone(tick):
            if not self._due:
                return
            covered = self._due.changes
            self._check_room(_ROOM_FOR_INDEX if self._wants_index() else _ROOM_FOR_COPY)
            self._make(self._copy_purged, "store purged")
            if self._folder.others(self._path):
                raise StoreUnavailable(f"an old shard in {self._folder.path} cannot be deleted")
            with self._current.writing():
                self._due.clear(covered)

    def stop(self) -> None:
        """Gives up what is being made. Returns when nothing is; nothing will be after it."""
        with self._lock:
            self._stopping.set()
            if self._child is not None:
                self._child.kill()
        with self._making:
            pass

    @contextmanager
    def _alone(self, tick: Callable[[], None]) -> Iterator[None]:
        while not self._making.acquire(timeout=_TICK_SECONDS):
            self._check_stopping()
            tick()
        try:
            self._check_stopping()
            self._tick = tick
            yield
        finally:
            self._tick = _no_tick
            self._making.release()

    def _check_stopping(self) -> None:
        if self._stopping.is_set():
            raise Stopped

    def _report_progress(self) -> None:
        self._check_stopping()
        self._tick()

    def _check_room(self, sizes: float) -> None:
        needed = int(sizes * sum(entry.stat().st_size for entry in self._path.rglob("*")))
        free = shutil.disk_usage(self._path).free
        if free < needed:
            raise StoreUnavailable(
                f"the disk has {free} bytes free; a new copy of the store needs {needed}"
            )

    def _make(self, copy: Callable[[Path], edge.EdgeShard], done: str) -> None:
        started = time.monotonic()
        path = self._folder.following()
        try:
            shard = copy(path)
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
        self._path = path
        self._dispose(old)
        self._folder.remove_others(path)
        seconds, points = round(time.monotonic() - started), shard.info().points_count
        logger.info(done, extra={"points": points, "seconds": seconds})

    # --- copies ------------------------------------------------------------------------------

    def _copy_indexed(self, path: Path) -> edge.EdgeShard:
        self._copy(path)
        return self._index(path)

    def _copy_purged(self, path: Path) -> edge.EdgeShard:
        edge_folder.create(path, self._folder.encoder)
        shard = edge_folder.load(path)
        try:
            edge_folder.add_indexes(shard, self._indexes)
            self._copy_points(path, shard)
            edge_build.sync(path)
        except BaseException:
            shard.close()
            raise
        if not self._wants_index():
            return shard
        shard.close()
        return self._index(path)

    def _wants_index(self) -> bool:
        return bool(self._from) and self._current.shard.info().points_count >= self._from

    def _copy(self, path: Path) -> None:
        """No links: the engine writes into its files where they are."""
        with self._current.writing() as shard:
            shard.flush()
            self._current.record_changes()
            shutil.copytree(self._path, path, copy_function=self._copy_file)

    def _copy_file(self, source: str, target: str) -> None:
        self._check_stopping()
        shutil.copyfile(source, target)

    def _copy_points(self, path: Path, shard: edge.EdgeShard) -> None:
        """By pages in the order of ids. Each may show changes of its time already; all of them are
        applied again afterwards."""
        with self._current.writing():
            self._current.record_changes()
        cursor, pages = None, 0
        while pages == 0 or cursor is not None:
            request = edge.ScrollRequest(
                offset=cursor, limit=_BATCH, with_payload=True, with_vector=True
            )
            records, cursor = self._current.shard.scroll(request)
            self._write(records, shard)
            pages += 1
            if cursor is None or pages * _BATCH % _FLUSH == 0:
                edge_build.sync(path)  # so that the flush, which keeps all waiting, has little left
                shard.flush()
            self._report_progress()

    def _index(self, path: Path) -> edge.EdgeShard:
        self._optimize(path)
        self._read_through(path)
        return edge_folder.load(path)

    def _optimize(self, path: Path) -> None:
        """-P: or Python would look for modules in the folder of the script."""
        exact_below = _exact_below(self._current.shard.info().points_count)
        numbers = (os.getpid(), self._folder.encoder.dimensions, exact_below)
        command = [sys.executable, "-P", edge_build.__file__, str(path), *map(str, numbers)]
        with self._lock:
            self._check_stopping()
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        try:
            status = self._wait_for(self._child)
        finally:  # `tick` may have raised
            self._child.kill()
            self._child.wait()
        if status:
            raise StoreUnavailable(f"the process that builds an index has ended with {status}")

    def _wait_for(self, child: "subprocess.Popen[bytes]") -> int:
        while True:
            with suppress(subprocess.TimeoutExpired):
                status = child.wait(_TICK_SECONDS)
                self._check_stopping()
                return status
            self._report_progress()

    def _read_through(self, path: Path) -> None:
        """Into the system's memory: the engine, which reads it page by page while all others wait,
        then opens a million points in half a second instead of three."""
        buffer = bytearray(_READ)
        for file in path.rglob("*"):
            if file.is_file():
                with file.open("rb", buffering=0) as opened:
                    while opened.readinto(buffer):
                        self._check_stopping()

    # --- changes, and the switch -------------------------------------------------------------

    def _catch_up(self, shard: edge.EdgeShard) -> None:
        changed = self._current.changes()
        while changed:
            self._apply_changes(changed, shard)
            self._report_progress()
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
            self._check_stopping()
            ids = list(changed[start : start + _BATCH])
            stored = self._current.shard.retrieve([*ids], with_payload=True, with_vector=True)
            self._write(stored, shard)
            gone = set(ids) - {record.id for record in stored}
            if gone:
                shard.update(edge.UpdateOperation.delete_points([*gone]))

    def _write(self, records: Sequence[edge.Record], shard: edge.EdgeShard) -> None:
        edge_folder.check_free(self._path)
        points = [edge.Point(record.id, record.vector or [], record.payload) for record in records]
        if points:
            shard.update(edge.UpdateOperation.upsert_points(points))


def _exact_below(points: int) -> int:
    return min(max(_EXACT_LEAST, int(points * _EXACT_SHARE)), _EXACT_MOST)


def _no_tick() -> None:
    """For a caller that needs no heartbeat."""
