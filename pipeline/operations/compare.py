"""Compare: evaluates several encoders on the same images, and changes nothing in the collection.

One shard, as an evaluation is: a worker that is stopped or killed leaves nothing, and the next one
begins anew.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.base.errors import InvalidQuery
from pipeline.base.states import JobState
from pipeline.evaluation.kept import Comparisons
from pipeline.ledger import Progress
from pipeline.messages import Message, Problem
from pipeline.messages.comparisons import ComparisonReport, ComparisonRequest
from pipeline.operations.base import JobRun, Operation, Plan
from pipeline.operations.evaluate import Pulse, Stopped, check, reader_of

if TYPE_CHECKING:
    from pipeline.ledger import WorkItem
    from pipeline.operations.context import Context


class ComparisonView(Message):
    """`report` is set when it has succeeded."""

    id: str
    state: JobState
    final: bool
    created_at: datetime
    total: int | None = None
    counts: dict[str, int] = Field(default_factory=dict)
    error: Problem | None = None
    notice: str | None = None
    report: ComparisonReport | None = None


def comparisons(context: Context) -> Comparisons:
    return Comparisons(context.blobs, context.fields.pseudonyms)


def _plan(context: Context, item: WorkItem) -> Plan:
    request = comparisons(context).request(item.lease.job)
    check(context, request)
    for number, choice in enumerate(request.models):
        if not choice.is_stored:
            context.others.find(choice, ("models", number))
    count = context.store.count(reader_of(context, request).filter)
    if not count:
        raise InvalidQuery("There are no images to compare encoders on.", ("filter",))
    total = min(request.sample, count) * len(request.models)
    return Plan(total, shard_size=total)


def _work(context: Context, item: WorkItem) -> bool:
    from pipeline.evaluation.comparison import Comparison

    job, jobs = item.lease.job, context.ledger.jobs
    request = comparisons(context).request(job)
    try:
        report = Comparison(
            id=job,
            request=request,
            reader=reader_of(context, request),
            encoder=context.encoder,
            others=context.others,
            blobs=context.blobs,
            tick=Pulse(context, item),
        ).run()
    except Stopped:
        return False
    comparisons(context).write_report(job, report)
    if not jobs.checkpoint(item.lease, Progress(item.stop, item.stop, {"evaluated": item.stop})):
        return False
    jobs.finish(item.lease)
    return True


COMPARE = Operation(
    "compare", ComparisonRequest, ComparisonView, "ingest", "job", JobRun(_plan, _work)
)
