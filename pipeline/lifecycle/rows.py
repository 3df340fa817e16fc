"""What becomes of rows: what is known of each before its image is decoded, and its outcome.

Of two rows of a job with one image id, the first has it. The second is unchanged if it is the same
picture and says the same; otherwise it is rejected and names the first, since one of them is wrong.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from pipeline.base.identity import point_id, sha256
from pipeline.images.decoding import Unusable
from pipeline.images.preparing import Prepared
from pipeline.ledger import JobLedger, WorkItem
from pipeline.lifecycle.tombstone_keys import tombstone_keys
from pipeline.messages import RESERVED, Payload, WithheldImage
from pipeline.sources.base import Row
from pipeline.sources.metadata import described_by, merged

SAME_ID = "Row {row} of this job has the same id and another picture."
SAME_PICTURE = "Row {row} of this job is the same picture, and its metadata say otherwise."
SAME_ID_ELSEWHERE = "Row {row} of job {job}, of this upload, has the same id and another picture."
SAME_PICTURE_ELSEWHERE = (
    "Row {row} of job {job}, of this upload, is the same picture, and its metadata say otherwise."
)


Kind = Literal["embedded", "updated", "unchanged", "rejected", "quarantined"]


@dataclass(frozen=True)
class Outcome:
    """What became of one row: every row of a batch has exactly one."""

    row: int
    image_id: str
    kind: Kind
    reason: str = ""


@dataclass(frozen=True)
class Identified:
    """A row, its image id, the SHA-256 of its bytes, its point, and its tombstone keys."""

    row: Row
    image_id: str
    digest: str
    id: UUID
    tombstone_keys: list[str]

    def outcome(self, kind: Kind, reason: str = "") -> Outcome:
        return Outcome(self.row.number, self.image_id, kind, reason)


@dataclass(frozen=True)
class Candidate:
    """A row to be embedded; `prepared` is being decoded.

    `metadata` is what the index will say. A `repeat` of an earlier row is decoded and not embedded.
    """

    identified: Identified
    prepared: Future[Prepared | Unusable]
    metadata: Payload
    repeat: bool = False
    replaced: str | None = None  # the upload that the indexed image was made from

    @property
    def id(self) -> UUID:
        return self.identified.id

    @property
    def row(self) -> Row:
        return self.identified.row

    @property
    def blob(self) -> str | None:
        """The file that its image is made from, if it stays."""
        return self.row.blob or self.row.original

    def outcome(self, kind: Kind, reason: str = "") -> Outcome:
        return self.identified.outcome(kind, reason)


@dataclass(frozen=True)
class Found:
    """What quarantine knows of a batch's pictures: those that wait there, and those refused."""

    waiting: Mapping[UUID, WithheldImage] = field(default_factory=dict)
    refused: AbstractSet[UUID] = frozenset()


@dataclass
class Batch:
    """Rows [start, stop) in flight. `outcomes` belong to rows that need no embedding."""

    start: int
    stop: int
    candidates: list[Candidate] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    payloads: dict[UUID, Payload] = field(default_factory=dict)
    orphaned: list[str] = field(default_factory=list)  # uploads that no image is made from
    quarantined: Found = field(default_factory=Found)
    # Those that wait there already, as their rows describe them now.
    again: list[tuple[Identified, WithheldImage]] = field(default_factory=list)


def identify(row: Row) -> Identified:
    digest = row.sha256 or sha256(row.data)
    image_id = row.image_id or digest
    keys = tombstone_keys(image_id, row.metadata)
    for former in row.former:
        keys += tombstone_keys(former["image_id"], dict(former))
    return Identified(row, image_id, digest, point_id(image_id), keys)


def claim(
    jobs: JobLedger, item: WorkItem, upload: str | None, rows: Sequence[Identified]
) -> list[str | None]:
    """For each row the reason to reject it, "" for the first of its image, None for a repeat.

    A row that is rejected for its own sake claims nothing.
    """
    job = item.lease.job if upload else "-"  # a job's own claims need not name it, row by row
    own = [_claim_of(job, each) for each in rows]
    claims = {
        each.id.hex: text
        for each, text in reversed([*zip(rows, own, strict=True)])
        if each.row.fault is None
    }
    holders = dict(zip(claims, jobs.claim_ids(upload or item.lease.job, claims), strict=True))
    found = zip(rows, own, strict=True)
    return [
        "" if each.row.fault is not None else _judged(text, holders[each.id.hex])
        for each, text in found
    ]


def _claim_of(job: str, each: Identified) -> str:
    said = hashlib.sha256(json.dumps(each.row.metadata, sort_keys=True).encode()).hexdigest()
    return f"{job} {each.row.number} {each.digest[:16]} {said[:8]}"


def _judged(own: str, holder: str) -> str | None:
    if own == holder:
        return ""
    job, row, digest, said = holder.split(" ")
    our_job, our_row, our_digest, our_said = own.split(" ")
    if (job, row) == (our_job, our_row):
        return ""  # the row itself, read again: its file has changed meanwhile
    elsewhere = job != our_job
    if digest != our_digest:
        return (SAME_ID_ELSEWHERE if elsewhere else SAME_ID).format(row=row, job=job)
    if said != our_said:
        return (SAME_PICTURE_ELSEWHERE if elsewhere else SAME_PICTURE).format(row=row, job=job)
    return None


def described(row: Row, image_id: str, known: Payload | None) -> Payload:
    """What the index is to say of an image. `known` is what it says now, unless that is replaced.

    A field that the row does not mention stays as it is.
    """
    said = described_by(row.metadata, image_id)
    kept = {n: v for n, v in (known or {}).items() if n not in (RESERVED, "image_id")}
    return merged(kept, said)


def recognise(
    batch: Batch, item: WorkItem, each: Identified, metadata: Payload, stored: Payload
) -> None:
    """Counts an indexed row, and updates what the index says of it."""
    source = stored[RESERVED]
    row = each.row
    mark = f"{item.lease.job}#{row.number}"
    if row.blob is not None and row.blob != source.get("blob"):
        batch.orphaned.append(row.blob)
    # If this job embedded or updated it before it was interrupted, that is what it counts as.
    ours = source.get("job") == item.lease.job and source.get("row") == row.number
    if not _same({**metadata, RESERVED: source}, stored):
        batch.payloads[each.id] = {**metadata, RESERVED: {**source, "updated": mark}}
        batch.outcomes.append(each.outcome("embedded" if ours else "updated"))
    elif ours:
        batch.outcomes.append(each.outcome("embedded"))
    else:
        updated = source.get("updated") == mark
        batch.outcomes.append(each.outcome("updated" if updated else "unchanged"))


def _same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)
