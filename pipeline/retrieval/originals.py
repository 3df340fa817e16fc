"""Lets people ask by original numbers and UIDs for images that are stored under hashes of them.

What is asked by is extended by its hashes, under each key: other images may have it in clear.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.base.identity import point_id
from pipeline.dicom.kept import HASHED
from pipeline.dicom.pseudonyms import Pseudonyms, ids_of, is_uid, split_frame
from pipeline.dicom.uids import is_key
from pipeline.dicom.values import plain
from pipeline.messages import COLLECTED, SearchQuery
from pipeline.messages.filters import FieldCondition, Filter, Match, MinShould, top_level
from pipeline.retrieval.conditions import equals
from pipeline.store import Store

# Field of the metadata → what it is a hash of.
FIELDS = {name: keyword for keyword, name in HASHED.items()}
_INSTANCE = HASHED["SOPInstanceUID"]


@dataclass(frozen=True)
class Originals:
    """`pseudonyms` has the keys as they are now. Raises LedgerUnavailable, StoreUnavailable."""

    pseudonyms: Callable[[], Pseudonyms]
    store: Store

    def values(self, field: str, value: str | int) -> list[str]:
        """The hashes of a value, in the field of that name; none for other fields."""
        keyword = FIELDS.get(field)
        return [] if keyword is None else self.pseudonyms().all_of(keyword, plain(str(value)))

    def stored_id(self, image_id: str) -> str:
        """The id under which an image is stored; of several frames, that of the first."""
        return next(iter(self.stored_ids([image_id])[image_id]), image_id)

    def stored_ids(self, image_ids: Sequence[str]) -> dict[str, list[str]]:
        """For each of the ids those of stored images that it means: none, one, or all frames."""
        hashed = ids_of(self.pseudonyms(), image_ids) if any(map(_may_be, image_ids)) else {}
        wanted = {each for image_id in image_ids for each in (image_id, *hashed.get(image_id, ()))}
        points = {each: point_id(each) for each in wanted}
        known = self.store.retrieve([*points.values()]) if points else {}
        found = {
            image_id: [
                each
                for each in dict.fromkeys((image_id, *hashed.get(image_id, ())))
                if points[each] in known
            ]
            for image_id in image_ids
        }
        for image_id, others in hashed.items():
            if not found[image_id] and not split_frame(image_id)[1]:
                found[image_id] = self._frames(others)
        return found

    def _frames(self, instances: Sequence[str]) -> list[str]:
        condition = Filter(should=tuple(equals(_INSTANCE, instances)))
        found: list[tuple[int, str]] = []
        cursor = None
        while True:
            page, cursor = self.store.scroll(500, filter=condition, cursor=cursor, scan=True)
            found += [(r.payload.get("frame", 0), str(r.payload["image_id"])) for r in page]
            if cursor is None:
                return [image_id for _, image_id in sorted(found)]

    def query(self, search: SearchQuery) -> SearchQuery:
        """The search with the ids of stored images, and a filter that finds them."""
        named = [*search.named, *(search.ids or ()), *(search.not_ids or ())]
        changes: dict[str, Any] = {}
        if any(map(_may_be, named)):
            known = self.stored_ids(named)
            first = {each: next(iter(known[each]), each) for each in named}
            changes = {
                "image_id": first.get(search.image_id or "", search.image_id),
                "positive": tuple(first[each] for each in search.positive),
                "negative": tuple(first[each] for each in search.negative),
                "ids": _all(search.ids, known),
                "not_ids": _all(search.not_ids, known),
            }
        for name, field in COLLECTED.items():
            if (given := getattr(search, name)) is not None:
                changes[name] = tuple(key for each in given for key in self._keys(field, each))
        if search.filter is not None:
            changes["filter"] = self.filter(search.filter)
        return search.model_copy(update=changes) if changes else search

    def _keys(self, field: str, value: str) -> list[str]:
        """What images may have in the field: a key as it is, or a number and its keys."""
        return [value] if is_key(value) else [value, *self.values(field, value)]

    def filter(self, wanted: Filter | None) -> Filter | None:
        """The filter, whose conditions on hashed fields are met by hashes as well."""
        if wanted is None or not any(name in FIELDS for _, name in wanted.fields()):
            return wanted
        changed: Filter = self._changed(wanted)
        return changed

    def _changed(self, part: Any) -> Any:
        if isinstance(part, FieldCondition) and part.match is not None:
            name = top_level(part.key)
            return part.model_copy(update={"match": self._match(name, part.match)})
        if isinstance(part, Filter | MinShould):
            names = ("must", "should", "must_not", "conditions")
            several = {n: getattr(part, n) for n in names if getattr(part, n, None) is not None}
            update: dict[str, Any] = {n: tuple(map(self._changed, v)) for n, v in several.items()}
            least = getattr(part, "min_should", None)
            return part.model_copy(
                update=update | ({"min_should": self._changed(least)} if least else {})
            )
        return part

    def _match(self, field: str, match: Match) -> Match:
        if field not in FIELDS:
            return match
        one = match.value
        if isinstance(one, str | int) and not isinstance(one, bool):
            return Match(any=(one, *self.values(field, one))) if isinstance(one, str) else match
        for name in ("any", "except_"):
            members = getattr(match, name)
            if members is not None:
                more = [each for one in members for each in self.values(field, one)]
                return match.model_copy(update={name: (*members, *more)})
        return match


def _may_be(image_id: str) -> bool:
    return is_uid(split_frame(image_id)[0])


def _all(ids: Sequence[str] | None, known: dict[str, list[str]]) -> tuple[str, ...] | None:
    if ids is None:
        return None
    return tuple(each for image_id in ids for each in (known[image_id] or [image_id]))
