"""The searched image itself and its lesion: what a search leaves out if it is asked to.

An image is the searched one also if it has another id and the same bytes, or if its bytes were sent
along. The store has no index of the bytes' hashes and needs none: the same bytes have the same
vector, so they are among the nearest images.

A file of DICOM is the searched image also by its UID, since archives change what else is in a file;
and the images of its series go with it: they show the same body in the same minute.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from pipeline.messages import RESERVED, SERIES, Payload, SearchQuery
from pipeline.messages.filters import AnyCondition
from pipeline.retrieval.conditions import equals, has_points, makes_group
from pipeline.retrieval.targets import QueryTarget
from pipeline.store import Query, Store, Vectors

# Images whose hashes are compared with the searched image's. It need not be many: only copies of
# the same bytes are as near.
_NEAREST = 64


@dataclass(frozen=True)
class _Image:
    sha256: str
    vector: Vectors


@dataclass(frozen=True)
class SameLesion:
    """`field` is that of the lesion; None: images have none. Raises StoreUnavailable."""

    store: Store
    field: str | None

    def conditions(
        self, searches: Sequence[SearchQuery], targets: Sequence[QueryTarget]
    ) -> list[list[AnyCondition]]:
        """For each search, conditions: what it leaves out meets one of them."""
        images = [
            list(_images(target)) if _looks_for_copies(search) else []
            for search, target in zip(searches, targets, strict=True)
        ]
        copies = iter(self._copies([image for each in images for image in each]))
        out: list[list[AnyCondition]] = []
        for search, target, own in zip(searches, targets, images, strict=True):
            found = {point: payload for _ in own for point, payload in next(copies).items()}
            known: list[AnyCondition] = []
            if search.exclude_same_lesion:
                found |= {record.id: record.payload for record in target.positives}
                found |= self._by_uid(target)
                known = equals(SERIES, {s for sent in target.sent for s in sent.series})
                if search.collected is not None:
                    known += equals(*search.collected)
            out.append([*self._condition(found), *known])
        return out

    def _by_uid(self, target: QueryTarget) -> dict[UUID, Payload]:
        """The indexed frames of the files that were sent along."""
        points = {point for sent in target.sent for point in sent.points}
        found = self.store.retrieve(list(points)) if points else {}
        return {point: record.payload for point, record in found.items()}

    def _copies(self, images: Sequence[_Image]) -> list[dict[UUID, Payload]]:
        """The indexed images of the same bytes, for each of `images`."""
        fields = [RESERVED, SERIES, *([self.field] if self.field else [])]
        queries = [Query(image.vector, _NEAREST, include=fields) for image in images]
        found = self.store.query(queries) if queries else []
        return [
            {p.id: p.payload for p in points if _sha256(p.payload) == image.sha256}
            for image, points in zip(images, found, strict=True)
        ]

    def _condition(self, found: dict[UUID, Payload]) -> list[AnyCondition]:
        if not found:
            return []
        conditions: list[AnyCondition] = [has_points(list(found))]
        for field in (self.field, SERIES):
            values = [payload.get(field) for payload in found.values()] if field else []
            if field:
                conditions += equals(field, {value for value in values if makes_group(value)})
        return conditions


def _looks_for_copies(search: SearchQuery) -> bool:
    """A series that is indexed is left out as a whole, by its key."""
    return search.exclude_same_lesion and search.collected is None


def _images(target: QueryTarget) -> Iterator[_Image]:
    """The images that a search starts from, if the hash of their bytes is known."""
    for sent in target.sent:
        yield _Image(sent.sha256, sent.vector)
    for record in target.positives:
        sha256 = _sha256(record.payload)
        if sha256 and record.vector is not None:
            yield _Image(sha256, record.vector)


def _sha256(payload: Payload) -> str:
    """Empty if it is not stored."""
    return str(payload.get(RESERVED, {}).get("sha256", ""))
