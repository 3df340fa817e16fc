"""Objects that are received one by one, as by C-STORE and STOW-RS, become jobs in batches.

A batch has the id of the job that it becomes. Each step stands when the next begins:

1. `Incoming.put` opens a batch in the ledger, before the first object is written for it.
2. It writes the object as `incoming/BATCH/NAME`, where NAME is random: in the folder of the blobs
   the file and its folder are synced to the disk.
3. It counts the object in the ledger, which refuses it if others make a job of the batch by then,
   as after a pause of this process; the object then goes into a new batch. Only now does the sender
   hear of success.
4. The batch ends when it is full, old, or nothing came for a while. If its receiver dies, it ends
   `PATIENCE` seconds after the last object.
5. A `Batcher`, in this process or in any other, claims a batch that has ended. It describes the
   objects, writes the list of the upload and creates the job, both under the batch's id: whoever
   repeats this after a kill makes the same job, and only once.
6. It deletes the objects of which no row was made, and the ledger forgets the batch. The job
   deletes the others when it has ended, as those of every upload of DICOM.

So what was accepted is in a batch or in a job. `Batcher.adopt` finds batches that Redis has lost,
and deletes what came too late for a job.
"""

import io
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from uuid import uuid4

from api.received import digests, listed
from api.services import Collection, new_id
from pipeline import metrics
from pipeline.base.blobs import Blobs, incoming_folder, manifest_of, upload_folder
from pipeline.base.errors import Unavailable
from pipeline.base.identity import sha256
from pipeline.dicom.describing import Policy
from pipeline.messages import SkippedFile, UploadedFile, UploadManifest
from pipeline.messages.base import read
from pipeline.operations.ingest import INGEST, IngestRequest
from pipeline.sources.deidentification import write_account
from pipeline.sources.folder.survey import Entry, Rules, of_dicom
from pipeline.sources.folder.tree import Skipped
from pipeline.sources.upload import UploadSource

logger = logging.getLogger("kindred.incoming")

MOST = 500  # objects of a batch
OLD = 30.0  # seconds after which it ends although more come

PATIENCE = 60.0  # seconds after which one that fills a batch, or makes a job of it, counts as dead
LOOK = 1.0  # seconds between two looks for batches that have ended, at most
ADOPT = 3600.0  # seconds between two looks for batches that nobody knows

_HOLD = 50  # objects that are described between two extensions of a claim
_FULL = 1.0  # seconds for which an answer of `full` holds

BACKLOG = "too many objects wait to be indexed"
DISK = "the disk is nearly full"


class Incoming:
    """Takes objects of one collection. Safe to share between threads.

    `door` is the metrics' label for the way that they come. Call `tick` about once a second, or
    `flush` when the last of a few has come: either ends batches. A `Batcher` makes the jobs.
    """

    def __init__(self, collection: Collection, door: str) -> None:
        self._collection, self._door = collection, door
        self.idle = collection.services.settings.incoming_seconds
        self._lock = threading.Lock()
        self._batch: _Batch | None = None
        self._looked = -_FULL
        self._reason: str | None = None

    def put(self, data: bytes | Path) -> str:
        """Stores a DICOM file (PS3.10), and returns its blob's name. It is durable by then.

        A file that is given by its path may be moved there (`Blobs.take`).
        Raises BlobsUnavailable or LedgerUnavailable: it was not accepted.
        """
        while True:
            batch = self._enter()
            try:
                name = f"{incoming_folder(batch.id)}/{uuid4().hex}"
                self._write(name, data)
                count = self._collection.ledger.incoming.add(batch.id, PATIENCE)
            finally:
                self._leave(batch)
            if count:
                break
            self._replace(batch)
            data = self._collection.blobs.read(name)
            self._collection.blobs.delete(name)
        if count >= MOST:
            self._replace(batch)
        metrics.count("kindred_received_total", "Objects that were received", door=self._door)
        return name

    def _write(self, name: str, data: bytes | Path) -> None:
        # Not sealed, as an upload is: what was accepted outlives a Redis that has lost all.
        if isinstance(data, bytes):
            self._collection.blobs.write(name, data, durable=True)
        else:
            self._collection.blobs.take(name, data)

    def full(self) -> str | None:
        """Why no more should be taken for now. Raises BlobsUnavailable or LedgerUnavailable."""
        if time.monotonic() - self._looked >= _FULL:
            self._reason = self._why_full()
            self._looked = time.monotonic()
        return self._reason

    def tick(self) -> None:
        """Ends the batch if it is old, or if nothing comes."""
        batch = self._batch
        if batch is not None and batch.is_due(time.monotonic(), self.idle):
            self._replace(batch)

    def flush(self) -> None:
        """Ends the batch: what has been put becomes a job as soon as a `Batcher` looks."""
        if (batch := self._batch) is not None:
            self._replace(batch)

    def _why_full(self) -> str | None:
        settings = self._collection.services.settings
        free = self._collection.blobs.free
        if free is not None and free < settings.incoming_free_mb * 1_000_000:
            return DISK
        if self._collection.ledger.incoming.count() >= settings.incoming_backlog:
            return BACKLOG
        return None

    def _enter(self) -> "_Batch":
        with self._lock:
            if self._batch is None:
                batch = _Batch(new_id())
                self._collection.ledger.incoming.open(batch.id, PATIENCE)
                self._batch = batch
            self._batch.writers += 1
            return self._batch

    def _leave(self, batch: "_Batch") -> None:
        with self._lock:
            batch.writers -= 1
            batch.last = time.monotonic()
            ended = batch.over and not batch.writers
        if ended:
            self._end(batch)

    def _replace(self, batch: "_Batch") -> None:
        """The next object opens another batch; this one ends with its last writer."""
        with self._lock:
            if self._batch is batch:
                self._batch = None
            ended = not batch.writers and not batch.over
            batch.over = True
        if ended:
            self._end(batch)

    def _end(self, batch: "_Batch") -> None:
        with suppress(Unavailable):  # it then ends by itself
            self._collection.ledger.incoming.end(batch.id)


@dataclass(eq=False)
class _Batch:
    """`writers` are at work on it; `over`: it gets no others."""

    id: str
    began: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)
    writers: int = 0
    over: bool = False

    def is_due(self, now: float, idle: float) -> bool:
        return now - self.last > idle or now - self.began > OLD


class Batcher(threading.Thread):
    """Ends this process's batches in time and, with `makes_jobs`, makes jobs of all that ended.

    `collections` are asked anew at each look. The api has one as `app.state.batcher`.
    """

    def __init__(
        self,
        collections: Callable[[], Iterable[Collection]],
        door: str,
        *,
        makes_jobs: bool = True,
    ) -> None:
        super().__init__(name="batcher", daemon=True)
        self._collections, self._door, self._makes_jobs = collections, door, makes_jobs
        self._incoming: dict[str, Incoming] = {}
        self._token, self._over = uuid4().hex, threading.Event()
        self._adopted = -ADOPT

    def incoming(self, collection: Collection) -> Incoming:
        """The one of this collection in this process."""
        if collection.name not in self._incoming:
            self._incoming.setdefault(collection.name, Incoming(collection, self._door))
        return self._incoming[collection.name]

    def run(self) -> None:
        said = ""
        while not self._over.is_set():
            try:
                self.look()
                said = ""
            except Unavailable as error:
                if said != error.logged:
                    logger.warning("no jobs are made of what was received: %s", error.logged)
                said = error.logged
            except Exception:
                logger.exception("a look at what was received failed")
            self._over.wait(self._pause())

    def stop(self) -> None:
        """Ends the batches that this process fills; others can make their jobs at once."""
        self._over.set()
        if self.is_alive():
            self.join()
        for incoming in self._incoming.values():
            incoming.flush()

    def _pause(self) -> float:
        return min([LOOK, *(incoming.idle for incoming in self._incoming.values())])

    def finish(self) -> None:
        """After `stop`: makes jobs of what had ended by then. Raises as `look` does."""
        self._over.clear()
        self.look()

    def look(self) -> None:
        """Raises BlobsUnavailable or LedgerUnavailable."""
        for incoming in [*self._incoming.values()]:
            incoming.tick()
        if not self._makes_jobs:
            return
        adopts = time.monotonic() - self._adopted >= ADOPT
        for collection in self._collections():
            if adopts:
                adopt(collection)
            while not self._over.is_set() and self._make(collection):
                pass
        if adopts:
            self._adopted = time.monotonic()

    def _make(self, collection: Collection) -> bool:
        """Makes a job of one batch, if one is there."""
        batch = collection.ledger.incoming.claim(self._token, PATIENCE)
        if batch is not None:
            make_job(collection, batch, self._token)
        return batch is not None


def make_job(collection: Collection, batch: str, token: str) -> None:
    """Makes a job of a claimed batch, unless there is one or nothing to make one of.

    Raises BlobsUnavailable or LedgerUnavailable; it can be repeated from any point.
    """
    ledger, blobs = collection.ledger, collection.blobs
    names = blobs.names(incoming_folder(batch))
    if ledger.jobs.unknown([batch]):
        manifest = _described(collection, names, batch, token)
        if manifest is None:
            return
        if manifest.files or manifest.skipped:
            text = manifest.model_dump_json(exclude_none=True)
            blobs.write(manifest_of(upload_folder(batch)), text.encode(), durable=True)
            request = IngestRequest(source=UploadSource(manifest=manifest_of(upload_folder(batch))))
            collection.start_job(batch, INGEST, request.model_dump_json(exclude_none=True))
            logger.info("received", extra={"job": batch, "objects": len(names)})
    _delete_unlisted(collection, batch, names)
    ledger.incoming.forget(batch, len(names))


def _described(
    collection: Collection, names: Sequence[str], batch: str, token: str
) -> UploadManifest | None:
    """The list of the upload; None if another has the batch by now."""
    files: list[UploadedFile] = []
    skipped: list[SkippedFile] = []
    policy, incoming = collection.dicom.counting(), collection.ledger.incoming
    for number, name in enumerate(names):
        for found in _found(collection.blobs, name, policy):
            if isinstance(found, SkippedFile):
                skipped.append(found)
            else:
                files.append(found)
        if number % _HOLD == 0 and not incoming.hold(batch, token, PATIENCE):
            return None
    if not incoming.hold(batch, token, PATIENCE):
        return None
    write_account(collection.blobs, batch, policy)
    return UploadManifest(files=tuple(files), skipped=tuple(skipped))


def _found(blobs: Blobs, name: str, policy: Policy) -> Iterator[UploadedFile | SkippedFile]:
    """The rows of one object. The blob's name is random, and no name of an image."""
    data = blobs.read(name)
    digest = sha256(data)
    entry = Entry("", size=len(data), open=partial(io.BytesIO, data))
    for found in of_dicom(entry, Rules(dicom=policy)):
        if isinstance(found, Skipped):
            yield SkippedFile(name="", kind=found.kind)
        else:
            blob = None if found.fault else name
            own = found.frame
            update = {"sha256": digest} if own is None else digests(digest, own, policy)
            yield listed(found, found.metadata).model_copy(update={"blob": blob, **update})


def adopt(collection: Collection) -> None:
    """Has jobs made of batches that Redis has lost, and deletes objects that came too late.

    Raises BlobsUnavailable or LedgerUnavailable.
    """
    ledger, blobs = collection.ledger, collection.blobs
    folders = {PurePosixPath(folder).name: folder for folder in blobs.names(incoming_folder())}
    others = ledger.incoming.unknown([*folders])
    without_job = set(ledger.jobs.unknown(others))
    for batch in others:
        if batch in without_job and not _is_forgotten(blobs, batch):
            ledger.incoming.open(batch, 0)
        else:
            _delete_unlisted(collection, batch, blobs.names(folders[batch]))
            if not blobs.names(folders[batch]):
                blobs.delete(folders[batch])


def _delete_unlisted(collection: Collection, batch: str, names: Sequence[str]) -> None:
    """Deletes those of the objects that are no row of the batch's job."""
    manifest = _manifest(collection.blobs, batch)
    used = {file.blob for file in manifest.files} if manifest is not None else set()
    for name in names:
        if name not in used:
            collection.blobs.delete(name)


def _is_forgotten(blobs: Blobs, batch: str) -> bool:
    """Whether the ledger does not know its job because that ended long ago."""
    manifest = _manifest(blobs, batch)
    return manifest is not None and not manifest.files


def _manifest(blobs: Blobs, batch: str) -> UploadManifest | None:
    try:
        return read(UploadManifest, blobs.read(manifest_of(upload_folder(batch))))
    except FileNotFoundError:
        return None
