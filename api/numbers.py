"""Original numbers in a query: hashed at the door, so that nothing behind it sees them.

A person knows a UID or an accession number; the index knows keyed hashes. What has the form of an
original number is replaced before the request is stored.
"""

from collections.abc import Sequence
from functools import cached_property
from uuid import UUID

from api.services import Collection
from pipeline.base.identity import point_id
from pipeline.dicom.pseudonyms import Pseudonyms
from pipeline.dicom.uids import is_key, is_uid
from pipeline.messages import Named, SearchQuery

# Under which element's name a number is hashed, by the field of the query.
KINDS = {
    "series": "SeriesInstanceUID",
    "study": "StudyInstanceUID",
    "accession": "AccessionNumber",
}


class Numbers:
    """Hashes numbers with the secrets of a collection, which it reads only if there are any."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._points: dict[str, tuple[UUID, ...]] = {}

    @cached_property
    def _pseudonyms(self) -> Pseudonyms:
        return self._collection.dicom.pseudonyms

    @property
    def named(self) -> tuple[Named, ...]:
        """The images that were named by numbers."""
        return tuple(Named(image_id=i, points=points) for i, points in self._points.items())

    def hidden(self, query: SearchQuery) -> SearchQuery:
        """The query with keys in place of numbers. `named` gets the images."""
        if query.collected is None and not any(map(_is_number, query.named)):
            return query
        changes: dict[str, object] = {
            name: self.keys(kind, getattr(query, name))
            for name, kind in KINDS.items()
            if getattr(query, name) is not None
        }
        if query.image_id is not None:
            changes["image_id"] = self.image(query.image_id)
        for name in ("positive", "negative"):
            changes[name] = tuple(map(self.image, getattr(query, name)))
        return query.model_copy(update=changes)

    def image(self, image_id: str) -> str:
        """An image's id, or the key of a SOP Instance UID, as of one frame in UID#2.

        A data set can have UIDs for ids, so the image may be the one of that very id. Its point
        says so to the worker, and the number to nobody.
        """
        if not _is_number(image_id):
            return image_id
        uid, sign, frame = image_id.partition("#")
        newest, *older = (
            f"{key}{sign}{frame}" for key in self._pseudonyms.all_of("SOPInstanceUID", uid)
        )
        self._points[newest] = tuple(point_id(each) for each in (image_id, *older))
        return newest

    def keys(self, kind: str, numbers: Sequence[str]) -> tuple[str, ...]:
        """Of each number its key under every secret; a key stays as it is.

        So does what is no UID where one is meant: tables have series of their own names.
        """
        found: list[str] = []
        for number in numbers:
            if is_key(number):
                found.append(number)
                continue
            found += self._pseudonyms.all_of(kind, number.strip())
            if kind.endswith("UID") and not is_uid(number):
                found.append(number)
        return tuple(found)


def _is_number(image_id: str) -> bool:
    return is_uid(image_id.partition("#")[0])
