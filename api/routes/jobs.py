"""Jobs: starts ingests, shows their progress, and pauses, cancels or retries them."""

import asyncio
import time
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID, uuid5

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api.access import require
from api.audit import Entry, EntryDep
from api.problems import documented
from api.services import Collection, CollectionDep, new_id
from pipeline.base.errors import NotFound
from pipeline.base.states import JobState
from pipeline.ledger.jobs import Action
from pipeline.lifecycle.drift_reports import is_compared, read_drift
from pipeline.lifecycle.rejections import Rejections
from pipeline.messages import IngestOptions, Rejection, SkippedFile
from pipeline.messages.base import read
from pipeline.messages.drift import GroupDrift
from pipeline.operations.ingest import INGEST, IngestRequest
from pipeline.operations.job import JobView
from pipeline.sources.account import files_of_rows, names_of_rows, skipped_files
from pipeline.sources.base import Source
from pipeline.sources.deidentification import read_account
from pipeline.sources.registry import PublicSource

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=[require("ingest")])


class JobsView(BaseModel):
    """`cursor` leads to the next page; null on the last one."""

    jobs: list[JobView]
    cursor: str | None


class RejectionView(Rejection):
    """`name` is the file's path, or the data set and the row; null where names are not kept.

    `file` is the place of its file among those that were sent or named by `only`, from 0.
    """

    name: str | None
    file: int | None = None


class RejectionsView(BaseModel):
    rejections: list[RejectionView]
    cursor: int | None


class SkippedView(BaseModel):
    """Files that are no rows, each with its kind."""

    skipped: list[SkippedFile]
    cursor: int | None


class DriftView(BaseModel):
    """`state` is `none` where there was too little to compare, or the job is another kind of job,
    and `pending` until it is known, seconds after the end of the job."""

    job: str
    state: Literal["none", "pending", "known"]
    groups: list[GroupDrift]


class DeidentificationView(BaseModel):
    """`files` are DICOM images, whose `frames` became rows; `refused` could not be read.

    `kept` and `dropped` count elements by keyword, a sequence as one; `skipped` counts files by
    kind. `quarantined` counts images that were held since they may show text.
    """

    job: str
    files: int
    frames: int
    refused: int
    quarantined: int
    kept: dict[str, int]
    dropped: dict[str, int]
    skipped: dict[str, int]


def ingest_options(
    dry_run: Annotated[bool, Query(description="Count and inspect, and store nothing")] = False,
    replace_metadata: Annotated[
        bool, Query(description="Remove what is known of an image and not mentioned now")
    ] = False,
    upload: Annotated[
        str | None,
        Query(
            pattern="^[A-Za-z0-9-]{1,64}$",
            description="The same for all jobs that are parts of one upload: an id of your own",
        ),
    ] = None,
) -> IngestOptions:
    return IngestOptions(dry_run=dry_run, replace_metadata=replace_metadata, upload=upload)


OptionsDep = Annotated[IngestOptions, Depends(ingest_options)]


@dataclass(frozen=True)
class NewJob:
    """The id of the job that a call is to start. `repeated`: perhaps an earlier call did."""

    id: str
    repeated: bool = False


def new_job(
    collection: CollectionDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            pattern="^[A-Za-z0-9-]{1,64}$",
            description="An id of your own: a call that is repeated with it starts no second job",
        ),
    ] = None,
) -> NewJob:
    if idempotency_key is None:
        return NewJob(new_id())
    return NewJob(str(uuid5(_OF_KEYS, f"{collection.name}/{idempotency_key}")), repeated=True)


NewJobDep = Annotated[NewJob, Depends(new_job)]

_OF_KEYS = UUID("5b0f9f0c-7d0e-4b7e-9f3a-2c1d8e6a4b70")


_CONFLICT = documented(409)

# After the end of a job: what is not known by then was not to be found out.
_DRIFT_SECONDS = 60.0

# Seconds between two looks at a job whose events a client follows.
EVENT_INTERVAL = 0.5


@router.post("", name="create_job", status_code=202)
def create(
    source: PublicSource,
    options: OptionsDep,
    collection: CollectionDep,
    response: Response,
    entry: EntryDep,
    job: NewJobDep,
) -> JobView:
    """Ingests a data set from the hub, or a folder on the workers, if KINDRED_SOURCES allows it."""
    source.check(collection.services.allowed)
    if known := known_job(collection, job, response, entry):
        return known
    return start_ingest(collection, source, options, job.id, response, entry)


@router.get("", name="list_jobs")
def recent(
    collection: CollectionDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    state: Annotated[tuple[JobState, ...], Query(description="Only these; may be repeated")] = (),
    cursor: Annotated[str | None, Query(max_length=100)] = None,
) -> JobsView:
    """The newest first."""
    jobs, following = collection.ledger.jobs.page(limit, cursor, state)
    return JobsView(jobs=[JobView.of(job) for job in jobs], cursor=following)


@router.get("/{job}", name="get_job")
def one(job: str, collection: CollectionDep) -> JobView:
    return JobView.of(collection.ledger.jobs.get(job))


@router.get("/{job}/rejections", name="list_rejections")
def rejections(
    job: str,
    collection: CollectionDep,
    entry: EntryDep,
    cursor: Annotated[int, Query(ge=0, lt=2**64)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> RejectionsView:
    """Pages of rejected rows in their order, until `cursor` is null. It is the next page's row."""
    page, following = Rejections(collection.blobs, collection.ledger.jobs).page(job, cursor, limit)
    entry.shown = [rejection.image_id for rejection in page]
    source = _source(job, collection)
    rows = [rejection.row for rejection in page]
    names = names_of_rows(collection.blobs, job, source, rows) if source and rows else {}
    files = files_of_rows(collection.blobs, job, source, rows) if source and rows else {}
    views = [
        RejectionView(**r.model_dump(), name=names.get(r.row), file=files.get(r.row)) for r in page
    ]
    return RejectionsView(rejections=views, cursor=following)


@router.get("/{job}/skipped", name="list_skipped")
def skipped(
    job: str,
    collection: CollectionDep,
    cursor: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> SkippedView:
    """Pages of files that are no rows, until `cursor` is null; empty where names are not kept."""
    source = _source(job, collection)
    if source is None:
        return SkippedView(skipped=[], cursor=None)
    page, following = skipped_files(collection.blobs, job, source, cursor, limit)
    return SkippedView(skipped=page, cursor=following)


@router.get("/{job}/deidentification", name="get_deidentification")
def deidentification(job: str, collection: CollectionDep) -> DeidentificationView:
    """What was kept of the job's DICOM files and what was dropped, in numbers: never a value."""
    record = collection.ledger.jobs.get(job)
    account = read_account(collection.blobs, job)
    # Of an archive, what is no image is skipped for what the archive says, and is never read.
    skipped = {kind: n for kind, n in record.skipped.items() if kind.startswith("dicom ")}
    quarantined = record.counts.get("quarantined", 0)
    said = account.as_json() | {"skipped": skipped}
    return DeidentificationView(job=job, quarantined=quarantined, **said)


@router.get("/{job}/drift", name="get_drift")
def drift(job: str, collection: CollectionDep) -> DriftView:
    """How the images that the job brought lie to the rest of the collection, by device and site:
    the most unlike first. In numbers: it names no image."""
    record = collection.ledger.jobs.get(job)
    if record.operation != INGEST.name or (record.final and not is_compared(record)):
        return DriftView(job=job, state="none", groups=[])
    report = read_drift(collection.blobs, job)
    if report is not None:
        return DriftView(job=job, state="known", groups=list(report.groups))
    ended = record.finished_at
    given_up = ended is not None and time.time() - ended > _DRIFT_SECONDS
    return DriftView(job=job, state="none" if given_up else "pending", groups=[])


def _source(job: str, collection: Collection) -> Source | None:
    """The source of an ingest; None for another operation. Raises NotFound."""
    record = collection.ledger.jobs.get(job)
    return read(IngestRequest, record.request).source if record.operation == INGEST.name else None


def _known(job: str, collection: CollectionDep) -> None:
    """Raises NotFound before the answer begins; afterwards it could no longer change the status."""
    collection.ledger.jobs.get(job)


@router.get(
    "/{job}/events",
    name="follow_job",
    response_class=EventSourceResponse,
    dependencies=[Depends(_known)],
)
async def events(
    job: str, request: Request, collection: CollectionDep
) -> AsyncIterable[ServerSentEvent]:
    """Sends the job whenever it changes, until it is final or the caller's key is revoked."""
    sent: JobView | None = None
    while await run_in_threadpool(collection.services.access.still_admits, request):
        record = await run_in_threadpool(collection.ledger.jobs.get, job)
        view = JobView.of(record)
        if view != sent:
            yield ServerSentEvent(data=view, event="job")
            sent = view
        if record.final:
            return
        await asyncio.sleep(EVENT_INTERVAL)


@router.post("/{job}/cancel", name="cancel_job", responses=_CONFLICT)
def cancel(job: str, collection: CollectionDep) -> JobView:
    """Takes effect between batches; images that are already embedded stay."""
    return _transition(job, "cancel", collection)


@router.post("/{job}/pause", name="pause_job", responses=_CONFLICT)
def pause(job: str, collection: CollectionDep) -> JobView:
    """Takes effect between batches."""
    return _transition(job, "pause", collection)


@router.post("/{job}/resume", name="resume_job", responses=_CONFLICT)
def resume(job: str, collection: CollectionDep) -> JobView:
    return _transition(job, "resume", collection)


@router.post("/{job}/retry", name="retry_job", responses=_CONFLICT)
def retry(job: str, collection: CollectionDep) -> JobView:
    """Runs an ended job again. It recognises indexed images and embeds only the others."""
    return _transition(job, "retry", collection)


def start_ingest(
    collection: Collection,
    source: Source,
    options: IngestOptions,
    job: str,
    response: Response,
    entry: Entry,
) -> JobView:
    entry.job = job
    granted = source.grant(collection.services.allowed)
    stored = source.stored(collection.blobs, job)
    request = IngestRequest(source=stored, granted=granted, **options.model_dump())
    collection.start_job(job, INGEST, request.model_dump_json(exclude_none=True))
    return _started(collection, job, response)


def known_job(
    collection: Collection, job: NewJob, response: Response, entry: Entry
) -> JobView | None:
    """The job, if an earlier call with the same key has started it."""
    if not job.repeated:
        return None
    entry.job = job.id
    try:
        return _started(collection, job.id, response)
    except NotFound:
        return None


def _started(collection: Collection, job: str, response: Response) -> JobView:
    view = JobView.of(collection.ledger.jobs.get(job))
    response.headers["Location"] = f"{collection.base}/jobs/{job}"
    return view


def _transition(job: str, action: Action, collection: Collection) -> JobView:
    record = collection.ledger.jobs.transition(job, action)
    collection.dispatch()
    return JobView.of(record)
