"""Deletions: deletes images, a lesion or a patient, or all that match a filter, for good."""

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api.access import require
from api.audit import EntryDep
from api.queries import preferred_wait
from api.services import Collection, CollectionDep, new_id
from pipeline.base.errors import NotFound
from pipeline.ledger import JobRecord
from pipeline.lifecycle.receipts import DeleteRequest
from pipeline.messages import Deletion, Receipt
from pipeline.operations.delete import DELETE, DeletionView

router = APIRouter(prefix="/deletions", tags=["deletions"], dependencies=[require("admin")])


_DONE: dict[int | str, dict[str, Any]] = {
    200: {"model": DeletionView, "description": "Finished within `Prefer: wait=N` seconds"}
}


@router.post("", name="create_deletion", status_code=202, responses=_DONE)
async def delete(
    wanted: Deletion,
    request: Request,
    collection: CollectionDep,
    response: Response,
    entry: EntryDep,
) -> DeletionView:
    """Starts a job that deletes images from store, previews, uploads and answers.

    Its receipt lists them. They cannot be ingested again until the deletion is lifted.
    """
    identifier = entry.deletion = new_id()
    entry.images = list(wanted.image_ids or ())
    wait = preferred_wait(request)
    job = await start(collection, identifier, DeleteRequest(wanted=wanted), wait)
    response.headers["Location"] = f"{collection.base}/deletions/{identifier}"
    if job.final:
        response.status_code = 200
    view = await run_in_threadpool(view_of, collection, job)
    entry.shown = list(view.image_ids or ())
    return view


@router.get("/{deletion}", name="get_deletion")
async def one(deletion: str, request: Request, collection: CollectionDep) -> DeletionView:
    """The deletion's current state, and its receipt, with images that a job brought afterwards."""
    get, wait = collection.ledger.jobs.get, preferred_wait(request)
    try:
        job = await collection.services.waiting.finished(get, deletion, wait)
    except NotFound:  # receipts are stored longer than the job's record
        return await run_in_threadpool(_forgotten, collection, deletion)
    if job.operation != DELETE.name:
        raise NotFound(f"There is no deletion {deletion}.")
    return await run_in_threadpool(view_of, collection, job)


@router.post("/{deletion}/lift", name="lift_deletion")
def lift(deletion: str, collection: CollectionDep) -> Receipt:
    """Allows the deleted images to be ingested again. It restores nothing by itself."""
    return collection.receipts.lift(deletion)


async def start(
    collection: Collection, identifier: str, request: DeleteRequest, wait: float
) -> JobRecord:
    """The job once it has ended, or after `wait` seconds at the latest."""
    await run_in_threadpool(_start, collection, identifier, request)
    get = collection.ledger.jobs.get
    return await collection.services.waiting.finished(get, identifier, wait)


def _start(collection: Collection, identifier: str, request: DeleteRequest) -> None:
    """Writes the request to the blobs: Redis must not contain a patient's number."""
    collection.receipts.write_request(identifier, request)
    collection.start_job(identifier, DELETE, "")
    collection.ledger.tombstones.register_deletion(identifier)


def _forgotten(collection: Collection, deletion: str) -> DeletionView:
    """Of one whose job is forgotten. Raises NotFound if it never was."""
    end = collection.receipts.end(deletion)
    view = DeletionView(id=deletion, final=True, **dict(end))
    return view if end.state != "succeeded" else _with_receipt(collection, view)


def view_of(collection: Collection, job: JobRecord) -> DeletionView:
    view = DeletionView(
        id=job.id,
        state=job.state,
        final=job.final,
        total=job.total,
        deleted=job.counts.get("deleted", 0),
        error=job.error,
    )
    if job.state != "succeeded":
        return view
    return _with_receipt(collection, view)


def _with_receipt(collection: Collection, view: DeletionView) -> DeletionView:
    receipt = collection.receipts.receipt(view.id)
    return view.model_copy(update={"count": receipt.count, "image_ids": receipt.image_ids})
