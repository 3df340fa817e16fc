"""Deleting for good: from store, previews and uploads, with a receipt and tombstones.

    1. tombstones for what is wanted, so that no ingest brings it back
    2. jobs that run are told, since rows of theirs may be on their way into the store
    3. the plan: pages of the images that are to go, each a part of the receipt
    4. page by page, everything that there is of its images

A batch on its way is upserted first and asks for tombstones afterwards
(`matches_pending_deletion`); a deletion adds tombstones first and deletes afterwards. So whichever
comes last removes what the other one missed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.errors import NotFound
from pipeline.base.identity import point_id, spellings
from pipeline.ledger import Tombstones
from pipeline.lifecycle.receipts import PAGE, DeleteRequest, Receipts
from pipeline.lifecycle.tombstone_keys import keys_of_deletion, tombstone_keys
from pipeline.messages import RESERVED, Deletion
from pipeline.messages.filters import FieldCondition, Filter, HasIdCondition, Match, json_path
from pipeline.retrieval.fields import Fields
from pipeline.store import Record, Store


@dataclass(frozen=True)
class Deletions:
    """Raises InvalidQuery, NotFound, StoreUnavailable, LedgerUnavailable or BlobsUnavailable."""

    store: Store
    blobs: Blobs
    tombstones: Tombstones
    fields: Fields

    @property
    def receipts(self) -> Receipts:
        return Receipts(self.blobs, self.tombstones)

    def plan(self, deletion: str, request: DeleteRequest) -> int:
        """How many images are to go. Safe to repeat."""
        self._check(deletion, request)
        keys = keys_of_deletion(request.wanted)
        self.receipts.write_keys(deletion, keys)
        self.tombstones.add(keys)
        self.tombstones.notify_running_jobs(deletion)
        found = (str(record.payload["image_id"]) for record in self._matching(request.wanted))
        pages: list[str] = []
        total = 0
        for image_ids in _pages(found):
            name = f"{len(pages):06}-{point_id(image_ids[0])}"
            pages.append(self.receipts.write_page(deletion, name, image_ids))
            total += len(image_ids)
        self.receipts.write_plan(deletion, pages)
        return total

    def delete(self, image_ids: Sequence[str]) -> None:
        """What there is of these images; those that are gone already are no error."""
        points = [point_id(image_id) for image_id in image_ids]
        stored = self.store.retrieve(points)
        uploads = {p: stored[p].payload.get(RESERVED, {}).get("blob") for p in stored}
        self.discard({point: uploads.get(point) for point in points})

    def repeat(self) -> int:
        """Takes away all that has a tombstone, as after a restore: how many images."""
        gone, cursor = 0, None
        while True:
            page, cursor = self.store.scroll(PAGE, cursor=cursor)
            keys = [tombstone_keys(str(r.payload["image_id"]), r.payload) for r in page]
            pairs = zip(page, self.are_deleted(keys), strict=True)
            deleted = [record for record, was_deleted in pairs if was_deleted]
            self.discard({r.id: r.payload.get(RESERVED, {}).get("blob") for r in deleted})
            gone += len(deleted)
            if cursor is None:
                return gone

    def are_deleted(self, rows: Sequence[Sequence[str]]) -> list[bool]:
        """Which rows, each given by its tombstone keys, were deleted before."""
        found = self.tombstones.contains([key for keys in rows for key in keys])
        return [not found.isdisjoint(keys) for keys in rows]

    def matches_pending_deletion(self, job: str, batch: Mapping[UUID, Sequence[str]]) -> set[UUID]:
        """What was deleted while this batch, now in the store, was on its way there.

        The caller discards it.
        """
        deleted = zip(batch, self.are_deleted([*batch.values()]), strict=True)
        gone = {point for point, was_deleted in deleted if was_deleted}
        for deletion in self.tombstones.pending_deletions(job):
            request = self.receipts.request(deletion)
            matching = self._among([*batch.keys() - gone], request)
            if matching:
                ids = [str(record.payload["image_id"]) for record in matching]
                self.receipts.write_page(deletion, f"late-{matching[0].id}", ids)
                gone.update(record.id for record in matching)
        return gone

    def discard(self, points: Mapping[UUID, str | None]) -> None:
        """From store, previews and uploads, which are given as blobs; what is gone is no error.

        The store comes last: it alone knows what there is to do, for a worker that goes on after
        a kill.
        """
        for point, upload in points.items():
            self.blobs.delete(preview_name(point))
            if upload is not None:
                self.blobs.delete(upload)
        if points:
            self.store.delete([*points])

    def _check(self, deletion: str, request: DeleteRequest) -> None:
        wanted = request.wanted
        self.fields.check_filter(wanted.filter)
        if wanted.field is not None:
            self.fields.check_identifier(wanted.field, ("field",))
        if request.must_exist and not self.receipts.begun(deletion):
            ids = wanted.image_ids or ()
            stored = self.store.retrieve([point_id(image_id) for image_id in ids])
            for image_id in ids:
                if point_id(image_id) not in stored:
                    raise NotFound(f"There is no image {image_id}.")

    def _matching(self, wanted: Deletion) -> Iterator[Record]:
        if wanted.image_ids is not None:
            for ids in _pages(dict.fromkeys(wanted.image_ids)):
                yield from self.store.retrieve([point_id(image_id) for image_id in ids]).values()
            return
        cursor = None
        while True:
            page, cursor = self.store.scroll(PAGE, filter=_filter(wanted), cursor=cursor)
            yield from page
            if cursor is None:
                return

    def _among(self, points: Sequence[UUID], request: DeleteRequest | None) -> list[Record]:
        """Those of the points that a filter deletes; ids and values have tombstones."""
        if request is None or request.wanted.filter is None or not points:
            return []
        these = HasIdCondition(has_id=tuple(str(point) for point in points))
        both = Filter(must=(request.wanted.filter, these))
        return self.store.scroll(len(points), filter=both)[0]


def _pages(items: Iterable[str]) -> Iterator[tuple[str, ...]]:
    left = iter(items)
    while page := tuple(islice(left, PAGE)):
        yield page


def _filter(wanted: Deletion) -> Filter | None:
    if wanted.field is None or wanted.value is None:
        return wanted.filter
    key = json_path(wanted.field)
    values = spellings(wanted.value)
    return Filter(should=tuple(FieldCondition(key=key, match=Match(value=v)) for v in values))
