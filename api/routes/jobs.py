"""Jobs: starts ingests, shows their progress, and pauses, cancels or retries them."""

import asyncio
from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api.access import require
from api.audit import Entry, EntryDep
from api.services import Collection, CollectionDep, new_id
from pipeline.ledger.jobs import Action
from pipeline.messages import Rejection
from pipeline.operations.ingest import INGEST, IngestRequest
from pipeline.operations.job import JobView
from pipeline.sources.base import Source
from pipeline.sources.registry import PublicSource

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=[require("ingest")])


class JobsView(BaseModel):
    jobs: list[JobView]


class RejectionsView(BaseModel):
    rejections: list[Rejection]
    cursor: int | None


# Seconds between two looks at a job whose events a client follows.
EVENT_INTERVAL = 0.5


@router.post("", status_code=202)
def create(
    source: PublicSource, collection: CollectionDep, response: Response, entry: EntryDep
) -> JobView:
    """Ingests a data set from the hub, or a folder on the workers, if KINDRED_SOURCES allows it."""
    source.check(collection.services.allowed)
    return start_ingest(collection, source, new_id(), response, entry)


@router.get("")
def recent(
    collection: CollectionDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> JobsView:
    """The newest first."""
    return JobsView(jobs=[JobView.of(job) for job in collection.ledger.jobs.recent(limit)])


@router.get("/{job}")
def one(job: str, collection: CollectionDep) -> JobView:
    return JobView.of(collection.ledger.jobs.get(job))


@router.get("/{job}/rejections")
def rejections(
    job: str,
    collection: CollectionDep,
    entry: EntryDep,
    cursor: Annotated[int, Query(ge=0, lt=2**64)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> RejectionsView:
    """Pages of about `limit` rejected rows, until `cursor` is null."""
    page, following = collection.ledger.jobs.rejections(job, cursor, limit)
    entry.shown = [rejection.image_id for rejection in page]
    return RejectionsView(rejections=page, cursor=following)


def _known(job: str, collection: CollectionDep) -> None:
    """Raises NotFound before the answer begins; afterwards it could no longer change the status."""
    collection.ledger.jobs.get(job)


@router.get("/{job}/events", response_class=EventSourceResponse, dependencies=[Depends(_known)])
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


@router.post("/{job}/cancel")
def cancel(job: str, collection: CollectionDep) -> JobView:
    """Takes effect between batches; images that are already embedded stay."""
    return _transition(job, "cancel", collection)


@router.post("/{job}/pause")
def pause(job: str, collection: CollectionDep) -> JobView:
    """Takes effect between batches."""
    return _transition(job, "pause", collection)


@router.post("/{job}/resume")
def resume(job: str, collection: CollectionDep) -> JobView:
    return _transition(job, "resume", collection)


@router.post("/{job}/retry")
def retry(job: str, collection: CollectionDep) -> JobView:
    """Runs an ended job again. It recognises indexed images and embeds only the others."""
    return _transition(job, "retry", collection)


def start_ingest(
    collection: Collection, source: Source, job: str, response: Response, entry: Entry
) -> JobView:
    entry.job = job
    request = IngestRequest(source=source)
    collection.start_job(job, INGEST, request.model_dump_json(exclude_none=True))
    response.headers["Location"] = f"{collection.base}/jobs/{job}"
    return JobView.of(collection.ledger.jobs.get(job))


def _transition(job: str, action: Action, collection: Collection) -> JobView:
    record = collection.ledger.jobs.transition(job, action)
    collection.dispatch()
    return JobView.of(record)
