"""Deletes images for good: from store, previews and uploads, with a receipt and tombstones.

    1. add tombstones for the request, so that no ingest brings the images back
    2. notify running jobs, since some of their rows may be on the way into the store
    3. write the plan: pages of the images to delete, each a part of the receipt
    4. page by page, delete everything that belongs to its images

A job upserts a batch first and looks for tombstones afterwards (`matches_pending_deletion`); a
deletion adds tombstones first and deletes afterwards. So the one that comes last removes what the
other one missed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.identity import point_id, spellings
from pipeline.dicom.kept import HASHED
from pipeline.dicom.pseudonyms import Pseudonyms, ids_of, no_image, no_pseudonyms
from pipeline.ledger import Tombstones
from pipeline.lifecycle.receipts import PAGE, DeleteRequest, Receipts
from pipeline.lifecycle.tombstone_keys import keys_of_deletion, tombstone_key, tombstone_keys
from pipeline.messages import RESERVED, Deletion
from pipeline.messages.filters import FieldCondition, Filter, HasIdCondition, Match, json_path
from pipeline.retrieval.fields import Fields
from pipeline.retrieval.originals import Originals
from pipeline.store import Record, Store

# Under which a UID is the image's own, and that of all frames of its file.
_IDS = ("image_id", HASHED["SOPInstanceUID"])

# Of a deletion that is not known any more.
DELETED = "This image was deleted here; it comes back only when that deletion is lifted."


def deleted_by(deletion: str) -> str:
    """The reason of a rejection, with the command that ends it."""
    return (
        f"This image was deleted here by deletion {deletion}; `kindred undelete {deletion}` lifts"
        " that, and then it may come back."
    )


@dataclass(frozen=True)
class Deletions:
    """Raises InvalidQuery, NotFound, StoreUnavailable, LedgerUnavailable or BlobsUnavailable."""

    store: Store
    blobs: Blobs
    tombstones: Tombstones
    fields: Fields
    pseudonyms: Callable[[], Pseudonyms] = no_pseudonyms

    @property
    def originals(self) -> Originals:
        """What original numbers of patients, studies and images are stored as."""
        return Originals(self.pseudonyms, self.store)

    @property
    def receipts(self) -> Receipts:
        return Receipts(self.blobs, self.tombstones, self.pseudonyms)

    def plan(self, deletion: str, request: DeleteRequest) -> int:
        """Returns how many images will be deleted. Safe to repeat."""
        self._check(deletion, request)
        keys = [*keys_of_deletion(request.wanted), *self._keys_of_hashes(request.wanted)]
        self.receipts.write_keys(deletion, keys)
        self.tombstones.add(keys, deletion)
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
        """Deletes everything that belongs to these images; missing images are no error."""
        points = [point_id(image_id) for image_id in image_ids]
        stored = self.store.retrieve(points)
        uploads = {p: stored[p].payload.get(RESERVED, {}).get("blob") for p in stored}
        self.discard({point: uploads.get(point) for point in points})

    def repeat(self) -> int:
        """Deletes all images that have a tombstone, as after a restore. Returns how many."""
        count, cursor = 0, None
        while True:
            page, cursor = self.store.scroll(PAGE, cursor=cursor)
            keys = [tombstone_keys(str(r.payload["image_id"]), r.payload) for r in page]
            pairs = zip(page, self.are_deleted(keys), strict=True)
            deleted = [record for record, was_deleted in pairs if was_deleted]
            self.discard({r.id: r.payload.get(RESERVED, {}).get("blob") for r in deleted})
            count += len(deleted)
            if cursor is None:
                return count

    def are_deleted(self, rows: Sequence[Sequence[str]]) -> list[bool]:
        """For each row, given by its tombstone keys, whether it was deleted before."""
        found = self.tombstones.contains([key for keys in rows for key in keys])
        return [not found.isdisjoint(keys) for keys in rows]

    def reasons(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """For each deleted row, given by its tombstone keys: which deletion, and how to lift it."""
        found = self.tombstones.deletions_of([key for keys in rows for key in keys])
        named = (next((found[key] for key in keys if key in found), None) for keys in rows)
        return [DELETED if deletion is None else deleted_by(deletion) for deletion in named]

    def matches_pending_deletion(self, job: str, batch: Mapping[UUID, Sequence[str]]) -> set[UUID]:
        """The points of this batch that were deleted while it was on its way into the store.

        The caller discards them.
        """
        pairs = zip(batch, self.are_deleted([*batch.values()]), strict=True)
        deleted = {point for point, was_deleted in pairs if was_deleted}
        for deletion in self.tombstones.pending_deletions(job):
            request = self.receipts.request(deletion)
            matching = self._among([*batch.keys() - deleted], request)
            if matching:
                ids = [str(record.payload["image_id"]) for record in matching]
                self.receipts.write_page(deletion, f"late-{matching[0].id}", ids)
                deleted.update(record.id for record in matching)
        return deleted

    def discard(self, points: Mapping[UUID, str | None]) -> None:
        """Deletes points with their previews and uploads; a missing one is no error.

        `points` maps each point to the blob of its upload. The store comes last: if this worker is
        killed, the next one finds in the store what is left to do.
        """
        for point, upload in points.items():
            self.blobs.delete(preview_name(point))
            if upload is not None:
                self.blobs.delete(upload)
        if points:
            self.store.delete([*points])

    def _check(self, deletion: str, request: DeleteRequest) -> None:
        wanted = request.wanted
        self.fields.check_filter(wanted.filter, scan=True)
        if wanted.field is not None:
            self.fields.check_identifier(wanted.field, ("field",), scan=True)
        if request.must_exist and not self.receipts.begun(deletion):
            stored = self.originals.stored_ids(wanted.image_ids or ())
            for image_id, found in stored.items():
                if not found:
                    raise no_image(image_id)

    def _keys_of_hashes(self, wanted: Deletion) -> list[str]:
        """What original numbers and UIDs are stored as, so that later images stay away too."""
        if wanted.field is not None and wanted.value is not None:
            hashes = self.originals.values(wanted.field, wanted.value)
            return [tombstone_key(wanted.field, each) for each in hashes]
        hashed = ids_of(self.pseudonyms(), wanted.image_ids or ())
        each_way = ((name, one) for several in hashed.values() for one in several for name in _IDS)
        return [tombstone_key(name, one) for name, one in each_way]

    def _matching(self, wanted: Deletion) -> Iterator[Record]:
        if wanted.image_ids is not None:
            for ids in _pages(dict.fromkeys(wanted.image_ids)):
                found = self.originals.stored_ids(ids)
                points = [point_id(each) for several in found.values() for each in several]
                yield from self.store.retrieve(list(dict.fromkeys(points))).values()
            return
        cursor, condition = None, self._filter(wanted)
        while True:
            page, cursor = self.store.scroll(PAGE, filter=condition, cursor=cursor, scan=True)
            yield from page
            if cursor is None:
                return

    def _among(self, points: Sequence[UUID], request: DeleteRequest | None) -> list[Record]:
        """The points that the request's filter matches; ids and values have tombstones instead."""
        if request is None or request.wanted.filter is None or not points:
            return []
        these = HasIdCondition(has_id=tuple(str(point) for point in points))
        wanted = self.originals.filter(request.wanted.filter)
        both = Filter(must=(wanted, these)) if wanted is not None else Filter(must=(these,))
        return self.store.scroll(len(points), filter=both, scan=True)[0]

    def _filter(self, wanted: Deletion) -> Filter | None:
        originals = self.originals
        if wanted.field is None or wanted.value is None:
            return originals.filter(wanted.filter)
        key = json_path(wanted.field)
        values = (*spellings(wanted.value), *originals.values(wanted.field, wanted.value))
        return Filter(should=tuple(FieldCondition(key=key, match=Match(value=v)) for v in values))


def _pages(items: Iterable[str]) -> Iterator[tuple[str, ...]]:
    left = iter(items)
    while page := tuple(islice(left, PAGE)):
        yield page
