"""Images in quarantine: which wait, which are being released, and which pictures were refused."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from pipeline.base.errors import Conflict, NotFound
from pipeline.ledger.connection import reachable
from pipeline.ledger.records import Lease
from pipeline.ledger.replies import named
from pipeline.ledger.script import Script
from pipeline.ledger.uploads import digest_of, digests_in, digests_of

_CALL = 500  # names or points in one call
_DIGEST = 32  # hex digits of a picture's SHA-256 that are in a name


def name_of(point: UUID, sha256: str) -> str:
    """Of an image's picture in quarantine. The same image can be made of another file later."""
    return f"{point.hex}-{sha256[:_DIGEST]}"


def point_of(name: str) -> UUID:
    return UUID(name.partition("-")[0])


@dataclass(frozen=True)
class Withheld:
    """An image that waits. `releasing` is the job that embeds it now. `place` is that in the list.

    Nothing of it is a patient's: `reason` is a constant, and what is known of the image is a blob.
    """

    name: str
    place: int
    reason: str
    job: str
    releasing: str | None = None

    @property
    def point(self) -> UUID:
        return point_of(self.name)


class WithheldLedger:
    """Every method raises LedgerUnavailable.

    About 300 bytes of Redis for each image that waits.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._key = script.key("withheld")

    def begin(self, lease: Lease, images: Mapping[str, tuple[str, Sequence[str]]]) -> bool:
        """Their blobs are written next. Each has a reason and its tombstone keys.

        False: the lease is lost, and nothing is to be written.
        """
        args: list[str] = []
        for name, (reason, keys) in images.items():
            entry = {"reason": reason, "job": lease.job, "keys": digests_of(keys)}
            args += [name, json.dumps(entry)]
        return bool(self._script("begin_withholding", *_args(lease), *args))

    def add(self, lease: Lease, names: Sequence[str]) -> list[str] | None:
        """Their blobs are whole. The names that they replace; None: the lease is lost."""
        reply = named(self._script("withhold", *_args(lease), *names))
        return None if "error" in reply else list(reply["replaced"])

    def unlist(self, names: Sequence[str]) -> None:
        """Nobody sees them any more. Delete their blobs next, then `forget` them."""
        self._in_parts("unlist_withheld", names)

    def forget(self, names: Sequence[str]) -> None:
        self._in_parts("forget_withheld", names)

    def page(self, after: int, limit: int) -> list[Withheld]:
        """In the order in which they came, those behind this place."""
        return [_withheld(each) for each in self._script("list_withheld", after, limit)]

    def find(self, points: Sequence[UUID]) -> dict[UUID, Withheld]:
        """Those that wait."""
        found: list[Withheld] = []
        for start in range(0, len(points), _CALL):
            part = [point.hex for point in points[start : start + _CALL]]
            found += map(_withheld, self._script("find_withheld", *part))
        return {each.point: each for each in found}

    def names_of(self, points: Sequence[UUID]) -> list[str]:
        """All names of these points, also of those whose blobs are being written or deleted."""
        found: list[str] = []
        for start in range(0, len(points), _CALL):
            part = [point.hex for point in points[start : start + _CALL]]
            with reachable():
                texts = self._script.redis.hmget(f"{self._key}:points", part)
            found += [name for text in texts if text for name in text.split()]
        return found

    def look(self, names: Sequence[str]) -> tuple[set[str], set[str]]:
        """Those of them that wait, and those whose picture an admin has refused."""
        if not names:
            return set(), set()
        with reachable():
            pipe = self._script.redis.pipeline(transaction=False)
            pipe.zmscore(self._key, names)
            pipe.hmget(f"{self._key}:refused", [name.partition("-")[2] for name in names])
            places, points = pipe.execute()
        waiting = {name for name, place in zip(names, places, strict=True) if place is not None}
        return waiting, {name for name, point in zip(names, points, strict=True) if point}

    def known(self, names: Sequence[str]) -> set[str]:
        """Those that have an entry, whatever becomes of them."""
        found: set[str] = set()
        for start in range(0, len(names), _CALL):
            part = names[start : start + _CALL]
            with reachable():
                entries = self._script.redis.hmget(f"{self._key}:entries", part)
            found |= {name for name, entry in zip(part, entries, strict=True) if entry is not None}
        return found

    def mentioning(self, keys: Sequence[str]) -> Iterator[str]:
        """Names of images that have one of these tombstone keys, and of hardly any other."""
        wanted = set(map(digest_of, keys))
        for name, entry in self._entries():
            if not wanted.isdisjoint(digests_in(entry["keys"])):
                yield name

    def all(self) -> Iterator[str]:
        """Every name that has an entry, in no order."""
        return (name for name, _ in self._entries())

    def count(self) -> int:
        """How many wait. It costs the same for any number."""
        with reachable():
            return int(self._script.redis.zcard(self._key))

    def release(self, names: Sequence[str], job: str, kind: tuple[str, str], request: str) -> None:
        """Creates the job of this operation and queue (`kind`) that embeds them.

        Raises NotFound if one of them does not wait, and Conflict if it is being released.
        """
        self._all_or_none("release_withheld", job, *kind, request, *names)

    def refuse(self, names: Sequence[str]) -> None:
        """Remembers their pictures. Delete their blobs next. Raises as `release` does."""
        self._all_or_none("refuse_withheld", *names)

    def allow(self, points: Sequence[UUID]) -> int:
        """Forgets that pictures of these images were refused. How many."""
        wanted = {point.hex for point in points}
        with reachable():
            refused = self._script.redis.hscan_iter(f"{self._key}:refused", count=1000)
            digests = [digest for digest, point in refused if point in wanted]
        return int(self._script("allow_refused", *digests)) if digests else 0

    def unfinished(self, age: float, limit: int) -> list[str]:
        """Some whose blobs were not wholly written or deleted for so many seconds."""
        found: list[str] = self._script("unfinished_withheld", age, limit)
        return found

    def _entries(self) -> Iterator[tuple[str, dict[str, str]]]:
        with reachable():
            for name, text in self._script.redis.hscan_iter(f"{self._key}:entries", count=1000):
                yield name, json.loads(text)

    def _in_parts(self, command: str, names: Sequence[str]) -> None:
        for start in range(0, len(names), _CALL):
            self._script(command, *names[start : start + _CALL])

    def _all_or_none(self, command: str, *args: str) -> None:
        reply = named(self._script(command, *args))
        if reply.get("error") == "unknown":
            raise NotFound("One of these images is not in quarantine any more.")
        if reply.get("error") == "releasing":
            raise Conflict(f"Job {reply['job']} releases one of these images already.")


def _args(lease: Lease) -> tuple[str, int, str]:
    return lease.job, lease.item, lease.token


def _withheld(reply: list[str]) -> Withheld:
    fields = named(reply)
    entry = json.loads(fields["entry"])
    return Withheld(
        fields["name"],
        int(float(fields["at"])),
        entry["reason"],
        entry["job"],
        fields.get("releasing"),
    )
