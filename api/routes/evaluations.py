"""Evaluations: how good the search of a collection is, measured on the collection itself."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api.access import require
from api.audit import EntryDep
from api.reported import awaited, newest, progress
from api.services import Collection, CollectionDep, new_id
from pipeline.evaluation.kept import Evaluations
from pipeline.ledger import JobRecord
from pipeline.messages.evaluations import EvaluationRequest
from pipeline.operations.evaluate import EVALUATE, EvaluationView

router = APIRouter(prefix="/evaluations", tags=["evaluations"])


class EvaluationsView(BaseModel):
    evaluations: list[EvaluationView]


@router.post("", name="create_evaluation", status_code=202, dependencies=[require("ingest")])
def evaluate(
    wanted: EvaluationRequest, collection: CollectionDep, response: Response, entry: EntryDep
) -> EvaluationView:
    """Starts a job that searches by each image, or a sample, and counts who shares its label."""
    identifier = entry.job = new_id()
    _kept(collection).write_request(identifier, wanted)
    collection.start_job(identifier, EVALUATE, "")
    response.headers["Location"] = f"{collection.base}/evaluations/{identifier}"
    return _view(collection, collection.ledger.jobs.get(identifier))


@router.get("", name="list_evaluations", dependencies=[require("search")])
def recent(
    collection: CollectionDep, limit: Annotated[int, Query(ge=1, le=1000)] = 20
) -> EvaluationsView:
    """The newest first, without their reports."""
    jobs = newest(collection, EVALUATE, _kept(collection).all(), limit)
    return EvaluationsView(evaluations=[EvaluationView(**progress(job)) for job in jobs])


@router.get("/{evaluation}", name="get_evaluation", dependencies=[require("search")])
async def one(evaluation: str, request: Request, collection: CollectionDep) -> EvaluationView:
    """How far it has come, and its report when it has succeeded."""
    job = await awaited(collection, request, EVALUATE, evaluation, "evaluation")
    return await run_in_threadpool(_view, collection, job)


def _kept(collection: Collection) -> Evaluations:
    return Evaluations(collection.blobs, lambda: collection.pseudonyms)


def _view(collection: Collection, job: JobRecord) -> EvaluationView:
    view = EvaluationView(**progress(job))
    if job.state != "succeeded":
        return view
    return view.model_copy(update={"report": _kept(collection).report(job.id)})
