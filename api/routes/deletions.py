"""Deletions: images, a lesion or a patient, or whatever fits a filter, gone for good."""

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api.access import require
from api.asking import JSON, ask_and_wait, preferred_wait
from api.audit import EntryDep
from api.services import Services, ServicesDep, new_id
from api.views import DeletionView
from pipeline.base.errors import NotFound
from pipeline.ledger import RequestRecord
from pipeline.messages import DeleteAsk, Deletion, LiftAsk, Receipt, ReceiptAsk

router = APIRouter(prefix="/v1/deletions", tags=["deletions"], dependencies=[require("admin")])


_DONE: dict[int | str, dict[str, Any]] = {
    200: {"model": DeletionView, "description": "Settled within `Prefer: wait=N` seconds"}
}


@router.post("", status_code=202, responses=_DONE)
async def delete(
    wanted: Deletion, request: Request, services: ServicesDep, response: Response, entry: EntryDep
) -> DeletionView:
    """From store, previews and uploads; what went is listed, and is not ingested again."""
    identifier = entry.deletion = new_id()
    entry.images = list(wanted.image_ids or ())
    ask = DeleteAsk(id=identifier, wanted=wanted)
    await run_in_threadpool(services.submit, ask, identifier)
    response.headers["Location"] = f"/v1/deletions/{identifier}"
    wait = preferred_wait(request)
    record = await services.waiting.finished(identifier, wait)
    if record.final and wait:
        response.status_code = 200
    view = await _view(services, identifier, record)
    entry.shown = list(view.image_ids or ())
    return view


@router.get("/{deletion}")
async def one(deletion: str, request: Request, services: ServicesDep) -> DeletionView:
    """The receipt: what has gone, also rows that a running job brought afterwards."""
    try:
        record = await services.waiting.finished(deletion, preferred_wait(request))
    except NotFound:  # receipts are kept for longer than the record of who asked
        record = None
    return await _view(services, deletion, record)


@router.post("/{deletion}/lift", response_model=Receipt)
async def lift(deletion: str, services: ServicesDep) -> Response:
    """Lets what went be ingested again. It brings nothing back by itself."""
    body = await ask_and_wait(services, LiftAsk(id=deletion))
    return Response(body, media_type=JSON)


async def _view(services: Services, identifier: str, record: RequestRecord | None) -> DeletionView:
    if record is not None and record.state != "succeeded":
        return DeletionView(id=identifier, state=record.state, error=record.error)
    body = await ask_and_wait(services, ReceiptAsk(id=identifier))
    receipt = Receipt.model_validate_json(body)
    return DeletionView(**dict(receipt), state="succeeded")
