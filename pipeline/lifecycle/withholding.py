"""Which rows of a batch go to quarantine instead of the index, and with what."""

import io
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pipeline.dicom.burned_in import proposed
from pipeline.dicom.errors import Refused
from pipeline.dicom.reading import read_header
from pipeline.images.decoding import is_dicom
from pipeline.images.preparing import Prepared
from pipeline.images.text_detector import TextDetector
from pipeline.ledger import Lease
from pipeline.lifecycle.quarantine import Quarantine, Waiting, name_in_quarantine
from pipeline.lifecycle.rows import Batch, Candidate, Found, Identified
from pipeline.messages import MOST_RECTANGLES, Rectangle, WithheldImage
from pipeline.sources.base import Row, Source

TEXT_FOUND = "text was found in its pixels"

Ocr = Literal["off", "suspect", "all"]


@dataclass(frozen=True)
class Suspect:
    """A decoded row that must wait, why, and where text is known or was found."""

    candidate: Candidate
    prepared: Prepared
    reason: str
    rectangles: tuple[Rectangle, ...] = ()


@dataclass(frozen=True)
class Withholding:
    """`ocr` says where text is looked for: nowhere, in what waits, or in each DICOM image."""

    quarantine: Quarantine
    detector: TextDetector
    ocr: Ocr = "suspect"

    def look(self, rows: Sequence[Identified]) -> Found:
        """What quarantine knows of these rows' pictures."""
        names = {_name(each): each.id for each in rows if each.row.fault is None}
        waiting, refused = self.quarantine.ledger.look([*names])
        known = {names[name]: self.quarantine.known(name) for name in waiting}
        whole = {point: image for point, image in known.items() if image is not None}
        return Found(whole, {names[name] for name in refused})

    def stays(self, row: Row, waiting: WithheldImage | None) -> bool:
        """Whether a picture that waits goes on waiting: a release, or a setting, ends that."""
        if waiting is None or row.provenance is not None:
            return False
        return row.hold is not None or (waiting.reason == TEXT_FOUND and self.ocr == "all")

    def wants_picture(self, row: Row) -> bool:
        """Whether it may have to wait, and be seen as a whole."""
        return row.hold is not None or (self.ocr == "all" and is_dicom(row.data))

    def divide(
        self, decoded: Sequence[tuple[Candidate, Prepared]], threads: Executor
    ) -> tuple[list[tuple[Candidate, Prepared]], list[Suspect]]:
        """Those to be embedded, and those that must wait. It looks for text side by side."""
        seen = [(c, p) for c, p in decoded if p.picture]
        suspect = [each for each in threads.map(self._suspect, seen) if each is not None]
        held = {each.candidate.id for each in suspect}
        return [(c, p) for c, p in decoded if c.id not in held], suspect

    def put(
        self, lease: Lease, source: Source, suspect: Sequence[Suspect], threads: Executor
    ) -> bool:
        """Whether they wait now; False: the lease is lost."""
        if not suspect:
            return True
        made = [_waiting(each, source, lease.job) for each in suspect]
        return self.quarantine.put(lease, made, threads)

    def describe(self, again: Sequence[tuple[Identified, WithheldImage]]) -> None:
        """Those that wait already, as their rows describe them now."""
        for _, image in again:
            self.quarantine.describe(image)

    def end(self, indexed: Sequence[Identified], batch: Batch) -> None:
        """They are indexed now, from the picture that waited."""
        self.remove([each for each in indexed if each.id in batch.quarantined.waiting])

    def remove(self, rows: Sequence[Identified]) -> None:
        if rows:
            self.quarantine.remove([_name(each) for each in rows])

    def _suspect(self, seen: tuple[Candidate, Prepared]) -> Suspect | None:
        candidate, prepared = seen
        text = [] if self.ocr == "off" else self.detector.find(prepared.picture)
        reason = candidate.row.hold or (TEXT_FOUND if text else None)
        if reason is None:
            return None
        places = [*_proposed(candidate.row, prepared), *text][:MOST_RECTANGLES]
        rectangles = tuple(
            Rectangle(left=x, top=y, width=width, height=height) for x, y, width, height in places
        )
        return Suspect(candidate, prepared, reason, rectangles)


def _name(each: Identified) -> str:
    return name_in_quarantine(each.image_id, each.digest)


def _proposed(row: Row, prepared: Prepared) -> list[tuple[int, int, int, int]]:
    """Where this machine writes names, as far as that is known."""
    if not is_dicom(row.data):
        return []
    try:
        return proposed(read_header(io.BytesIO(row.data)), prepared.width, prepared.height)
    except Refused:
        return []


def _waiting(each: Suspect, source: Source, job: str) -> Waiting:
    candidate, prepared = each.candidate, each.prepared
    image = WithheldImage(
        image_id=candidate.identified.image_id,
        sha256=candidate.identified.digest,
        reason=each.reason,
        job=job,
        time=datetime.now(UTC),
        metadata=candidate.metadata,
        source=source.provenance(),
        width=prepared.width,
        height=prepared.height,
        pixels=prepared.rule,
        rectangles=each.rectangles,
    )
    return Waiting(image, prepared.picture, prepared.preview)
