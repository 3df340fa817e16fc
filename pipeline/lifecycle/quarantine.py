"""Quarantine: images that can have a patient's name in their pixels wait until a person has looked.

They are decoded and not embedded, so no search finds them. An admin releases them, with parts made
black or not, or refuses them (`api/routes/quarantine.py`). Each step can be repeated:

    1. the ledger knows the image as unfinished, and deletions find it by its tombstone keys
    2. its blobs are written, `image.json` last
    3. the ledger lists it
    4. the worker looks for deletions that came meanwhile

It leaves in the opposite order: off the list, its blobs, the rest. (Rows that were in flight when a
worker died are called quarantined as well, in the ledger; in code, images here are `withheld`.)
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, wait
from dataclasses import dataclass

from pipeline.base.blobs import QUARANTINE, Blobs, withheld_folder
from pipeline.base.identity import point_id
from pipeline.ledger import Lease
from pipeline.ledger.withheld import WithheldLedger, name_of
from pipeline.lifecycle.tombstone_keys import tombstone_keys
from pipeline.messages import RESERVED, Payload, WithheldImage
from pipeline.sources.quarantine import KNOWN, PICTURE, PREVIEW, read_withheld

REFUSED = (
    "An admin has refused this picture; `kindred quarantine allow` with the image's id takes that"
    " back."
)

# In seconds. What a kill left half written or half deleted is deleted after an hour: a job that
# is to go on with it has done so by then, or writes it anew.
_LEFT_AGE = 3600.0
_PAGE = 500


@dataclass(frozen=True)
class Waiting:
    """An image with the files that are to be stored of it: a PNG and a JPEG."""

    image: WithheldImage
    picture: bytes
    preview: bytes

    @property
    def name(self) -> str:
        return name_in_quarantine(self.image.image_id, self.image.sha256)

    @property
    def keys(self) -> list[str]:
        return tombstone_keys(self.image.image_id, dict(self.image.metadata))


@dataclass(frozen=True)
class Quarantine:
    """Every method raises LedgerUnavailable or BlobsUnavailable."""

    blobs: Blobs
    ledger: WithheldLedger

    def put(self, lease: Lease, images: Sequence[Waiting], writers: Executor) -> bool:
        """Whether they wait now. False: the lease is lost, and nothing is left of them."""
        named = {each.name: each for each in images}
        begun = {name: (each.image.reason, each.keys) for name, each in named.items()}
        if not self.ledger.begin(lease, begun):
            return False
        writes = [writers.submit(self._write, each) for each in images]
        wait(writes)
        for write in writes:
            write.result()
        replaced = self.ledger.add(lease, [*named])
        if replaced is None:
            self._delete_blobs([*named.keys() - self.ledger.known([*named])])
            return False
        self.remove(replaced)
        return True

    def describe(self, image: WithheldImage) -> None:
        """Says something else of an image that waits."""
        name = name_in_quarantine(image.image_id, image.sha256)
        self.blobs.write(f"{withheld_folder(name)}/{KNOWN}", image.model_dump_json().encode())

    def known(self, name: str) -> WithheldImage | None:
        return read_withheld(self.blobs, name)

    def remove(self, names: Sequence[str]) -> None:
        """Deletes all that there is of them; missing ones are no error."""
        self.ledger.unlist(names)
        self._delete_blobs(names)
        self.ledger.forget(names)

    def refuse(self, names: Sequence[str]) -> None:
        """Raises NotFound and Conflict, and then does nothing."""
        self.ledger.refuse(names)
        self.remove(names)

    def found_by_keys(self, keys: Sequence[str]) -> Iterator[tuple[str, WithheldImage | None]]:
        """Names of images that have one of these tombstone keys, with what is known of them."""
        wanted = set(keys)
        for name in [*self.ledger.mentioning(keys)]:
            image = self.known(name)
            if image is None or not wanted.isdisjoint(_keys_of(image)):
                yield name, image

    def all(self) -> Iterator[tuple[str, WithheldImage | None]]:
        return ((name, self.known(name)) for name in [*self.ledger.all()])

    def sweep(self) -> None:
        """Deletes what kills and restores have left: blobs without entry, and the other way."""
        while names := self.ledger.unfinished(_LEFT_AGE, _PAGE):
            self.remove(names)
        for part in self.blobs.names(QUARANTINE):
            there = [folder.rpartition("/")[2] for folder in self.blobs.names(part)]
            unknown = set(there) - self.ledger.known(there)
            self._delete_blobs([name for name in unknown if self._is_old(name)])

    def _is_old(self, name: str) -> bool:
        """Of a folder that a worker has begun meanwhile, the blobs are new."""
        ages = [self.blobs.age(blob) for blob in self.blobs.names(withheld_folder(name))]
        return all(age is None or age > _LEFT_AGE for age in ages)

    def _write(self, each: Waiting) -> None:
        folder = withheld_folder(each.name)
        self.blobs.write(f"{folder}/{PICTURE}", each.picture)
        self.blobs.write(f"{folder}/{PREVIEW}", each.preview)
        self.describe(each.image)

    def _delete_blobs(self, names: Sequence[str]) -> None:
        for name in names:
            self.blobs.delete(withheld_folder(name))


def name_in_quarantine(image_id: str, sha256: str) -> str:
    return name_of(point_id(image_id), sha256)


def payload_of(image: WithheldImage) -> Payload:
    """What the index would say of it, for a filter."""
    return {**image.metadata, "image_id": image.image_id, RESERVED: dict(image.source)}


def _keys_of(image: WithheldImage) -> list[str]:
    return tombstone_keys(image.image_id, dict(image.metadata))
