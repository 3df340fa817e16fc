"""Audits a collection's labels on a worker: reads it block by block, and writes what it finds.

A worker that is stopped or killed leaves nothing, and the next one begins anew: of the same images
it comes to the same findings. What waits in quarantine is not in the store, so it is never seen.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.base.errors import InvalidQuery
from pipeline.base.identity import is_identifier
from pipeline.evaluation.audit import Audit, Tick
from pipeline.evaluation.collected import Reader
from pipeline.ledger import JobLedger, Progress, WorkItem
from pipeline.lifecycle.audit_findings import Findings
from pipeline.lifecycle.audit_reports import LabelAudits
from pipeline.messages import RESERVED
from pipeline.messages.filters import Filter, IsEmptyCondition, PayloadField, json_path
from pipeline.messages.label_audits import Finding, LabelAuditReport, LabelAuditRequest
from pipeline.retrieval.fields import Fields
from pipeline.store import Store

COMPARED = 20_000  # images, unless the request says another number
PATIENT = "patient_id"

_TICK = 0.5  # seconds between two looks at whether the job was stopped


class Stopped(Exception):
    """The job or the worker is to stop."""


@dataclass(frozen=True)
class AuditJobs:
    """Raises InvalidQuery, NotFound, StoreUnavailable, LedgerUnavailable or BlobsUnavailable."""

    store: Store
    fields: Fields
    audits: LabelAudits
    jobs: JobLedger
    stopping: Callable[[], bool]

    def count(self, audit: str) -> int:
        """How many images are to be compared."""
        request = self.audits.request(audit)
        self._check(request)
        reader = self._reader(request)
        if not self._is_labelled(reader):
            raise InvalidQuery("No image has this field, of those that are audited.", ("label",))
        return min(request.sample or COMPARED, self.store.count(reader.filter))

    def _is_labelled(self, reader: Reader) -> bool:
        is_empty = IsEmptyCondition(is_empty=PayloadField(key=json_path(reader.label)))
        both = Filter(must=(reader.filter,) if reader.filter else (), must_not=(is_empty,))
        cursor = None
        while True:
            page, cursor = self.store.scroll(1, filter=both, cursor=cursor, scan=True)
            if page or cursor is None:
                return bool(page)

    def run(self, item: WorkItem) -> bool:
        """False: the job or the worker was stopped."""
        audit, tick = item.lease.job, _Tick(self, item)
        if self.audits.report(audit) is None:  # else an earlier try was killed at its very end
            request = self.audits.request(audit)
            try:
                tick(0)
                report, findings = self._audit(request, item.stop, tick)
            except Stopped:
                return False
            self.audits.write(audit, report, findings)
        done = Progress(item.stop, item.stop, {"audited": item.stop})
        if not self.jobs.checkpoint(item.lease, done):
            return False
        self.jobs.finish(item.lease)
        return True

    def _audit(
        self, request: LabelAuditRequest, most: int, tick: Tick
    ) -> tuple[LabelAuditReport, list[Finding]]:
        reader = self._reader(request)
        queries = reader.sample(most, request.seed, lambda: tick(0))
        compared = Audit(reader, queries, self.store.count(reader.filter), tick)
        found = Findings(reader, request.most, compared.check)
        found.add_copies(compared.copies())
        found.add_suspects(*compared.suspects(request.neighbours, request.most))
        report = LabelAuditReport(
            created_at=datetime.now(UTC),
            label=request.label,
            group=reader.group,
            filtered=request.filter is not None,
            neighbours=request.neighbours,
            images=compared.read,
            compared=len(queries),
            labelled=compared.judged,
            dropped=found.dropped,
        )
        return report, found.all()

    def _check(self, request: LabelAuditRequest) -> None:
        if request.label == RESERVED or is_identifier(request.label):
            raise InvalidQuery("A label is what several images share, no identifier.", ("label",))
        self.fields.check(request.label, ("label",), scan=True)
        if request.group is not None:
            self.fields.check(request.group, ("group",), scan=True)

    def _reader(self, request: LabelAuditRequest) -> Reader:
        condition = self.fields.originals.filter(request.filter)
        self.fields.check_filter(condition, scan=True)
        group = request.group or self.fields.lesion
        return Reader(self.store, request.label, group, condition, {}, PATIENT)


class _Tick:
    """Tells the ledger how far the work has come, as a share, and raises Stopped if it is to end.

    The cursor stays where it is: another worker would begin anew.
    """

    def __init__(self, audits: AuditJobs, item: WorkItem) -> None:
        self._audits, self._item, self._due = audits, item, 0.0

    def __call__(self, share: float) -> None:
        if time.monotonic() < self._due:
            return
        done = int(min(share, 1) * self._item.stop)
        progress = Progress(0, 0, {"audited": done} if done else {})
        going = self._audits.jobs.checkpoint(self._item.lease, progress)
        if not going or self._audits.stopping():
            raise Stopped
        self._due = time.monotonic() + _TICK
