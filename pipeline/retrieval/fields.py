"""Knows the payload fields, so that a misspelt one is an error and not an empty result."""

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from pipeline.base.errors import InvalidQuery
from pipeline.base.identity import ID_COLUMNS, is_identifier
from pipeline.dicom.pseudonyms import Pseudonyms, no_pseudonyms
from pipeline.messages import RESERVED, SEALED
from pipeline.messages.filters import Filter, IsEmptyCondition, PayloadField, json_path
from pipeline.retrieval.originals import Originals
from pipeline.store import Store
from pipeline.store.common import FACET_TYPES, NUMBER_TYPES

# Index types by which images can be grouped.
GROUPED = ("keyword", "integer")

Path = tuple[str | int, ...]

# A key of a filter that names what is sealed: even whether it is there is nobody's to know.
_SEALED = re.compile(rf'"key":"[^:]*\b{SEALED}\b')


@dataclass(frozen=True)
class Fields:
    """`indexes` maps fields to index types; only top-level names are checked.

    The images of one lesion share the value of `lesion_field`. `pseudonyms` has the keys under
    which identifiers of DICOM files are hashed.
    """

    store: Store
    indexes: Mapping[str, str]
    lesion_field: str = "lesion_id"
    pseudonyms: Callable[[], Pseudonyms] = no_pseudonyms
    _seen: set[str] = field(default_factory=set)

    @property
    def originals(self) -> Originals:
        """What original numbers of patients, studies and images are stored as."""
        return Originals(self.pseudonyms, self.store)

    def of_type(self, kinds: Container[str]) -> list[str]:
        return [name for name, kind in self.indexes.items() if kind in kinds]

    @property
    def facets(self) -> list[str]:
        """Fields whose values can be counted."""
        return self.of_type(FACET_TYPES)

    @property
    def numbers(self) -> list[str]:
        """Fields that have a least and a greatest value."""
        return self.of_type(NUMBER_TYPES)

    @property
    def grouping(self) -> tuple[str, ...]:
        """Fields that results can be grouped by."""
        return tuple(n for n in self.of_type(GROUPED) if "." not in n and n not in ID_COLUMNS)

    @property
    def lesion(self) -> str | None:
        """The field of the lesion; None if results cannot be grouped by it."""
        return self.lesion_field if self.lesion_field in self.grouping else None

    def check_grouping(self, name: str, path: Path) -> None:
        """Raises InvalidQuery for a field that results cannot be grouped by."""
        if name not in self.grouping:
            raise InvalidQuery(f"This must be one of {', '.join(self.grouping)}.", path)

    def check_identifier(self, name: str, path: Path, *, scan: bool = False) -> None:
        """Raises InvalidQuery for a field by whose value images cannot be deleted for good."""
        if not is_identifier(name):
            raise InvalidQuery(
                "This must be an identifier, such as lesion_id or PatientID; for other fields, "
                "delete by a filter.",
                path,
            )
        self.check(name, path, scan=scan)

    def check_filter(self, wanted: Filter | None, *, scan: bool = False) -> None:
        """Raises InvalidQuery when the filter names a field that no image has."""
        for path, name in wanted.fields() if wanted is not None else ():
            if name == RESERVED and wanted is not None and _SEALED.search(wanted.model_dump_json()):
                raise InvalidQuery("No image has this field.", ("filter", *path))
            self.check(name, ("filter", *path), scan=scan)

    def check(self, name: str, path: Path, *, scan: bool = False) -> None:
        """Raises InvalidQuery when no image has the field.

        A server's strict mode may not tell, if the field has no index: then a search may name it,
        and only a `scan` of all images finds out.
        """
        if name in self.indexes or name in (*ID_COLUMNS, RESERVED) or name in self._seen:
            return
        # A field that exists is looked up once; for one that does not, this reads all payloads.
        try:
            found = self._is_anywhere(name, scan)
        except InvalidQuery:
            return  # what filters by it is refused by the store, which names the field
        if not found and self.store.count():
            common = ", ".join(self.indexes)
            raise InvalidQuery(f"No image has this field. The usual ones are {common}.", path)
        if found:
            self._seen.add(name)

    def _is_anywhere(self, name: str, scan: bool) -> bool:
        is_empty = IsEmptyCondition(is_empty=PayloadField(key=json_path(name)))
        has_it, cursor = Filter(must_not=(is_empty,)), None
        while True:
            records, cursor = self.store.scroll(1, filter=has_it, cursor=cursor, scan=scan)
            if records or cursor is None:
                return bool(records)
