"""Reads what an evaluation needs of a collection: vectors, labels, groups, perceptual hashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from itertools import chain
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from pipeline.base.identity import as_identifier
from pipeline.evaluation.stopping import Check, never
from pipeline.messages import RESERVED, Payload
from pipeline.messages.filters import Filter

if TYPE_CHECKING:
    from pipeline.store import Record, Store, Vectors

PAGE = 1000  # points in one call
HASH_BYTES = 32

NONE = -1  # in place of a label, a patient or a digest

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Collected:
    """Images of a collection, `n` of them, in the order of their point ids.

    `vectors` float32 (n, dimensions), of length 1. All else but `hashes` is int64 (n,), hashes of
    values: equal numbers mean equal values. `keys` are of image ids, `digests` of the pictures'
    bytes. An image without a label, a patient or a digest has -1 there; one without a group is a
    group of its own. `hashes` uint8 (n, 32), of zeros where the image has none.
    """

    ids: tuple[str, ...]
    keys: Numbers
    vectors: Vectors
    labels: Numbers
    groups: Numbers
    patients: Numbers
    digests: Numbers
    hashes: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, rows: NDArray[np.bool_] | slice) -> Collected:
        """Some of them: those of a mask of n, or of a slice."""
        ids = self.ids[rows] if isinstance(rows, slice) else _masked(self.ids, rows)
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "ids"}
        return Collected(ids=ids, **arrays)

    @classmethod
    def joined(cls, parts: Sequence[Collected]) -> Collected:
        """All of them, in their order; at least one."""
        names = [f.name for f in fields(cls) if f.name != "ids"]
        arrays = {n: np.concatenate([getattr(part, n) for part in parts]) for n in names}
        return cls(ids=tuple(each for part in parts for each in part.ids), **arrays)

    @property
    def labelled(self) -> Collected:
        known = self.labels != NONE
        return self if known.all() else self.part(known)


@dataclass(frozen=True)
class Reader:
    """Reads a collection page by page. `names` collects what the numbers of labels mean.

    `group` and `patient` are fields, or None. Raises StoreUnavailable, and InvalidQuery for a
    filter that the store does not take.
    """

    store: Store
    label: str
    group: str | None
    filter: Filter | None
    names: dict[int, str]
    patient: str | None = None

    def sample(self, size: int, seed: int, check: Check = never) -> Collected:
        """About the first `size` images from a random place on, in the order of point ids.

        Point ids are hashes of image ids, so this is a random sample of the images.
        """
        start = UUID(int=Random(seed).getrandbits(128), version=5)
        found: list[Record] = []
        for page in chain(self._pages(start), self._pages(None)):
            check()
            found += page
            if len(found) >= size:
                break
        unique = {record.id: record for record in found}
        chosen = list(unique.values())[:size]
        parts = []
        for at in range(0, max(len(chosen), 1), PAGE):
            check()
            parts.append(self._collected(chosen[at : at + PAGE]))
        return Collected.joined(parts)

    def blocks(self) -> Iterator[Collected]:
        """All images, a page at a time."""
        for page in self._pages(None):
            yield self._collected(page)

    def _pages(self, cursor: UUID | None) -> Iterator[list[Record]]:
        while True:
            page, cursor = self.store.scroll(
                PAGE, filter=self.filter, cursor=cursor, vectors=True, scan=True
            )
            if page:
                yield page
            if cursor is None:
                return

    def _collected(self, records: Sequence[Record]) -> Collected:
        payloads = [record.payload for record in records]
        ids = tuple(str(payload["image_id"]) for payload in payloads)
        return Collected(
            ids=ids,
            keys=_numbers(number_of(each) for each in ids),
            vectors=_stacked(records),
            labels=_numbers(self._label(payload) for payload in payloads),
            groups=_numbers(self._group(payload) for payload in payloads),
            patients=_numbers(_identifier(payload, self.patient) for payload in payloads),
            digests=_numbers(_digest(payload) for payload in payloads),
            hashes=np.array([_hash(payload) for payload in payloads], np.uint8).reshape(
                len(records), HASH_BYTES
            ),
        )

    def _label(self, payload: Payload) -> int:
        value = payload.get(self.label)
        if value is None or isinstance(value, dict | list):
            return NONE
        number = number_of(str(value))
        self.names[number] = str(value)
        return number

    def _group(self, payload: Payload) -> int:
        found = _identifier(payload, self.group)
        return found if found != NONE else number_of(str(payload["image_id"]))


def number_of(text: str) -> int:
    """A hash of 63 bits, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _identifier(payload: Payload, field: str | None) -> int:
    value: Any = as_identifier(payload.get(field)) if field else None
    return NONE if value in (None, "") else number_of(f"{field}={value}")


def _digest(payload: Payload) -> int:
    text = payload.get(RESERVED, {}).get("sha256")
    return number_of(text) if text else NONE


def _numbers(found: Iterator[int] | Any) -> Numbers:
    return np.fromiter(found, np.int64)


def _stacked(records: Sequence[Record]) -> Vectors:
    vectors = [record.vector for record in records if record.vector is not None]
    return np.stack(vectors).astype(np.float32, copy=False) if vectors else np.zeros((0, 0), "f4")


def _hash(payload: Payload) -> NDArray[np.uint8]:
    text = payload.get(RESERVED, {}).get("phash") or ""
    if len(text) != 2 * HASH_BYTES:
        return np.zeros(HASH_BYTES, np.uint8)
    return np.frombuffer(bytes.fromhex(text), np.uint8)


def _masked(ids: tuple[str, ...], rows: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(each for each, kept in zip(ids, rows, strict=True) if kept)
