"""Delete: deletes images, a lesion or a patient, or all images that match a filter, for good.

When the job has succeeded, nothing of them is left: see `_leave_nothing`.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from pipeline.base.blobs import request_folder
from pipeline.base.errors import StoreUnavailable, Unavailable
from pipeline.base.states import JobState
from pipeline.ledger import Progress
from pipeline.lifecycle.receipts import DeleteRequest
from pipeline.messages import Message, Problem
from pipeline.operations.base import JobRun, Operation, Plan

if TYPE_CHECKING:
    from pipeline.ledger import WorkItem
    from pipeline.operations.context import Context

logger = logging.getLogger("kindred.delete")

# Images up to which the store is rewritten at the end of each deletion. A larger one is rewritten
# by the hourly sweep, for all deletions of the hour.
PURGE_AT_ONCE = 20_000


class _Stopping(Unavailable):
    title = "The worker stops"


class DeletionView(Message):
    """`count` and `image_ids` are set when it has succeeded.

    They include images that a running job brought later, and that were then deleted as well.
    """

    id: str
    state: JobState
    final: bool
    total: int | None = None
    deleted: int = 0
    count: int | None = None
    image_ids: tuple[str, ...] | None = None
    error: Problem | None = None


def _plan(context: Context, item: WorkItem) -> Plan:
    """One shard, since one thread deletes the pages one after the other."""
    deletion = item.lease.job
    request = context.deletions.receipts.request(deletion)
    if request is not None:
        total = context.deletions.plan(deletion, request)
    else:  # it is forgotten, by a worker that died then, or before a retry: go by its pages
        total = context.deletions.receipts.planned_total(deletion)
    if not total:
        _leave_nothing(context, deletion)
    return Plan(total, shard_size=max(1, total))


def _work(context: Context, item: WorkItem) -> bool:
    deletion, jobs, row = item.lease.job, context.ledger.jobs, item.progress.cursor
    while row < item.stop:
        page = context.deletions.receipts.planned_page(deletion, row)
        context.sweep.label_audits.forget(page)
        context.deletions.delete(page)
        row += len(page)
        going = jobs.checkpoint(item.lease, Progress(row, row, {"deleted": row}))
        if not going or context.stopping():
            return False
    _leave_nothing(context, deletion)
    jobs.finish(item.lease)
    return True


def _leave_nothing(context: Context, deletion: str) -> None:
    """Deletes what else contains the images or their metadata. Safe to repeat.

    - The answers of finished searches; a search that began before is run again (`advance_epoch`).
    - Uploads that were recognised or rejected.
    - Findings of label audits.
    - The request itself, unless it has a filter, which running jobs must still apply.
    - The bytes in the store's files.
    """
    ledger = context.ledger
    context.store.flush()
    ledger.tombstones.advance_epoch()
    for request in ledger.requests.finished():
        context.blobs.delete(request_folder(request))
    context.sweep.uploads.forget_deleted()
    context.sweep.label_audits.forget_deleted()
    receipts = context.deletions.receipts
    request_left = receipts.request(deletion)
    if request_left is not None and request_left.wanted.filter is None:
        receipts.forget_request(deletion)
    if context.store.count() <= PURGE_AT_ONCE:
        _purge(context)


def _purge(context: Context) -> None:
    """Without room on the disk it stays due, and the sweep tries again."""
    try:
        context.store.purge(partial(_refuse_to_keep_waiting, context))
    except StoreUnavailable as error:
        logger.warning("the store's files keep what was deleted", extra={"reason": str(error)})


def _refuse_to_keep_waiting(context: Context) -> None:
    """A purge can take half a minute, and a worker that is to stop has less."""
    if context.stopping():
        raise _Stopping("The next worker goes on.")


DELETE = Operation("delete", DeleteRequest, DeletionView, "deletion", "job", JobRun(_plan, _work))
