"""Label audit: finds images that are the same under different labels, and wrong labels.

It is a job that reads the collection block by block. It changes no image; a person decides on each
finding (`api/routes/label_audits.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.messages.label_audits import LabelAuditRequest
from pipeline.operations.base import JobRun, Operation, Plan
from pipeline.operations.job import JobView

if TYPE_CHECKING:
    from pipeline.ledger import WorkItem
    from pipeline.operations.context import Context


def _plan(context: Context, item: WorkItem) -> Plan:
    """One shard: each image is compared with all."""
    total = context.audit_jobs.count(item.lease.job)
    return Plan(total, shard_size=max(1, total))


def _work(context: Context, item: WorkItem) -> bool:
    return context.audit_jobs.run(item)


LABEL_AUDIT = Operation(
    "label_audit", LabelAuditRequest, JobView, "ingest", "job", JobRun(_plan, _work)
)
