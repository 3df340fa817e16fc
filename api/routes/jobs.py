"""Jobs: data sets by name, their progress, and what can be done to them."""

import asyncio
from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api.access import require
from api.audit import EntryDep
from api.services import ServicesDep, new_id
from api.views import JobsView, JobView, RejectionsView
from pipeline.ledger.jobs import Action
from pipeline.messages import DatasetSource

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[require("ingest")])

# Between two looks at a job that is watched, in seconds.
EVENT_INTERVAL = 0.5


@router.post("", status_code=202)
def create(
    source: DatasetSource, services: ServicesDep, response: Response, entry: EntryDep
) -> JobView:
    """Ingests a hub data set, or a folder that the workers see, if KINDRED_SOURCES allows it."""
    services.allowed.check(source.dataset)
    job = entry.job = new_id()
    services.start_job(job, source)
    response.headers["Location"] = f"/v1/jobs/{job}"
    return JobView.of(services.ledger.jobs.get(job))


@router.get("")
def recent(services: ServicesDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> JobsView:
    """The newest first."""
    return JobsView(jobs=[JobView.of(job) for job in services.ledger.jobs.recent(limit)])


@router.get("/{job}")
def one(job: str, services: ServicesDep) -> JobView:
    return JobView.of(services.ledger.jobs.get(job))


@router.get("/{job}/rejections")
def rejections(
    job: str,
    services: ServicesDep,
    entry: EntryDep,
    cursor: Annotated[int, Query(ge=0, lt=2**64)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> RejectionsView:
    """Pages of about `limit` rejected rows, until `cursor` is null."""
    page, following = services.ledger.jobs.rejections(job, cursor, limit)
    entry.shown = [rejection.key for rejection in page]
    return RejectionsView(rejections=page, cursor=following)


def _known(job: str, services: ServicesDep) -> None:
    """Before the answer begins: afterwards there is no telling that there is no such job."""
    services.ledger.jobs.get(job)


@router.get("/{job}/events", response_class=EventSourceResponse, dependencies=[Depends(_known)])
async def events(
    job: str, request: Request, services: ServicesDep
) -> AsyncIterable[ServerSentEvent]:
    """The job whenever it has changed, until it is final, or the caller's key is revoked."""
    sent: JobView | None = None
    while await run_in_threadpool(services.access.still_admits, request):
        record = await run_in_threadpool(services.ledger.jobs.get, job)
        view = JobView.of(record)
        if view != sent:
            yield ServerSentEvent(data=view, event="job")
            sent = view
        if record.final:
            return
        await asyncio.sleep(EVENT_INTERVAL)


@router.post("/{job}/cancel")
def cancel(job: str, services: ServicesDep) -> JobView:
    """Takes hold between batches; what is embedded stays."""
    return _transition(job, "cancel", services)


@router.post("/{job}/pause")
def pause(job: str, services: ServicesDep) -> JobView:
    """Takes hold between batches."""
    return _transition(job, "pause", services)


@router.post("/{job}/resume")
def resume(job: str, services: ServicesDep) -> JobView:
    return _transition(job, "resume", services)


@router.post("/{job}/retry")
def retry(job: str, services: ServicesDep) -> JobView:
    """Runs an ended job again; what it holds already is recognised, only the rest is embedded."""
    return _transition(job, "retry", services)


def _transition(job: str, action: Action, services: ServicesDep) -> JobView:
    record = services.ledger.jobs.transition(job, action)
    services.hand_out()
    return JobView.of(record)
