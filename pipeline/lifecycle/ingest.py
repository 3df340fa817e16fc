"""One shard from rows to points: read, recognise what is held, decode, embed, upsert, checkpoint.

While one batch is embedded, the next is decoded by the pool. Points are upserted before they are
checkpointed, so a crash in between costs only the recognition of what is held.
"""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.errors import TooLargeForDevice
from pipeline.base.identity import point_id, sha256
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from pipeline.images.decoding import Unusable, decode, preview
from pipeline.images.hashes import difference_hash
from pipeline.images.watchdog import DecodeWatch
from pipeline.ledger import JobLedger, Progress, Unit
from pipeline.lifecycle.deletion import Deletions, tombstone_keys
from pipeline.messages import RESERVED, Payload, Rejection
from pipeline.sources.base import Reader, Row
from pipeline.store import Points, Store

logger = logging.getLogger("kindred.ingest")

# How often a row may end its worker before it is set aside.
TRIES = 3
DELETED = "This image was deleted here; it comes back only when that deletion is lifted."
TOO_LARGE = TooLargeForDevice.title + "; it was set aside."
POISON = "Three workers ended while they worked on this image; it was set aside."


@dataclass(frozen=True)
class Prepared:
    """A decoded image: uint8 pixels of shape (3, H, W) for the encoder, its own size and hash.

    `preview` is kept once it is embedded: of a row that is set aside, none must be left behind, nor
    may it take the place of the preview of an image that is held.
    """

    pixels: NDArray[np.uint8]
    preview: bytes
    width: int
    height: int
    dhash: str


@dataclass(frozen=True)
class Candidate:
    """A row that is to be embedded; `prepared` is being decoded."""

    row: Row
    id: UUID
    key: str
    digest: str
    marks: list[str]
    prepared: Future[Prepared | Unusable]
    replaced: str | None = None  # the upload of which the image was made that is held now


@dataclass
class Batch:
    """Rows [start, stop) on their way. Counts and rejections are of rows that are not embedded."""

    start: int
    stop: int
    candidates: list[Candidate] = field(default_factory=list)
    embedded: int = 0
    unchanged: int = 0
    payloads: dict[UUID, Payload] = field(default_factory=dict)
    orphaned: list[str] = field(default_factory=list)  # uploads that no image is made of
    rejections: list[Rejection] = field(default_factory=list)


@dataclass(frozen=True)
class Ingest:
    """What every shard of a worker shares. `stopping` says that the worker is to shut down."""

    encoder: Encoder
    store: Store
    blobs: Blobs
    jobs: JobLedger
    deletions: Deletions
    pool: Executor
    settings: Settings
    stopping: Callable[[], bool]
    watch: DecodeWatch = field(default_factory=DecodeWatch)

    def run(self, unit: Unit, reader: Reader) -> bool:
        """Works a shard to its end; False when it was stopped before, with all so far recorded."""
        progress, rejections = _reject_poison(unit, reader)
        if not self._record(unit, progress, rejections):
            return False
        batch = self._start(unit, reader, progress.cursor)
        while batch is not None:
            careful = batch.start < unit.careful
            following = None if careful else self._start(unit, reader, batch.stop)
            progress, rejections = self._commit(unit, batch, progress)
            if not self._record(unit, progress, rejections):
                return False
            batch = following or self._start(unit, reader, batch.stop)
        self.store.flush()
        self.jobs.finish(unit.lease)
        logger.info(
            "shard finished",
            extra={"job": unit.lease.job, "unit": unit.lease.unit, "rows": unit.stop - unit.start},
        )
        return True

    def _record(self, unit: Unit, progress: Progress, rejections: Sequence[Rejection] = ()) -> bool:
        """Whether to go on. Up to two batches are in hand: one decodes while one is embedded."""
        hand = self._end(unit, progress.cursor)
        if progress.cursor >= unit.careful:
            hand = self._end(unit, hand)
        going = self.jobs.checkpoint(unit.lease, replace(progress, hand=hand), rejections)
        return going and not self.stopping()

    def _end(self, unit: Unit, start: int) -> int:
        """Where the batch that begins at `start` ends."""
        size = 1 if start < unit.careful else self.encoder.sizing.batch_size
        return min(unit.stop, start + size)

    def _start(self, unit: Unit, reader: Reader, start: int) -> Batch | None:
        """Reads the next batch, drops what is held, and sets the pool to decoding the rest."""
        if start >= unit.stop:
            return None
        stop = self._end(unit, start)
        batch = Batch(start, stop)
        rows = [(row, row.sha256 or sha256(row.data)) for row in reader.read(start, stop)]
        keyed = [(row, row.key or digest, digest) for row, digest in rows]
        points = [point_id(key) for _, key, _ in keyed]
        held = self.store.retrieve(points)
        marks = [tombstone_keys(key, row.metadata) for row, key, _ in keyed]
        found = zip(keyed, points, marks, self.deletions.are_deleted(marks), strict=True)
        for (row, key, digest), point, row_marks, was_deleted in found:
            if was_deleted:
                # It can be there: of a batch that a worker died in before it looked for tombstones.
                self.deletions.discard({point: row.blob})
                batch.rejections.append(Rejection(key=key, row=row.number, reason=DELETED))
                continue
            known = held.get(point)
            same = known is not None and known.payload.get(RESERVED, {}).get("sha256") == digest
            if known is not None and same and row.fault is None:
                _recognise(batch, unit, row, key, known.payload)
            else:
                prepared = self.pool.submit(self._prepare, row)
                before = None if known is None else known.payload.get(RESERVED, {}).get("blob")
                candidate = Candidate(row, point, key, digest, row_marks, prepared, before)
                batch.candidates.append(candidate)
        return batch

    def _prepare(self, row: Row) -> Prepared | Unusable:
        """Decoded, resized, and with its preview drawn. Runs in the pool."""
        with self.watch.decoding():
            picture = row.fault or decode(row.data, self.settings.max_pixels)
            if isinstance(picture, Unusable):
                return picture
            small = preview(picture, self.settings.preview_pixels)
            pixels = self.encoder.preprocess(picture)
        return Prepared(pixels, small, picture.width, picture.height, difference_hash(picture))

    def _commit(
        self, unit: Unit, batch: Batch, progress: Progress
    ) -> tuple[Progress, list[Rejection]]:
        """Embeds and upserts. What is returned may be acknowledged."""
        results = [(c, c.prepared.result()) for c in batch.candidates]
        usable = [(c, p) for c, p in results if isinstance(p, Prepared)]
        refused = [(c, p.reason) for c, p in results if isinstance(p, Unusable)]
        gone: set[UUID] = set()
        fitting, vectors, large = self._embed(usable)
        refused += [(c, TOO_LARGE) for c in large]
        if fitting:
            for candidate, prepared in fitting:
                self.blobs.write(preview_name(candidate.id), prepared.preview)
            self.store.upsert(_points(fitting, vectors, unit))
            gone = self.deletions.matches_pending_deletion(
                unit.lease.job, {c.id: c.marks for c, _ in fitting}
            )
            self.deletions.discard({c.id: c.row.blob for c, _ in fitting if c.id in gone})
            self._drop({c.replaced for c, _ in fitting} - {c.row.blob for c, _ in fitting})
        refused += [(c, DELETED) for c, _ in fitting if c.id in gone]
        rejections = batch.rejections + [
            Rejection(key=c.key, row=c.row.number, reason=reason) for c, reason in refused
        ]
        embedded = sum(c.id not in gone for c, _ in fitting)
        if batch.payloads:
            self.store.set_payloads(batch.payloads)
        self._drop(batch.orphaned)
        progress = replace(
            progress,
            cursor=batch.stop,
            embedded=progress.embedded + embedded + batch.embedded,
            unchanged=progress.unchanged + batch.unchanged,
            rejected=progress.rejected + len(rejections),
        )
        return progress, rejections

    def _drop(self, uploads: Iterable[str | None]) -> None:
        """Bytes that no image names any more: its deletion would not find them."""
        for blob in uploads:
            if blob is not None:
                self.blobs.delete(blob)

    def _embed(
        self, usable: Sequence[tuple[Candidate, Prepared]]
    ) -> tuple[Sequence[tuple[Candidate, Prepared]], NDArray[np.float32], list[Candidate]]:
        """What fits on the device, its vectors, and what alone is too large for it."""
        if not usable:
            return [], np.empty((0, 0), np.float32), []
        pixels = self.encoder.stack([prepared.pixels for _, prepared in usable])
        try:
            return usable, self.encoder.embed(pixels, bulk=True), []
        except TooLargeForDevice:
            if len(usable) == 1:
                return [], np.empty((0, 0), np.float32), [usable[0][0]]
        each = [self._embed([one]) for one in usable]
        fitting = [one for found, _, _ in each for one in found]
        vectors = [rows for _, rows, _ in each if len(rows)]
        large = [candidate for _, _, found in each for candidate in found]
        return fitting, np.concatenate(vectors or [np.empty((0, 0), np.float32)]), large


def _reject_poison(unit: Unit, reader: Reader) -> tuple[Progress, list[Rejection]]:
    """Where to go on: behind the row at the cursor, rejected, if it has ended too many workers."""
    progress = unit.progress
    if unit.crashes < TRIES or progress.cursor >= unit.stop:
        return progress, []
    number = progress.cursor
    logger.warning("row set aside", extra={"job": unit.lease.job, "row": number})
    # Where more have died of it than its tries, it is the reading: that must not be tried again.
    key = f"#{number}" if unit.deaths > 2 * TRIES else _key_of(number, reader)
    rejection = Rejection(key=key, row=number, reason=POISON)
    return replace(progress, cursor=number + 1, rejected=progress.rejected + 1), [rejection]


def _key_of(number: int, reader: Reader) -> str:
    """A row's key; where reading it is what ends the workers, its number."""
    try:
        [row] = reader.read(number, number + 1)
        return row.key or sha256(row.data)
    except Exception:  # noqa: BLE001 - raised once more it would be set aside for ever
        return f"#{number}"


def _recognise(batch: Batch, unit: Unit, row: Row, key: str, stored: Payload) -> None:
    """Counts a row that is held, and keeps its metadata up to date."""
    source = stored[RESERVED]
    if source.get("job") == unit.lease.job and source.get("row") == row.number:
        batch.embedded += 1  # by this very job, before it was interrupted
    else:
        batch.unchanged += 1
    if row.blob != source.get("blob") and row.blob is not None:
        batch.orphaned.append(row.blob)
    if not _same_metadata(stored, row.metadata):
        batch.payloads[point_id(key)] = {**row.metadata, "image_id": key, RESERVED: source}


def _points(usable: Sequence[tuple[Candidate, Prepared]], vectors: Any, unit: Unit) -> Points:
    """One point an id: where a batch holds a key twice, its later row stands."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    last = {candidate.id: position for position, (candidate, _) in enumerate(usable)}
    chosen = sorted(last.values())
    return Points(
        ids=[usable[i][0].id for i in chosen],
        vectors=vectors[chosen],
        payloads=[_payload(*usable[i], unit, now) for i in chosen],
    )


def _payload(candidate: Candidate, prepared: Prepared, unit: Unit, now: str) -> Payload:
    source = {
        **_origin(unit),
        "row": candidate.row.number,
        "job": unit.lease.job,
        **({"blob": candidate.row.blob} if candidate.row.blob else {}),
        "sha256": candidate.digest,
        "width": prepared.width,
        "height": prepared.height,
        "dhash": prepared.dhash,
        "time": now,
    }
    return {**candidate.row.metadata, "image_id": candidate.key, RESERVED: source}


def _origin(unit: Unit) -> Payload:
    return unit.source.model_dump(
        include={"kind", "dataset", "split", "revision"}, exclude_none=True
    )


def _same_metadata(stored: Payload, metadata: Payload) -> bool:
    """Whether a stored payload already says what the source says now."""
    ours = {name: value for name, value in stored.items() if name not in (RESERVED, "image_id")}
    theirs = {name: value for name, value in metadata.items() if name != "image_id"}
    return json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)
