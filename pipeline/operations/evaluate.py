"""Evaluate: how good a collection's search is, measured on the collection itself.

One shard, whose report is written before it is finished. A worker that is stopped or killed leaves
nothing, and the next one begins anew: seeds are fixed, so it comes to the same report.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.base.blobs import preview_name
from pipeline.base.errors import InvalidQuery
from pipeline.base.identity import is_identifier, point_id
from pipeline.base.states import JobState
from pipeline.evaluation.closeness import Kept, keep
from pipeline.evaluation.kept import Evaluations
from pipeline.ledger import Progress
from pipeline.messages import RESERVED, Message, Problem
from pipeline.messages.comparisons import ComparisonRequest
from pipeline.messages.evaluations import UNGROUPED, EvaluationReport, EvaluationRequest
from pipeline.operations.base import JobRun, Operation, Plan

if TYPE_CHECKING:
    from pipeline.evaluation.collected import Reader
    from pipeline.ledger import WorkItem
    from pipeline.operations.context import Context

SEARCHED = 20_000  # images, unless the request says another number

PATIENT = "patient_id"

_TICK = 0.5  # seconds between two looks at whether the job was stopped


class EvaluationView(Message):
    """`report` is set when it has succeeded."""

    id: str
    state: JobState
    final: bool
    created_at: datetime | None = None
    total: int | None = None
    counts: dict[str, int] = Field(default_factory=dict)
    error: Problem | None = None
    notice: str | None = None
    report: EvaluationReport | None = None


class Stopped(Exception):
    """The job or the worker is to stop."""


def evaluations(context: Context) -> Evaluations:
    return Evaluations(context.blobs, context.fields.pseudonyms)


def _plan(context: Context, item: WorkItem) -> Plan:
    request = evaluations(context).request(item.lease.job)
    check(context, request)
    reader = reader_of(context, request)
    count = context.store.count(reader.filter)
    if not count:
        raise InvalidQuery("There are no images to evaluate.", ("filter",))
    total = min(request.sample or SEARCHED, count)
    return Plan(total, shard_size=total)


def check(context: Context, request: EvaluationRequest | ComparisonRequest) -> None:
    """Raises InvalidQuery."""
    fields = context.fields
    if request.label == RESERVED or is_identifier(request.label):
        raise InvalidQuery("A label is what several images share, and no identifier.", ("label",))
    fields.check(request.label, ("label",), scan=True)
    if request.group is None:
        if known := [name for name in (fields.lesion, PATIENT) if name and _is_used(context, name)]:
            raise InvalidQuery(
                f"Images of one lesion or patient are alike, and to find them proves nothing: say "
                f"which field they share, as {known[0]} here, or `{UNGROUPED}`.",
                ("group",),
            )
    elif request.group != UNGROUPED:
        fields.check(request.group, ("group",), scan=True)


def _is_used(context: Context, name: str) -> bool:
    """Whether an image has a value in this indexed field."""
    return name in context.fields.facets and bool(context.store.facet(name, 1))


def reader_of(context: Context, request: EvaluationRequest | ComparisonRequest) -> Reader:
    from pipeline.evaluation.collected import Reader

    condition = context.fields.originals.filter(request.filter)
    context.fields.check_filter(condition, scan=True)
    grouped = request.group not in (None, UNGROUPED)
    return Reader(
        context.store,
        request.label,
        request.group if grouped else None,
        condition,
        {},
        PATIENT if grouped else None,
    )


def _work(context: Context, item: WorkItem) -> bool:
    from pipeline.evaluation.evaluation import Evaluation

    job, jobs = item.lease.job, context.ledger.jobs
    request = evaluations(context).request(job)
    reader = reader_of(context, request)
    pulse = Pulse(context, item)
    try:
        pulse(0)
        report = Evaluation(
            id=job,
            request=request,
            encoder=context.store.encoder,
            reader=reader,
            preview=lambda image_id: context.blobs.read(preview_name(point_id(image_id))),
            searched=item.stop,
            count=context.store.count(reader.filter),
            tick=pulse,
        ).run()
    except Stopped:
        return False
    evaluations(context).write_report(job, report)
    _keep_closeness(context, request, report)
    left_out = item.stop - report.evaluated
    counts = {"evaluated": report.evaluated} | ({"left_out": left_out} if left_out > 0 else {})
    if not jobs.checkpoint(item.lease, Progress(item.stop, item.stop, counts)):
        return False
    jobs.finish(item.lease)
    return True


def _keep_closeness(context: Context, request: EvaluationRequest, report: EvaluationReport) -> None:
    """Of a whole collection: what holds of some of its images says little of a search among all."""
    if not report.calibration or report.least_score is None or request.filter is not None:
        return
    found = Kept(
        evaluation=report.id,
        created_at=report.created_at,
        encoder=report.encoder,
        label=request.label,
        group=None if request.group == UNGROUPED else request.group,
        images=context.store.count(),
        least_score=report.least_score,
        curves=report.calibration,
    )
    keep(context.blobs, found)


class Pulse:
    """Tells the ledger how far the work has come, and raises Stopped if it is to end.

    The cursor stays where it is: another worker would begin anew.
    """

    def __init__(self, context: Context, item: WorkItem) -> None:
        self._context, self._item, self._due = context, item, 0.0

    def __call__(self, share: float) -> None:
        if time.monotonic() < self._due:
            return
        done = int(share * self._item.stop)
        progress = Progress(0, 0, {"evaluated": done} if done else {})
        going = self._context.ledger.jobs.checkpoint(self._item.lease, progress)
        if not going or self._context.stopping():
            raise Stopped
        self._due = time.monotonic() + _TICK


EVALUATE = Operation(
    "evaluate", EvaluationRequest, EvaluationView, "ingest", "job", JobRun(_plan, _work)
)
