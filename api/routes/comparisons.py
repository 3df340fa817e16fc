"""Comparisons: several encoders on the same images, before one is changed for another."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api.access import require
from api.audit import EntryDep
from api.queries import preferred_wait
from api.services import Collection, CollectionDep, new_id
from pipeline.base.allowed_models import AllowedModels
from pipeline.base.errors import NotFound
from pipeline.evaluation.kept import Comparisons
from pipeline.ledger import JobRecord
from pipeline.messages.comparisons import STORED, ComparisonRequest
from pipeline.operations.compare import COMPARE, ComparisonView

router = APIRouter(prefix="/comparisons", tags=["comparisons"], dependencies=[require("admin")])


class ComparisonsView(BaseModel):
    comparisons: list[ComparisonView]


@router.post("", name="create_comparison", status_code=202)
def compare(
    wanted: ComparisonRequest, collection: CollectionDep, response: Response, entry: EntryDep
) -> ComparisonView:
    """Starts a job that evaluates each of the encoders that KINDRED_MODELS allows.

    Nothing in the collection changes.
    """
    settings = collection.services.settings
    allowed = AllowedModels.of(settings.models, settings.model)
    for number, choice in enumerate(wanted.models):
        if choice.model != STORED:
            allowed.check(choice.model, ("models", number))
    identifier = entry.job = new_id()
    _kept(collection).write_request(identifier, wanted)
    collection.start_job(identifier, COMPARE, "")
    response.headers["Location"] = f"{collection.base}/comparisons/{identifier}"
    return _view(collection, collection.ledger.jobs.get(identifier))


@router.get("", name="list_comparisons")
def recent(
    collection: CollectionDep, limit: Annotated[int, Query(ge=1, le=1000)] = 20
) -> ComparisonsView:
    """The newest first, without their reports."""
    found = []
    for identifier in _kept(collection).all():
        try:
            job = collection.ledger.jobs.get(identifier)
        except NotFound:  # the sweep forgets it just now
            continue
        if job.operation == COMPARE.name:
            found.append(job)
    found.sort(key=lambda job: job.created_at, reverse=True)
    return ComparisonsView(comparisons=[_without_report(job) for job in found[:limit]])


@router.get("/{comparison}", name="get_comparison")
async def one(comparison: str, request: Request, collection: CollectionDep) -> ComparisonView:
    """How far it has come, and its report when it has succeeded."""
    get, wait = collection.ledger.jobs.get, preferred_wait(request)
    job = await collection.services.waiting.finished(get, comparison, wait)
    if job.operation != COMPARE.name:
        raise NotFound(f"There is no comparison {comparison}.")
    return await run_in_threadpool(_view, collection, job)


def _kept(collection: Collection) -> Comparisons:
    return Comparisons(collection.blobs, lambda: collection.pseudonyms)


def _view(collection: Collection, job: JobRecord) -> ComparisonView:
    view = _without_report(job)
    if job.state != "succeeded":
        return view
    return view.model_copy(update={"report": _kept(collection).report(job.id)})


def _without_report(job: JobRecord) -> ComparisonView:
    return ComparisonView(
        id=job.id,
        state=job.state,
        final=job.final,
        created_at=datetime.fromtimestamp(job.created_at, UTC),
        total=job.total,
        counts=job.counts,
        error=job.error,
        notice=job.notice,
    )
