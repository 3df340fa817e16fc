"""Makes findings of what an audit has found, with labels and groups as the store has them now."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice

from pipeline.base.identity import point_id
from pipeline.evaluation.audit import Suspect
from pipeline.evaluation.collected import Reader
from pipeline.evaluation.stopping import Check, never
from pipeline.images.hashes import hash_distance
from pipeline.messages import RESERVED
from pipeline.messages.label_audits import (
    KINDS,
    AuditedImage,
    Finding,
    FindingKind,
    Neighbour,
)
from pipeline.store import Record

# Pairs of copies that are looked up, to rank them.
_MOST_PAIRS = 20_000
_LOOKED_UP = 500  # in one call

Records = Mapping[str, Record]


@dataclass
class Findings:
    """`most` of each kind are kept, the best first; `dropped` counts the others."""

    reader: Reader
    most: int
    check: Check = never
    dropped: dict[FindingKind, int] = field(default_factory=dict)
    _kept: dict[FindingKind, list[Finding]] = field(default_factory=dict)

    def add_copies(self, pairs: Sequence[tuple[str, str]]) -> None:
        found = [each for page in _pages(pairs[:_MOST_PAIRS]) for each in self._copies(page)]
        for kind in ("conflicting_copies", "copies"):
            ranked = sorted((each for each in found if each.kind == kind), key=_nearest_first)
            self._keep(kind, ranked, len(ranked))
        self.dropped["copies"] += max(0, len(pairs) - _MOST_PAIRS)

    def add_suspects(self, suspects: Sequence[Suspect], count: int) -> None:
        """`count` is how many there are in all."""
        found = [each for page in _pages(suspects) for each in self._unlike(page)]
        self._keep("unlike_neighbours", found, count)

    def all(self) -> list[Finding]:
        """In the order in which they are listed, each with its place and rank."""
        ranked = (
            each.model_copy(update={"rank": rank})
            for kind in KINDS
            for rank, each in enumerate(self._kept.get(kind, ()), 1)
        )
        return [each.model_copy(update={"place": place}) for place, each in enumerate(ranked)]

    def _keep(self, kind: FindingKind, ranked: list[Finding], count: int) -> None:
        self._kept[kind] = ranked[: self.most]
        self.dropped[kind] = max(0, count - self.most)

    def _copies(self, pairs: Sequence[tuple[str, str]]) -> Iterator[Finding]:
        records = self._records({image for pair in pairs for image in pair}, vectors=True)
        for pair in pairs:
            if all(image in records for image in pair):  # else it was deleted just now
                yield self._copy(*(records[image] for image in sorted(pair)))

    def _copy(self, one: Record, other: Record) -> Finding:
        images = (self._image(one), self._image(other))
        conflict = None not in (images[0].label, images[1].label)
        conflict = conflict and images[0].label != images[1].label
        hashes = [each.payload.get(RESERVED, {}).get("phash") for each in (one, other)]
        digests = [each.payload.get(RESERVED, {}).get("sha256") for each in (one, other)]
        assert one.vector is not None and other.vector is not None  # noqa: S101
        return Finding(
            id=_id("copies", images),
            kind="conflicting_copies" if conflict else "copies",
            place=0,
            rank=0,
            images=images,
            evidence=round(float(one.vector @ other.vector), 6),
            same_bytes=digests[0] is not None and digests[0] == digests[1],
            hash_distance=hash_distance(*hashes) if all(hashes) else None,
        )

    def _unlike(self, suspects: Sequence[Suspect]) -> Iterator[Finding]:
        ids = {each.image_id for each in suspects}
        ids |= {image for each in suspects for image, _ in each.neighbours}
        records = self._records(ids)
        for each in suspects:
            if each.image_id not in records:
                continue
            images = (self._image(records[each.image_id]),)
            yield Finding(
                id=_id("label", images),
                kind="unlike_neighbours",
                place=0,
                rank=0,
                images=images,
                evidence=round(each.evidence, 4),
                suggested=each.suggested,
                neighbours=tuple(self._neighbours(each, records)),
            )

    def _neighbours(self, suspect: Suspect, records: Records) -> Iterator[Neighbour]:
        for image_id, score in suspect.neighbours:
            if image_id in records:
                image = self._image(records[image_id])
                yield Neighbour(**dict(image), similarity=round(score, 6))

    def _image(self, record: Record) -> AuditedImage:
        payload, group = record.payload, self.reader.group
        return AuditedImage(
            image_id=str(payload["image_id"]),
            label=_text(payload.get(self.reader.label)),
            group=_text(payload.get(group)) if group else None,
        )

    def _records(self, image_ids: Iterable[str], *, vectors: bool = False) -> dict[str, Record]:
        self.check()
        points = [point_id(image_id) for image_id in image_ids]
        found = self.reader.store.retrieve(points, vectors=vectors).values()
        return {str(record.payload["image_id"]): record for record in found}


def _id(what: str, images: Sequence[AuditedImage]) -> str:
    """Of these images with these labels, whatever the rest of the finding says."""
    named = "\0".join(f"{each.image_id}\0{each.label}" for each in images)
    return blake2b(f"{what}\0{named}".encode(), digest_size=16).hexdigest()


def _nearest_first(finding: Finding) -> tuple[bool, int, float, str]:
    distance = finding.hash_distance if finding.hash_distance is not None else 0
    return not finding.same_bytes, distance, -finding.evidence, finding.id


def _text(value: object) -> str | None:
    return None if value is None or isinstance(value, dict | list) else str(value)


def _pages(items: Sequence[object] | Iterable[object]) -> Iterator[list]:  # type: ignore[type-arg]
    left = iter(items)
    while page := list(islice(left, _LOOKED_UP)):
        yield page
