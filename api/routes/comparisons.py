"""Comparisons: several encoders on the same images, before one is changed for another."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api.access import require
from api.audit import EntryDep
from api.reported import awaited, newest, progress
from api.services import Collection, CollectionDep, new_id
from pipeline.base.allowed_models import AllowedModels
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
    jobs = newest(collection, COMPARE, _kept(collection).all(), limit)
    return ComparisonsView(comparisons=[ComparisonView(**progress(job)) for job in jobs])


@router.get("/{comparison}", name="get_comparison")
async def one(comparison: str, request: Request, collection: CollectionDep) -> ComparisonView:
    """How far it has come, and its report when it has succeeded."""
    job = await awaited(collection, request, COMPARE, comparison, "comparison")
    return await run_in_threadpool(_view, collection, job)


def _kept(collection: Collection) -> Comparisons:
    return Comparisons(collection.blobs, lambda: collection.pseudonyms)


def _view(collection: Collection, job: JobRecord) -> ComparisonView:
    view = ComparisonView(**progress(job))
    if job.state != "succeeded":
        return view
    return view.model_copy(update={"report": _kept(collection).report(job.id)})
