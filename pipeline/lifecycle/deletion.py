"""Deletes images for good: from store, previews, uploads and quarantine, with a receipt.

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
from itertools import chain, islice
from uuid import UUID

from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.errors import InvalidQuery
from pipeline.base.identity import is_identifier, point_id, spellings
from pipeline.dicom.kept import HASHED
from pipeline.dicom.pseudonyms import Pseudonyms, ids_of, no_image, no_pseudonyms
from pipeline.ledger import Tombstones
from pipeline.ledger.withheld import point_of
from pipeline.lifecycle.quarantine import Quarantine, payload_of
from pipeline.lifecycle.receipts import PAGE, DeleteRequest, Receipts
from pipeline.lifecycle.tombstone_keys import keys_of_deletion, tombstone_key, tombstone_keys
from pipeline.messages import RESERVED, Deletion, WithheldImage
from pipeline.messages.filters import FieldCondition, Filter, HasIdCondition, Match, json_path
from pipeline.retrieval.fields import Fields
from pipeline.retrieval.originals import Originals
from pipeline.sources.quarantine import ReleasedImage
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
    quarantine: Quarantine
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
        waiting = {image.image_id for image in self._waiting(request.wanted)}
        indexed = (str(record.payload["image_id"]) for record in self._matching(request.wanted))
        found = chain(sorted(waiting), (image for image in indexed if image not in waiting))
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
                self._repeat_in_quarantine()
                return count

    def _repeat_in_quarantine(self) -> None:
        for name, image in self.quarantine.all():
            keys = () if image is None else tombstone_keys(image.image_id, dict(image.metadata))
            if image is None or self.are_deleted([keys])[0]:
                self.quarantine.remove([name])

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
                first = next(iter(matching))
                self.receipts.write_page(deletion, f"late-{first}", [*matching.values()])
                deleted.update(matching)
        return deleted

    def discard(self, points: Mapping[UUID, str | None]) -> None:
        """Deletes points with their previews and uploads; a missing one is no error.

        `points` maps each point to the blob of its upload. The store comes last: if this worker is
        killed, the next one finds in the store what is left to do. What waits in quarantine goes
        first, and its ledger tells the next worker in the same way.
        """
        self.quarantine.remove(self.quarantine.ledger.names_of([*points]))
        for point, upload in points.items():
            self.blobs.delete(preview_name(point))
            if upload is not None:
                self.blobs.delete(upload)
        if points:
            self.store.delete([*points])

    def released(self, images: Sequence[ReleasedImage]) -> None:
        """A release has ended: those that are indexed wait no more, if a kill has left some."""
        stored = self.store.retrieve([point_id(each.image_id) for each in images])
        indexed = {
            str(record.payload["image_id"]): record.payload.get(RESERVED, {}).get("sha256")
            for record in stored.values()
        }
        names = [each.name for each in images if indexed.get(each.image_id) == each.sha256]
        self.quarantine.remove(names)

    def _check(self, deletion: str, request: DeleteRequest) -> None:
        wanted = request.wanted
        try:
            self.fields.check_filter(wanted.filter, scan=True)
            if wanted.field is not None:
                self.fields.check_identifier(wanted.field, ("field",), scan=True)
        except InvalidQuery:  # no indexed image has a field of that name
            if not self._has_in_quarantine(wanted):
                raise
        if request.must_exist and not self.receipts.begun(deletion):
            stored = self.originals.stored_ids(wanted.image_ids or ())
            waiting = self._ids_in_quarantine(wanted)
            for image_id, found in stored.items():
                if not found and not waiting:
                    raise no_image(image_id)

    def _ids_in_quarantine(self, wanted: Deletion) -> bool:
        """Whether one of the named images waits there."""
        return next(self._waiting(wanted), None) is not None

    def _keys_of_hashes(self, wanted: Deletion) -> list[str]:
        """What original numbers and UIDs are stored as, so that later images stay away too."""
        if wanted.field is not None and wanted.value is not None:
            hashes = self.originals.values(wanted.field, wanted.value)
            return [tombstone_key(wanted.field, each) for each in hashes]
        hashed = ids_of(self.pseudonyms(), wanted.image_ids or ())
        each_way = ((name, one) for several in hashed.values() for one in several for name in _IDS)
        return [tombstone_key(name, one) for name, one in each_way]

    def _has_in_quarantine(self, wanted: Deletion) -> bool:
        """Whether images that wait have all fields that this names."""
        if wanted.filter is None and not is_identifier(str(wanted.field)):
            return False
        named = [name for _, name in wanted.filter.fields()] if wanted.filter else [wanted.field]
        missing = {str(name).partition(".")[0] for name in named}
        missing -= {*self.fields.indexes, "image_id", RESERVED}
        for _, image in self.quarantine.all():
            missing -= set(image.metadata) if image is not None else set()
            if not missing:
                return True
        return False

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

    def _waiting(self, wanted: Deletion) -> Iterator[WithheldImage]:
        """Of the images in quarantine those that are to go."""
        if wanted.filter is None:
            keys = [*keys_of_deletion(wanted), *self._keys_of_hashes(wanted)]
            found = self.quarantine.found_by_keys(keys)
            yield from (image for _, image in found if image is not None)
            return
        condition = self.originals.filter(wanted.filter) or wanted.filter
        for name, image in self.quarantine.all():
            if image is not None and _matches(condition, name, image):
                yield image

    def _among(self, points: Sequence[UUID], request: DeleteRequest | None) -> dict[UUID, str]:
        """The points, with their image ids, that the request's filter matches, in the index or in
        quarantine; ids and values have tombstones instead."""
        if request is None or request.wanted.filter is None or not points:
            return {}
        these = HasIdCondition(has_id=tuple(str(point) for point in points))
        wanted = self.originals.filter(request.wanted.filter) or request.wanted.filter
        both = Filter(must=(wanted, these))
        found = self.store.scroll(len(points), filter=both, scan=True)[0]
        ids = {record.id: str(record.payload["image_id"]) for record in found}
        for point, withheld in self.quarantine.ledger.find(points).items():
            image = self.quarantine.known(withheld.name)
            if image and _matches(wanted, withheld.name, image):
                ids[point] = image.image_id
        return ids

    def _filter(self, wanted: Deletion) -> Filter | None:
        originals = self.originals
        if wanted.field is None or wanted.value is None:
            return originals.filter(wanted.filter)
        key = json_path(wanted.field)
        values = (*spellings(wanted.value), *originals.values(wanted.field, wanted.value))
        return Filter(should=tuple(FieldCondition(key=key, match=Match(value=v)) for v in values))


def _matches(wanted: Filter, name: str, image: WithheldImage) -> bool:
    """Whether a filter would match it if it were in the store."""
    from pipeline.store.server_matching import matches  # it takes a second, and few need it

    return matches(wanted, Record(point_of(name), payload_of(image)))


def _pages(items: Iterable[str]) -> Iterator[tuple[str, ...]]:
    left = iter(items)
    while page := tuple(islice(left, PAGE)):
        yield page
