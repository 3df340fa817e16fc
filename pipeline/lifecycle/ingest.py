"""Works one shard, from rows to points: read, recognise, decode, embed, upsert, checkpoint.

While one batch is embedded, decoders work on the next, and on no more of this shard. Points are
upserted before the checkpoint, so after a crash in between, the rows are only recognised again, not
embedded again.

Rows that must wait in quarantine are decoded as well, and go there instead (`withholding.py`).
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from pipeline import metrics
from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.errors import TooLargeForDevice
from pipeline.base.identity import point_id, sha256
from pipeline.dicom.originals import Sealing
from pipeline.encoding.encoder import Encoder
from pipeline.images.decoders import ImageDecoders
from pipeline.images.decoding import Unusable
from pipeline.images.preparing import Order, Prepared
from pipeline.ledger import JobLedger, Progress, WorkItem
from pipeline.lifecycle.deletion import Deletions
from pipeline.lifecycle.quarantine import REFUSED
from pipeline.lifecycle.rejections import RejectedRows
from pipeline.lifecycle.rows import (
    Batch,
    Candidate,
    Identified,
    Outcome,
    claim,
    described,
    identify,
    recognise,
)
from pipeline.lifecycle.seals import sealed_anew, sealed_of
from pipeline.lifecycle.withholding import Suspect, Withholding
from pipeline.messages import RESERVED, IngestOptions, Payload, Rejection, WithheldImage
from pipeline.sources.base import Reader, Row, Source
from pipeline.store import Points, Record, Store

logger = logging.getLogger("kindred.ingest")

AS_USUAL = IngestOptions()
# Previews written at once. A bucket takes a quarter of a second for each, however many they are.
WRITERS = 32
# How many workers a row may end before it is rejected.
TRIES = 3
TOO_LARGE = TooLargeForDevice.title + "; it was rejected."
POISON = "Three workers ended while they worked on this image; it was rejected."


class _LeaseLost(Exception):
    """The worker was frozen, as with its host, for longer than its lease.

    Others have done these rows meanwhile, and what they stored can have been replaced or deleted
    since. So a worker looks before each change of the store.
    """


@dataclass(frozen=True)
class Limits:
    """The longest side of a preview, in pixels, and whether an image keeps its file's name."""

    preview_pixels: int = 512
    keep_names: bool = True


@dataclass(frozen=True)
class Ingest:
    """What all shards of a worker share. `stopping` says whether the worker shuts down."""

    encoder: Encoder
    store: Store
    blobs: Blobs
    jobs: JobLedger
    deletions: Deletions
    decoders: ImageDecoders
    withholding: Withholding
    limits: Limits
    stopping: Callable[[], bool]
    sealing: Sealing | None = None  # where the department has a viewer
    writers: Executor = field(default_factory=lambda: ThreadPoolExecutor(WRITERS, "preview"))

    def run(
        self, item: WorkItem, source: Source, reader: Reader, options: IngestOptions = AS_USUAL
    ) -> bool:
        """Works a shard to its end. False if it was stopped before; its progress is recorded."""
        rejected = RejectedRows(self.blobs, item.lease)
        progress, rejections = _reject_poison(item, reader)
        if not self._record(item, progress, rejected.write(rejections)):
            return False
        batch = self._start(item, reader, progress.cursor, options)
        while batch is not None:
            alone = batch.start < item.quarantined
            following = None if alone else self._start(item, reader, batch.stop, options)
            try:
                outcomes = self._commit(item, source, batch, options)
            except _LeaseLost:
                logger.warning("batch dropped, its lease was lost", extra={"job": item.lease.job})
                return False
            _count(outcomes)
            progress = _advanced(progress, batch.stop, outcomes)
            if not self._record(item, progress, rejected.write(_rejections(outcomes))):
                return False
            batch = following or self._start(item, reader, batch.stop, options)
        if not options.dry_run:
            self.store.flush()
        self.jobs.finish(item.lease)
        logger.info(
            "shard finished",
            extra={"job": item.lease.job, "item": item.lease.item, "rows": item.stop - item.start},
        )
        return True

    def _record(self, item: WorkItem, progress: Progress, part: str) -> bool:
        """Whether to go on. Up to two batches are in flight: one decodes, one is embedded."""
        in_flight = self._end(item, progress.cursor)
        if progress.cursor >= item.quarantined:
            in_flight = self._end(item, in_flight)
        going = self.jobs.checkpoint(item.lease, replace(progress, in_flight=in_flight), part)
        return going and not self.stopping()

    def _end(self, item: WorkItem, start: int) -> int:
        """The end of the batch that begins at `start`."""
        size = 1 if start < item.quarantined else self.encoder.sizing.batch_size
        return min(item.stop, start + size)

    def _start(
        self, item: WorkItem, reader: Reader, start: int, options: IngestOptions
    ) -> Batch | None:
        """Reads the next batch, recognises indexed rows, and has the others decoded."""
        if start >= item.stop:
            return None
        batch = Batch(start, self._end(item, start))
        rows = [identify(row) for row in reader.read(start, batch.stop)]
        stored = self.store.retrieve([each.id for each in rows])
        if any(each.row.former for each in rows):
            rows, stored = self._as_stored(rows, stored)
        batch.quarantined = self.withholding.look(rows)
        deleted = self.deletions.are_deleted([each.tombstone_keys for each in rows])
        kept = [each for each, was_deleted in zip(rows, deleted, strict=True) if not was_deleted]
        gone = [each for each, was_deleted in zip(rows, deleted, strict=True) if was_deleted]
        reasons = self.deletions.reasons([each.tombstone_keys for each in gone])
        batch.outcomes += [
            each.outcome("rejected", why) for each, why in zip(gone, reasons, strict=True)
        ]
        if not options.dry_run:
            # A worker may have stored them and died before it looked for tombstones.
            self.deletions.discard({each.id: each.row.blob for each in gone})
        for each, verdict in zip(kept, claim(self.jobs, item, options.upload, kept), strict=True):
            if verdict:
                batch.outcomes.append(each.outcome("rejected", verdict))
            else:
                known = stored[each.id].payload if each.id in stored else None
                self._sort(batch, item, each, known, options, repeat=verdict is None)
        return batch

    def _as_stored(
        self, rows: list[Identified], stored: dict[UUID, Record]
    ) -> tuple[list[Identified], dict[UUID, Record]]:
        """After a rotation of the pseudonyms' key, an image keeps the id that it has in the index
        or in quarantine.

        Its other identifiers come to be those of the newest key, and it is not embedded again.
        """
        earlier = {
            each.id: [str(former["image_id"]) for former in each.row.former]
            for each in rows
            if each.id not in stored
        }
        points = {point_id(one): one for several in earlier.values() for one in several}
        found = self.store.retrieve([*points]) if points else {}
        waiting = self.withholding.quarantine.ledger.find([*points])
        known = {points[point] for point in (*found, *waiting)}
        named = [
            next((one for one in earlier.get(each.id, ()) if one in known), None) for each in rows
        ]
        renamed = [
            identify(replace(each.row, image_id=own)) if own else each
            for each, own in zip(rows, named, strict=True)
        ]
        return renamed, {**stored, **found}

    def _sort(
        self,
        batch: Batch,
        item: WorkItem,
        each: Identified,
        known: Payload | None,
        options: IngestOptions,
        *,
        repeat: bool,
    ) -> None:
        """Puts a row among the recognised, or among those to be decoded and embedded."""
        row, before = each.row, (known or {}).get(RESERVED, {})
        metadata = described(row, each.image_id, None if options.replace_metadata else known)
        indexed = known is not None and before.get("sha256") == each.digest and row.fault is None
        if repeat and row.blob is not None:
            batch.orphaned.append(row.blob)
        if indexed and repeat:
            batch.outcomes.append(each.outcome("unchanged"))
        elif indexed:
            recognise(batch, item, each, metadata, known or {})
            self._seal_anew(batch, each, known or {})
        elif each.id in batch.quarantined.refused:
            batch.outcomes.append(each.outcome("rejected", REFUSED))
        elif not repeat and self.withholding.stays(row, batch.quarantined.waiting.get(each.id)):
            waiting = batch.quarantined.waiting[each.id]
            before_it = None if options.replace_metadata else dict(waiting.metadata)
            said = described(row, each.image_id, before_it)
            batch.again.append((each, waiting.model_copy(update={"metadata": said})))
        else:
            prepared = self._prepare(row, suspect=batch.start < item.quarantined)
            batch.candidates.append(Candidate(each, prepared, metadata, repeat, before.get("blob")))

    def _seal_anew(self, batch: Batch, each: Identified, known: Payload) -> None:
        """Adds what the viewer's link needs; it is no metadata, so the image stays unchanged."""
        payload = batch.payloads.get(each.id, known)
        sealed = sealed_anew(each.row, each.image_id, payload, self.sealing)
        if sealed is not payload and sealed != payload:
            batch.payloads[each.id] = sealed

    def _prepare(self, row: Row, *, suspect: bool) -> "Future[Prepared | Unusable]":
        """Decodes a row.

        Its preview is written once the image is embedded: a rejected row must not leave a preview
        behind, nor replace the preview of an indexed image.
        """
        if row.fault is None:
            order = Order(
                self.encoder.steps,
                preview=self.limits.preview_pixels,
                frame=row.frame,
                whole=self.withholding.wants_picture(row),
                masks=tuple((r.left, r.top, r.width, r.height) for r in row.masks),
            )
            return self.decoders.submit(row.data, order, suspect=suspect)
        known: Future[Prepared | Unusable] = Future()
        known.set_result(row.fault)
        return known

    def _commit(
        self, item: WorkItem, source: Source, batch: Batch, options: IngestOptions
    ) -> list[Outcome]:
        """Embeds and upserts a batch. Returns the outcomes of all its rows, for the ledger."""
        results = [(c, c.prepared.result()) for c in batch.candidates]
        unusable = [c.outcome("rejected", p.reason) for c, p in results if isinstance(p, Unusable)]
        usable = [(c, p) for c, p in results if isinstance(p, Prepared)]
        outcomes = [*batch.outcomes, *unusable]
        outcomes += [c.outcome("unchanged") for c, _ in usable if c.repeat]
        first = [(c, p) for c, p in usable if not c.repeat]
        clean, suspect = self.withholding.divide(first, self.writers)
        if options.dry_run:
            held = [*(each.candidate.identified for each in suspect), *(e for e, _ in batch.again)]
            outcomes += [each.outcome("quarantined") for each in held]
            return [*outcomes, *(c.outcome("embedded") for c, _ in clean)]
        outcomes += self._withhold(item, source, suspect, batch.again)
        indexed = self._index(item, source, clean)
        rows = {each.row for each in indexed if each.kind == "embedded"}
        self.withholding.end([c.identified for c, _ in clean if c.row.number in rows], batch)
        outcomes += indexed
        if batch.payloads:
            if not self.jobs.holds(item.lease):
                raise _LeaseLost
            self.store.set_payloads(batch.payloads)
        self._delete_blobs(batch.orphaned)
        return outcomes

    def _withhold(
        self,
        item: WorkItem,
        source: Source,
        suspect: Sequence[Suspect],
        again: Sequence[tuple[Identified, WithheldImage]],
    ) -> list[Outcome]:
        """Puts images into quarantine, and says of those that wait there `again` what is known."""
        rows = [*(each.candidate.identified for each in suspect), *(each for each, _ in again)]
        if not rows:
            return []
        if not self.jobs.holds(item.lease):
            raise _LeaseLost
        self.withholding.describe(again)
        held = self.withholding.put(item.lease, source, suspect, self.writers)
        deleted = self.deletions.matches_pending_deletion(
            item.lease.job, {each.id: each.tombstone_keys for each in rows}
        )
        self.withholding.remove([each for each in rows if each.id in deleted])
        self.deletions.discard(dict.fromkeys(deleted))
        if not held:
            raise _LeaseLost
        gone = [each for each in rows if each.id in deleted]
        reasons = self.deletions.reasons([each.tombstone_keys for each in gone])
        return [
            *(each.outcome("rejected", why) for each, why in zip(gone, reasons, strict=True)),
            *(each.outcome("quarantined") for each in rows if each.id not in deleted),
        ]

    def _index(
        self, item: WorkItem, source: Source, usable: Sequence[tuple[Candidate, Prepared]]
    ) -> list[Outcome]:
        started = time.monotonic()
        fitting, vectors, large = self._embed(usable)
        seconds = time.monotonic() - started
        metrics.observe("kindred_embed_seconds", "Time to embed a bulk batch", seconds)
        deleted = self._write(item, source, fitting, vectors) if fitting else set()
        gone = [c for c, _ in fitting if c.id in deleted]
        reasons = self.deletions.reasons([c.identified.tombstone_keys for c in gone])
        return [
            *(c.outcome("rejected", TOO_LARGE) for c in large),
            *(c.outcome("rejected", why) for c, why in zip(gone, reasons, strict=True)),
            *(c.outcome("embedded") for c, _ in fitting if c.id not in deleted),
        ]

    def _write(
        self,
        item: WorkItem,
        source: Source,
        fitting: Sequence[tuple[Candidate, Prepared]],
        vectors: NDArray[np.float32],
    ) -> set[UUID]:
        """Writes previews, then points. Returns the points that were deleted in the meantime.

        Their previews go even if the lease is lost.
        """
        self._write_previews(fitting)
        held = self.jobs.holds(item.lease)
        if held:
            self.store.upsert(self._points(fitting, vectors, item, source))
        deleted = self.deletions.matches_pending_deletion(
            item.lease.job, {c.id: c.identified.tombstone_keys for c, _ in fitting}
        )
        self.deletions.discard({c.id: c.blob for c, _ in fitting if c.id in deleted})
        if not held:
            raise _LeaseLost
        self._delete_blobs({c.replaced for c, _ in fitting} - {c.blob for c, _ in fitting})
        return deleted

    def _write_previews(self, fitting: Sequence[tuple[Candidate, Prepared]]) -> None:
        """Side by side. None is written after an error: what is deleted then would come back."""
        previews = [(preview_name(c.id), p.preview) for c, p in fitting]
        kept = {c.row.original: c.row.data for c, _ in fitting if c.row.original}
        previews += kept.items()
        share = -(-len(previews) // WRITERS)
        writes = [
            self.writers.submit(self.blobs.write_all, previews[start : start + share])
            for start in range(0, len(previews), share)
        ]
        wait(writes)
        for write in writes:
            write.result()

    def _points(
        self,
        fitting: Sequence[tuple[Candidate, Prepared]],
        vectors: NDArray[np.float32],
        item: WorkItem,
        source: Source,
    ) -> Points:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        provenance = {**source.provenance(), "job": item.lease.job, "time": now}
        return Points(
            ids=[candidate.id for candidate, _ in fitting],
            vectors=vectors,
            payloads=[self._payload(*each, provenance) for each in fitting],
        )

    def _payload(self, candidate: Candidate, prepared: Prepared, provenance: Payload) -> Payload:
        row = candidate.row
        source = {
            **provenance,
            **(row.provenance or {}),
            "row": row.number,
            **({"blob": candidate.blob} if candidate.blob else {}),
            **({"name": row.name} if row.name and self.limits.keep_names else {}),
            "sha256": candidate.identified.digest,
            "width": prepared.width,
            "height": prepared.height,
            "phash": prepared.phash,
            **({"pixels": prepared.rule} if prepared.rule else {}),
            **sealed_of(row, candidate.identified.image_id, self.sealing),
        }
        return {**candidate.metadata, RESERVED: source}

    def _delete_blobs(self, uploads: Iterable[str | None]) -> None:
        """Deletes uploads that no image names any more: an image's deletion would not find them."""
        for blob in uploads:
            if blob is not None:
                self.blobs.delete(blob)

    def _embed(
        self, usable: Sequence[tuple[Candidate, Prepared]]
    ) -> tuple[Sequence[tuple[Candidate, Prepared]], NDArray[np.float32], list[Candidate]]:
        """The images that fit on the device, their vectors, and those too large even alone."""
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


def _reject_poison(item: WorkItem, reader: Reader) -> tuple[Progress, list[Rejection]]:
    """Rejects the row at the cursor, and goes on behind it, if it has ended too many workers."""
    progress = item.progress
    if item.crashes < TRIES or progress.cursor >= item.stop:
        return progress, []
    row = progress.cursor
    logger.warning("row rejected as poison", extra={"job": item.lease.job, "row": row})
    # If more workers have died than its tries explain, reading the row ends them: do not read it.
    image_id = f"#{row}" if item.deaths > 2 * TRIES else _image_id_of(row, reader)
    outcomes = [Outcome(row, image_id, "rejected", POISON)]
    return _advanced(progress, row + 1, outcomes), _rejections(outcomes)


def _advanced(progress: Progress, cursor: int, outcomes: Sequence[Outcome]) -> Progress:
    counts = Counter(progress.counts) + Counter(outcome.kind for outcome in outcomes)
    return replace(progress, cursor=cursor, counts=dict(counts))


def _count(outcomes: Sequence[Outcome]) -> None:
    for kind, rows in Counter(outcome.kind for outcome in outcomes).items():
        metrics.count("kindred_rows_total", "Rows by what became of them", rows, outcome=kind)


def _rejections(outcomes: Sequence[Outcome]) -> list[Rejection]:
    return [
        Rejection(image_id=outcome.image_id, row=outcome.row, reason=outcome.reason)
        for outcome in outcomes
        if outcome.kind == "rejected"
    ]


def _image_id_of(number: int, reader: Reader) -> str:
    """The row's image id, or `#` and its number if the row cannot be read."""
    try:
        [row] = reader.read(number, number + 1)
        return row.image_id or sha256(row.data)
    except Exception:  # noqa: BLE001 - if this raised, the row would be rejected again for ever
        return f"#{number}"
