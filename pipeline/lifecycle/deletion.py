"""Deleting for good: from store, previews and uploads, with a receipt and a tombstone.

    1. bury: what is meant gets tombstones, so that no ingest brings it back
    2. watch: jobs that run are told, since rows of theirs may be on their way into the store
    3. receipt, then delete, page by page

A batch on its way is upserted first and asks for tombstones afterwards (`meant`); a deletion buries
first and deletes afterwards. So whichever comes last removes what the other one missed.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from pipeline.base.blobs import Blobs, deletion_folder, preview_name
from pipeline.base.errors import NotFound
from pipeline.base.identity import is_identifier, point_id, spellings
from pipeline.ledger import Tombstones
from pipeline.messages import RESERVED, Deletion, Payload, Receipt
from pipeline.messages.filters import FieldCondition, Filter, HasIdCondition, Match, json_path
from pipeline.retrieval.fields import Fields
from pipeline.store import Record, Store

# Images a step: receipt, store, previews. A search that comes between waits for one of them.
PAGE = 500

_ID = re.compile(r"[0-9a-f-]{36}")


def tombstone_keys(image_id: str, metadata: Payload) -> list[str]:
    """What a tombstone for this image, or for all images of its lesion or patient, stands on.

    Hashed, since Redis is to hold no patient's number.
    """
    shared = ((n, v) for n, v in metadata.items() if is_identifier(n) and n != "image_id")
    each = ((n, one) for n, v in shared for one in (v if isinstance(v, list) else [v]))
    return [
        tombstone_key("image_id", image_id),
        *(tombstone_key(name, value) for name, value in each),
    ]


def tombstone_key(field: str, value: object) -> str:
    return hashlib.sha256(f"{field}={value}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Deletions:
    """Raises InvalidQuery, NotFound, StoreUnavailable, LedgerUnavailable or BlobsUnavailable."""

    store: Store
    blobs: Blobs
    tombstones: Tombstones
    fields: Fields

    def delete(self, identifier: str, wanted: Deletion) -> Receipt:
        """Safe to repeat: what a killed worker had deleted already stays in the receipt."""
        self._check(wanted)
        body = wanted.model_dump_json(exclude_none=True).encode()
        self.blobs.write(f"{deletion_folder(identifier)}/wanted.json", body)
        self.tombstones.add(_marks_of(wanted))
        self.tombstones.watch(identifier)
        for page in self._pages(wanted):
            self._list(identifier, page)
            self.discard({r.id: r.payload.get(RESERVED, {}).get("blob") for r in page})
        self.store.flush()
        return self.receipt(identifier)

    def repeat(self) -> int:
        """Takes away all that has a tombstone, as after a restore: how many images."""
        gone, cursor = 0, None
        while True:
            page, cursor = self.store.scroll(PAGE, cursor=cursor)
            marks = [tombstone_keys(str(r.payload["image_id"]), r.payload) for r in page]
            pairs = zip(page, self.are_deleted(marks), strict=True)
            deleted = [record for record, was_deleted in pairs if was_deleted]
            self.discard({r.id: r.payload.get(RESERVED, {}).get("blob") for r in deleted})
            gone += len(deleted)
            if cursor is None:
                return gone

    def begun(self, identifier: str) -> bool:
        """Whether a worker has had it in hand before, and may have deleted some of it."""
        return self.blobs.exists(f"{deletion_folder(identifier)}/wanted.json")

    def receipt(self, identifier: str) -> Receipt:
        """All that went, also later, when a running job brought it. Raises NotFound."""
        if not _ID.fullmatch(identifier):  # it becomes a path
            raise NotFound(f"There is no deletion {identifier}.")
        folder = deletion_folder(identifier)
        pages = [
            Receipt.model_validate_json(self.blobs.read(name))
            for name in self.blobs.names(folder)
            if name.endswith(".page.json")
        ]
        if not pages and not self.begun(identifier):
            raise NotFound(f"There is no deletion {identifier}.")
        ids = sorted({image_id for page in pages for image_id in page.image_ids})
        return Receipt(id=identifier, count=len(ids), image_ids=tuple(ids))

    def lift(self, identifier: str) -> Receipt:
        """Lets what went be ingested again. Raises NotFound."""
        receipt = self.receipt(identifier)
        marks = [tombstone_key("image_id", image_id) for image_id in receipt.image_ids]
        self.tombstones.remove([*marks, *_marks_of(self._wanted(identifier))])
        return receipt

    def are_deleted(self, rows: Sequence[Sequence[str]]) -> list[bool]:
        """Which rows, each given by its marks, were deleted before."""
        found = self.tombstones.contains([mark for marks in rows for mark in marks])
        return [not found.isdisjoint(marks) for marks in rows]

    def matches_pending_deletion(self, job: str, batch: Mapping[UUID, Sequence[str]]) -> set[UUID]:
        """What was deleted while this batch, now in the store, was on its way there.

        The caller discards it.
        """
        buried = zip(batch, self.are_deleted([*batch.values()]), strict=True)
        gone = {point for point, was_deleted in buried if was_deleted}
        for identifier in self.tombstones.watching(job):
            fitting = self._fitting(self._wanted(identifier), [*batch.keys() - gone])
            self._list(identifier, fitting)
            gone.update(record.id for record in fitting)
        return gone

    def discard(self, points: Mapping[UUID, str | None]) -> None:
        """From store, previews and uploads, which are given as blobs; what is gone is no error.

        The store comes last: it alone knows what there is to do, for who goes on after a kill.
        """
        for point, upload in points.items():
            self.blobs.delete(preview_name(point))
            if upload is not None:
                self.blobs.delete(upload)
        if points:
            self.store.delete([*points])

    def _list(self, identifier: str, page: Sequence[Record]) -> None:
        """Tombstones and a page of the receipt, before anything goes: then it cannot be listed."""
        if not page:
            return
        ids = tuple(str(record.payload["image_id"]) for record in page)
        self.tombstones.add([tombstone_key("image_id", image_id) for image_id in ids])
        receipt = Receipt(id=identifier, count=len(ids), image_ids=ids)
        name = f"{deletion_folder(identifier)}/{page[0].id}.page.json"
        self.blobs.write(name, receipt.model_dump_json().encode())

    def _pages(self, wanted: Deletion) -> Iterator[list[Record]]:
        if wanted.image_ids is not None:
            points = [point_id(image_id) for image_id in wanted.image_ids]
            for start in range(0, len(points), PAGE):
                yield [*self.store.retrieve(points[start : start + PAGE]).values()]
            return
        cursor = None
        while True:
            page, cursor = self.store.scroll(PAGE, filter=_filter(wanted), cursor=cursor)
            yield page
            if cursor is None:
                return

    def _fitting(self, wanted: Deletion, points: Sequence[UUID]) -> list[Record]:
        """Those of the points that a filter asks to delete; ids and values have tombstones."""
        if wanted.filter is None or not points:
            return []
        these = HasIdCondition(has_id=tuple(str(point) for point in points))
        both = Filter(must=(wanted.filter, these))
        return self.store.scroll(len(points), filter=both)[0]

    def _wanted(self, identifier: str) -> Deletion:
        body = self.blobs.read(f"{deletion_folder(identifier)}/wanted.json")
        return Deletion.model_validate_json(body)

    def _check(self, wanted: Deletion) -> None:
        self.fields.check_filter(wanted.filter)
        if wanted.field is not None:
            self.fields.check_identifier(wanted.field, ("field",))


def _marks_of(wanted: Deletion) -> list[str]:
    if wanted.field is not None:
        return [tombstone_key(wanted.field, wanted.value)]
    return [tombstone_key("image_id", image_id) for image_id in wanted.image_ids or ()]


def _filter(wanted: Deletion) -> Filter | None:
    if wanted.field is None or wanted.value is None:
        return wanted.filter
    key = json_path(wanted.field)
    values = spellings(wanted.value)
    return Filter(should=tuple(FieldCondition(key=key, match=Match(value=v)) for v in values))
