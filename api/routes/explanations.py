"""Explanations: which parts of two pictures look alike to the encoder, answered like a search."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api.accepted import Accepted
from api.access import require
from api.audit import EntryDep
from api.forms import FORM, is_form
from api.queries import parse
from api.sent import read_query_and_files, store_pictures
from api.services import Collection, CollectionDep, new_id
from pipeline.base.blobs import request_folder
from pipeline.base.errors import InvalidQuery
from pipeline.ledger import RequestRecord
from pipeline.messages import SentFile
from pipeline.operations.explanation import (
    EXPLANATION,
    ExplanationAnswer,
    ExplanationQuery,
    ExplanationRequest,
)

router = APIRouter(prefix="/explanations", tags=["searches"], dependencies=[require("search")])


def _inlined(part: Any, known: dict[str, Any]) -> Any:
    """A schema without references: those of a body that we parse ourselves lead nowhere."""
    if isinstance(part, list):
        return [_inlined(each, known) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inlined(known[part["$ref"].rpartition("/")[2]], known)
    return {name: _inlined(each, known) for name, each in part.items() if name != "$defs"}


_SCHEMA = ExplanationQuery.model_json_schema()

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _inlined(_SCHEMA, _SCHEMA["$defs"])},
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["image", "query"],
                    "properties": {
                        "image": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "maxItems": 2,
                        },
                        "query": {"type": "string", "description": "ExplanationQuery as JSON"},
                    },
                }
            },
        },
    }
}


def _view(record: RequestRecord) -> str:
    view = ExplanationAnswer(id=record.id, state=record.state, error=record.error)
    return view.model_dump_json()


_EXPLANATIONS = Accepted("explanations", (EXPLANATION.name,), _view)


@router.post(
    "",
    name="explain",
    status_code=202,
    response_model=EXPLANATION.answer,
    responses={
        200: {"model": ExplanationAnswer, "description": "Finished within `Prefer: wait=N` seconds"}
    },
    openapi_extra=_BODY,
)
async def explain(request: Request, collection: CollectionDep, entry: EntryDep) -> Response:
    """Compares two pictures patch by patch: indexed images (JSON), or sent along (multipart)."""
    identifier = new_id()
    await run_in_threadpool(collection.refuse_when_full)  # before pictures are read and stored
    if is_form(request):
        wanted = await _upload(request, collection, identifier)
    else:
        wanted = ExplanationRequest(query=parse(ExplanationQuery, await request.body()))
    entry.images = list(wanted.query.named)
    begin = partial(collection.submit, EXPLANATION, wanted, identifier)
    return await _EXPLANATIONS.accept(begin, identifier, request, collection, entry)


@router.get("/{identifier}", name="get_explanation", response_model=EXPLANATION.answer)
async def one(
    identifier: str, request: Request, collection: CollectionDep, entry: EntryDep
) -> Response:
    """Its current state; with `Prefer: wait=N`, as soon as it has finished."""
    return await _EXPLANATIONS.one(identifier, request, collection, entry)


async def _upload(request: Request, collection: Collection, identifier: str) -> ExplanationRequest:
    query, files = await read_query_and_files(request, ExplanationQuery, 2)
    return await run_in_threadpool(_store, collection, identifier, query, files)


def _store(
    collection: Collection, identifier: str, query: ExplanationQuery, files: Sequence[bytes]
) -> ExplanationRequest:
    """Raises InvalidQuery, with nothing stored."""
    query.check_pictures(len(files))
    own = [each for each in query.sides if each.image_id is None]
    sent: list[str | SentFile] = []
    try:
        for number, (side, data) in enumerate(zip(own, files, strict=True)):
            sent += store_pictures(collection, identifier, [data], frame=side.frame, start=number)
    except InvalidQuery:
        collection.blobs.delete(request_folder(identifier))
        raise
    return ExplanationRequest(query=query, images=tuple(sent))
