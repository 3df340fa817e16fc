"""Reads what an evaluation needs of a collection: vectors, labels, groups, perceptual hashes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from pipeline.messages import RESERVED, Payload
from pipeline.messages.filters import Filter
from pipeline.store import Record, Store, Vectors

PAGE = 1000  # points in one call
HASH_BYTES = 32


@dataclass(frozen=True)
class Collected:
    """Images of a collection, `n` of them, in the order of their point ids.

    `vectors` float32 (n, dimensions), of length 1; `labels` and `groups` int64 (n,), a hash of the
    field's value: equal numbers mean equal values. An image without a label has -1; one without a
    group is a group of its own. `hashes` uint8 (n, 32), of zeros where the image has none.
    """

    ids: tuple[str, ...]
    vectors: Vectors
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    hashes: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Reader:
    """Reads a collection page by page. `names` collects what the numbers of labels mean.

    Raises StoreUnavailable, and InvalidQuery for a filter that the store does not take.
    """

    store: Store
    label: str
    group: str | None
    filter: Filter | None
    names: dict[int, str]

    def sample(self, size: int, seed: int) -> Collected:
        """About the first `size` images from a random place on, in the order of point ids.

        Point ids are hashes of image ids, so this is a random sample of the images.
        """
        start = UUID(int=Random(seed).getrandbits(128), version=5)
        found: list[Record] = []
        for page in self._pages(start):
            found += page
            if len(found) >= size:
                break
        else:
            for page in self._pages(None):
                found += page
                if len(found) >= size:
                    break
        unique = {record.id: record for record in found}
        return self._collected(list(unique.values())[:size])

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
        return Collected(
            ids=tuple(str(payload["image_id"]) for payload in payloads),
            vectors=_stacked(records),
            labels=np.array([self._label(payload) for payload in payloads], np.int64),
            groups=np.array([self._group(payload) for payload in payloads], np.int64),
            hashes=np.array([_hash(payload) for payload in payloads], np.uint8).reshape(
                len(records), HASH_BYTES
            ),
        )

    def _label(self, payload: Payload) -> int:
        value = payload.get(self.label)
        if value is None or isinstance(value, dict | list):
            return -1
        number = _number(str(value))
        self.names[number] = str(value)
        return number

    def _group(self, payload: Payload) -> int:
        value = payload.get(self.group) if self.group else None
        return _number(f"{self.group}={value}" if value is not None else str(payload["image_id"]))


def _stacked(records: Sequence[Record]) -> Vectors:
    vectors = [record.vector for record in records if record.vector is not None]
    return np.stack(vectors).astype(np.float32, copy=False) if vectors else np.zeros((0, 0), "f4")


def _number(text: str) -> int:
    """A hash of 63 bits, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _hash(payload: Payload) -> NDArray[np.uint8]:
    text = payload.get(RESERVED, {}).get("phash") or ""
    if len(text) != 2 * HASH_BYTES:
        return np.zeros(HASH_BYTES, np.uint8)
    return np.frombuffer(bytes.fromhex(text), np.uint8)
