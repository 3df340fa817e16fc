"""Label audits: copies under different labels and wrong labels, for an admin to decide on."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.access import Caller, require
from api.audit import Entry, EntryDep
from api.services import Collection, CollectionDep, new_id
from pipeline.base.cells import harmless
from pipeline.base.errors import NotFound
from pipeline.ledger import JobRecord
from pipeline.messages import Message, preview_path
from pipeline.messages.label_audits import (
    KINDS,
    AuditedImage,
    Decision,
    Finding,
    FindingKind,
    LabelAuditReport,
    LabelAuditRequest,
    Verdict,
)
from pipeline.operations.job import JobView
from pipeline.operations.label_audit import LABEL_AUDIT

router = APIRouter(prefix="/label-audits", tags=["label audits"], dependencies=[require("admin")])

MOST = 200  # findings in one answer
_DECIDED_AT_ONCE = 500  # looked up

FindingState = Literal["open", "confirmed", "dismissed"]

COLUMNS = (
    "kind", "rank", "image_id", "label", "group", "other_image_id", "other_label", "other_group",
    "suggested_label", "evidence", "same_bytes", "hash_distance", "neighbour_ids",
    "neighbour_labels", "neighbour_similarities", "state", "decided_by", "decided_at",
)  # fmt: skip


class LabelAuditView(Message):
    """`report` is there when it has succeeded, with how many findings there are, by kind and state.

    Those of deleted images are not counted: they are gone.
    """

    id: str
    job: JobView
    report: LabelAuditReport | None
    findings: dict[FindingKind, dict[FindingState, int]] | None


class LabelAuditsView(Message):
    """The newest first. `cursor` leads to the next page; null on the last one."""

    audits: tuple[JobView, ...]
    cursor: str | None


class FindingView(Finding):
    """`preview_urls` are those of `images` and then of `neighbours`, in their order."""

    preview_urls: tuple[str, ...]
    decision: Decision | None


class FindingsView(Message):
    """`cursor` leads to the next page; null on the last one."""

    findings: tuple[FindingView, ...]
    cursor: int | None


@router.post("", name="create_label_audit", status_code=202)
def create(
    wanted: LabelAuditRequest, collection: CollectionDep, response: Response, entry: EntryDep
) -> LabelAuditView:
    """Starts a job that looks for copies under different labels or ids, and for images whose
    neighbours all have another label. It changes nothing."""
    audit = entry.job = new_id()
    collection.label_audits.write_request(audit, wanted)
    collection.start_job(audit, LABEL_AUDIT, "")
    response.headers["Location"] = f"{collection.base}/label-audits/{audit}"
    return _view(collection, collection.ledger.jobs.get(audit))


@router.get("/{audit}", name="get_label_audit")
def one(audit: str, collection: CollectionDep, entry: EntryDep) -> LabelAuditView:
    entry.job = audit
    return _view(collection, _record(collection, audit))


@router.get("/{audit}/findings", name="list_findings")
def findings(
    audit: str,
    collection: CollectionDep,
    entry: EntryDep,
    kind: Annotated[FindingKind | None, Query(description="Only this kind")] = None,
    decision: Annotated[
        FindingState | None, Query(description="Only those that are open, or decided so")
    ] = None,
    cursor: Annotated[int, Query(ge=0, lt=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
) -> FindingsView:
    """A page: by kind, and in each the strongest evidence first."""
    entry.job = audit
    _finished(collection, audit)
    found = list(islice(_views(collection, audit, kind, decision, cursor), limit + 1))
    page = found[:limit]
    _note(entry, page)
    return FindingsView(
        findings=tuple(page), cursor=found[limit].place if len(found) > limit else None
    )


@router.get(
    "/{audit}/findings.csv",
    name="export_findings",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}}}},
)
def export(audit: str, collection: CollectionDep, entry: EntryDep) -> StreamingResponse:
    """All findings with what was decided, as a table for a spreadsheet."""
    entry.job = audit
    _finished(collection, audit)
    found = list(_views(collection, audit, None, None, 0))
    _note(entry, found)
    return StreamingResponse(
        _lines(found),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="label-audit-{audit}.csv"'},
    )


@router.post("/{audit}/findings/{finding}/confirm", name="confirm_finding")
def confirm(
    audit: str, finding: str, request: Request, collection: CollectionDep, entry: EntryDep
) -> FindingView:
    """Says that it is right. The image and its label stay as they are: correct them at the source
    and ingest it again, or delete it."""
    return _decide(collection, audit, finding, _decision(request, "confirmed"), entry)


@router.post("/{audit}/findings/{finding}/dismiss", name="dismiss_finding")
def dismiss(
    audit: str, finding: str, request: Request, collection: CollectionDep, entry: EntryDep
) -> FindingView:
    """Says that all is well. Later audits remember that, as long as the label is the same."""
    return _decide(collection, audit, finding, _decision(request, "dismissed"), entry)


@router.post("/{audit}/findings/{finding}/undo", name="undo_decision")
def undo(audit: str, finding: str, collection: CollectionDep, entry: EntryDep) -> FindingView:
    """Opens a finding again."""
    return _decide(collection, audit, finding, None, entry)


@router.get("", name="list_label_audits")
def newest(
    collection: CollectionDep,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
) -> LabelAuditsView:
    """Those among the newest thousand jobs."""
    jobs, following = collection.ledger.jobs.page(1000, cursor)
    found = tuple(JobView.of(job) for job in jobs if job.operation == LABEL_AUDIT.name)
    return LabelAuditsView(audits=found, cursor=following)


def _record(collection: Collection, audit: str) -> JobRecord:
    record = collection.ledger.jobs.get(audit)
    if record.operation != LABEL_AUDIT.name:
        raise NotFound(f"There is no label audit {audit}.")
    return record


def _finished(collection: Collection, audit: str) -> None:
    """Raises NotFound."""
    if _record(collection, audit).state != "succeeded":
        raise NotFound(f"Label audit {audit} has no findings: it has not ended well.")


def _view(collection: Collection, record: JobRecord) -> LabelAuditView:
    job = JobView.of(record)
    done = record.state == "succeeded"
    report = collection.label_audits.report(record.id) if done else None
    counted = _counted(collection, record.id) if report is not None else None
    return LabelAuditView(id=record.id, job=job, report=report, findings=counted)


def _counted(collection: Collection, audit: str) -> dict[FindingKind, dict[FindingState, int]]:
    counts: dict[FindingKind, dict[FindingState, int]] = {
        kind: {"open": 0, "confirmed": 0, "dismissed": 0} for kind in KINDS
    }
    for finding, decision in _decided(collection, collection.label_audits.findings(audit)):
        counts[finding.kind][_state(decision)] += 1
    return counts


def _views(
    collection: Collection,
    audit: str,
    kind: FindingKind | None,
    state: FindingState | None,
    place: int,
) -> Iterator[FindingView]:
    found = collection.label_audits.findings(audit, place)
    of_kind = (each for each in found if kind in (None, each.kind))
    for finding, decision in _decided(collection, of_kind):
        if state in (None, _state(decision)):
            yield _shown(collection, finding, decision)


def _decided(
    collection: Collection, findings: Iterator[Finding]
) -> Iterator[tuple[Finding, Decision | None]]:
    while page := list(islice(findings, _DECIDED_AT_ONCE)):
        decisions = collection.ledger.decisions.of([each.id for each in page])
        yield from ((each, decisions.get(each.id)) for each in page)


def _state(decision: Decision | None) -> FindingState:
    return decision.verdict if decision is not None else "open"


def _shown(collection: Collection, finding: Finding, decision: Decision | None) -> FindingView:
    shown = (*finding.images, *finding.neighbours)
    urls = tuple(preview_path(each.image_id, collection.base) for each in shown)
    return FindingView(**dict(finding), preview_urls=urls, decision=decision)


def _decide(
    collection: Collection, audit: str, finding: str, decision: Decision | None, entry: Entry
) -> FindingView:
    entry.job = audit
    _finished(collection, audit)
    found = collection.label_audits.finding(audit, finding)
    entry.images = [image.image_id for image in found.images]
    collection.label_audits.decide(found, decision)
    view = _shown(collection, found, decision)
    _note(entry, [view])
    return view


def _decision(request: Request, verdict: Verdict) -> Decision:
    caller: Caller = request.state.caller  # set by the gate
    return Decision(verdict=verdict, by=caller.id, at=datetime.now(UTC))


def _note(entry: Entry, views: list[FindingView]) -> None:
    shown = chain.from_iterable((*view.images, *view.neighbours) for view in views)
    entry.shown = list(dict.fromkeys(image.image_id for image in shown))


def _lines(views: list[FindingView]) -> Iterator[str]:
    """UTF-8 with a mark, by which Excel knows it."""
    yield "\ufeff"
    for row in chain([dict(zip(COLUMNS, COLUMNS, strict=True))], map(_row, views)):
        text = io.StringIO()
        csv.writer(text).writerow([harmless(row[name]) for name in COLUMNS])
        yield text.getvalue()


def _row(view: FindingView) -> dict[str, Any]:
    first, other = view.images[0], view.images[1] if view.images[1:] else AuditedImage(image_id="")
    decision, neighbours = view.decision, view.neighbours
    return {
        "kind": view.kind,
        "rank": view.rank,
        "image_id": first.image_id,
        "label": first.label,
        "group": first.group,
        "other_image_id": other.image_id,
        "other_label": other.label,
        "other_group": other.group,
        "suggested_label": view.suggested,
        "evidence": view.evidence,
        "same_bytes": view.same_bytes,
        "hash_distance": view.hash_distance,
        "neighbour_ids": " ".join(each.image_id for each in neighbours),
        "neighbour_labels": " ".join(str(each.label) for each in neighbours),
        "neighbour_similarities": " ".join(f"{each.similarity:.4f}" for each in neighbours),
        "state": _state(decision),
        "decided_by": decision.by if decision is not None else None,
        "decided_at": decision.at.isoformat() if decision is not None else None,
    }
