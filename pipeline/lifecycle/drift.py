"""Compares the images that a job has brought with those that were there, once, when it has ended.

It reads two samples: of the job, and of everything else. The work does not grow with the
collection. Images of one patient or lesion count once, since a job brings many that are alike.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np

from pipeline.base.blobs import Blobs
from pipeline.base.logs import where
from pipeline.evaluation.collected import number_of
from pipeline.evaluation.drift import Sample, corrected, difference, distances, is_drift
from pipeline.lifecycle.drift_reports import is_compared, now, read_drift, write_drift
from pipeline.messages import RESERVED, Payload
from pipeline.messages.drift import LEAST, DriftReport, GroupDrift
from pipeline.messages.filters import FieldCondition, Filter, Match

if TYPE_CHECKING:
    from pipeline.ledger import JobRecord
    from pipeline.store import Record, Store

logger = logging.getLogger("kindred.drift")

MOST = 200  # of a group that are compared
LEAST_REFERENCE = 50
MOST_REFERENCE = 500
POOL = 4000  # images in which the nearest are looked for
LEAST_POOL = 200
MOST_GROUPS = 10  # of a job, the largest

_LONGEST = 100  # characters of a value
_PAGE = 1000
_OWN = 2000  # images of the job that are read
_OTHERS = POOL + 2000
_PAGES = 50  # of a server that cannot look for a job's images and reads all instead

# By which images belong together: a sample has one of each.
_TOGETHER = ("patient_id", "study_id", "series_id")

Values = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DriftWatch:
    """`fields` are of devices and sites; `lesion` is that of a lesion."""

    store: Store
    blobs: Blobs
    fields: Sequence[str]
    lesion: str

    def look(self, job: JobRecord) -> None:
        """Writes the report, unless there is one. It fails no job: what goes wrong is logged."""
        if not is_compared(job):
            return
        try:
            if read_drift(self.blobs, job.id) is None:
                groups = tuple(self._groups(job.id))
                write_drift(self.blobs, job.id, DriftReport(created_at=now(), groups=groups))
        except Exception as error:  # noqa: BLE001 - nobody waits for it, and the job has ended
            logger.warning("drift unknown", extra={"job": job.id, "error": where(error)})

    def _groups(self, job: str) -> list[GroupDrift]:
        random = Random(job)
        others = self._others(job, random)
        if len(others) < LEAST_POOL + LEAST_REFERENCE:
            return []
        pooled = max(LEAST_POOL, min(POOL, len(others) - MOST_REFERENCE))
        pool = self._sample(others[:pooled])
        reference = self._once(others[pooled:])
        groups = self._by_values(self._once(self._own(job, random)))
        compared = [self._compared(each, groups[each], reference, pool) for each in groups]
        return _judged([each for each in compared if each is not None])

    def _compared(
        self, values: Values, new: Sequence[Record], reference: Sequence[Record], pool: Sample
    ) -> GroupDrift | None:
        own = [each for each in reference if _values(each.payload, self.fields) == values]
        is_own = bool(values) and len(own) >= LEAST_REFERENCE
        usual = (own if is_own else reference)[:MOST_REFERENCE]
        far = distances(self._sample(new[:MOST]), pool)
        usually = distances(self._sample(usual), pool)
        far, usually = far[np.isfinite(far)], usually[np.isfinite(usually)]
        if len(far) < LEAST or len(usually) < LEAST_REFERENCE:
            return None
        found = difference(far, usually)
        return GroupDrift(
            values=dict(values),
            sampled=len(far),
            reference=len(usually),
            own=is_own,
            beyond=found.beyond,
            gap=round(found.gap, 4),
            p_value=found.p_value,
            drifted=False,
        )

    def _by_values(self, records: Sequence[Record]) -> dict[Values, list[Record]]:
        """The largest groups of the job; what is too small for one is together."""
        found: dict[Values, list[Record]] = defaultdict(list)
        for record in records:
            found[_values(record.payload, self.fields)].append(record)
        ordered = sorted(found, key=lambda each: (-len(found[each]), each))
        large = [each for each in ordered if len(found[each]) >= LEAST][:MOST_GROUPS]
        rest = [record for each in ordered if each not in large for record in found[each]]
        named = {each: found[each] for each in large}
        return {**named, **({(): rest} if rest and () not in named else {})}

    def _own(self, job: str, random: Random) -> list[Record]:
        condition = FieldCondition(key=f"{RESERVED}.job", match=Match(value=job))
        return self._read(random, _OWN, lambda own: own == job, Filter(must=(condition,)))

    def _others(self, job: str, random: Random) -> list[Record]:
        return self._read(random, _OTHERS, lambda own: own != job)

    def _read(
        self,
        random: Random,
        most: int,
        wanted: Callable[[str | None], bool],
        condition: Filter | None = None,
    ) -> list[Record]:
        """Up to `most` images of wanted jobs. Point ids are hashes, so those that follow a random
        one are a random sample."""
        start = UUID(int=random.getrandbits(128), version=5)
        found: list[Record] = []
        for page in islice(self._pages(start, condition), _PAGES):
            found += [each for each in page if wanted(_job(each))]
            if len(found) >= most:
                break
        return found[:most]

    def _pages(self, start: UUID, condition: Filter | None) -> Iterator[list[Record]]:
        """All images once, from the start on and then those before it."""
        cursor: UUID | None = start
        while cursor is not None:
            page, cursor = self._page(cursor, condition)
            yield page
        while True:
            page, cursor = self._page(cursor, condition)
            yield [each for each in page if each.id < start]
            if cursor is None or cursor >= start:
                return

    def _page(
        self, cursor: UUID | None, condition: Filter | None
    ) -> tuple[list[Record], UUID | None]:
        return self.store.scroll(_PAGE, filter=condition, cursor=cursor, vectors=True, scan=True)

    def _once(self, records: Sequence[Record]) -> list[Record]:
        """The first image of each patient or lesion."""
        first: dict[int, Record] = {}
        for record in records:
            first.setdefault(self._group(record), record)
        return list(first.values())

    def _sample(self, records: Sequence[Record]) -> Sample:
        vectors = [each.vector for each in records if each.vector is not None]
        groups = np.array([self._group(each) for each in records], np.int64)
        return Sample(np.stack(vectors).astype(np.float32, copy=False), groups)

    def _group(self, record: Record) -> int:
        for field in (_TOGETHER[0], self.lesion, *_TOGETHER[1:]):
            value = record.payload.get(field)
            if value not in (None, "") and not isinstance(value, dict | list):
                return number_of(f"{field}={value}")
        return number_of(str(record.id))


def _job(record: Record) -> str | None:
    found: str | None = record.payload.get(RESERVED, {}).get("job")
    return found


def _values(payload: Payload, fields: Sequence[str]) -> Values:
    """Of devices and sites, those that it has; nothing that is long, or no plain value."""
    found = ((name, payload.get(name)) for name in fields)
    texts = ((name, str(value)) for name, value in found if isinstance(value, str | int))
    return tuple((name, text) for name, text in texts if 0 < len(text) <= _LONGEST)


def _judged(groups: Sequence[GroupDrift]) -> list[GroupDrift]:
    """With p values that are corrected for their number; the most unlike first."""
    p_values = corrected([each.p_value for each in groups])
    judged = [
        each.model_copy(update={"p_value": p, "drifted": is_drift(each.gap, p)})
        for each, p in zip(groups, p_values, strict=True)
    ]
    return sorted(judged, key=lambda each: (not each.drifted, -each.gap))
