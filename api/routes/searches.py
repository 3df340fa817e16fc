"""Searches: accepts them at once; a worker answers them; clients poll for the answer."""

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
from pipeline.messages import Message, SearchQuery
from pipeline.operations.search import (
    BATCH,
    MAX_PICTURES,
    SEARCH,
    BatchAnswer,
    BatchRequest,
    SearchAnswer,
    SearchRequest,
)

router = APIRouter(prefix="/searches", tags=["searches"], dependencies=[require("search")])

SearchView = SearchAnswer | BatchAnswer


def _view(record: RequestRecord) -> str:
    return SearchAnswer(id=record.id, state=record.state, error=record.error).model_dump_json()


_SEARCHES = Accepted("searches", (SEARCH.name, BATCH.name), _view)

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/SearchQuery"}},
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "maxItems": MAX_PICTURES,
                        },
                        "query": {"type": "string", "description": "SearchQuery as JSON"},
                    },
                }
            },
        },
    }
}


def _finished(model: type[Message]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model, "description": "Finished within `Prefer: wait=N` seconds"}}


@router.post(
    "",
    status_code=202,
    response_model=SEARCH.answer,
    responses=_finished(SearchAnswer),
    openapi_extra=_BODY,
)
async def search(request: Request, collection: CollectionDep, entry: EntryDep) -> Response:
    """Searches by pictures sent along (multipart), or by the target that the query names (JSON)."""
    identifier = new_id()
    if is_form(request):
        await run_in_threadpool(collection.refuse_when_full)  # before pictures are read and stored
        wanted = await _upload(request, collection, identifier)
        begin = partial(collection.submit, SEARCH, wanted, identifier)
    else:
        wanted = SearchRequest(query=parse(SearchQuery, await request.body()))
        begin = partial(collection.submit_unless_full, SEARCH, wanted, identifier)
    entry.images = list(wanted.query.named)
    return await _SEARCHES.accept(begin, identifier, request, collection, entry)


@router.post(
    "/batch",
    name="search_batch",
    status_code=202,
    response_model=BATCH.answer,
    responses=_finished(BatchAnswer),
)
async def batch(
    body: BatchRequest, request: Request, collection: CollectionDep, entry: EntryDep
) -> Response:
    """Several searches at once, each with its own filter, fields and limit."""
    identifier = new_id()
    entry.images = [image_id for query in body.searches for image_id in query.named]
    begin = partial(collection.submit_unless_full, BATCH, body, identifier)
    return await _SEARCHES.accept(begin, identifier, request, collection, entry)


@router.get("/{identifier}", name="get_search", response_model=SearchView)
async def one(
    identifier: str, request: Request, collection: CollectionDep, entry: EntryDep
) -> Response:
    """The search's current state; with `Prefer: wait=N`, as soon as it has finished."""
    return await _SEARCHES.one(identifier, request, collection, entry)


async def _upload(request: Request, collection: Collection, identifier: str) -> SearchRequest:
    query, files = await read_query_and_files(request, SearchQuery, MAX_PICTURES)
    return await run_in_threadpool(_store, collection, identifier, query, files)


def _store(
    collection: Collection, identifier: str, query: SearchQuery, files: Sequence[bytes]
) -> SearchRequest:
    """Raises InvalidQuery before anything is stored."""
    if query.not_same is None:  # which depends on what the files say
        query.check_target(len(files))
    whole = query.strategy == "best_match"
    sent = store_pictures(collection, identifier, files, frame=query.frame, whole=whole)
    try:
        return SearchRequest(query=query, images=tuple(sent))
    except InvalidQuery:
        collection.blobs.delete(request_folder(identifier))
        raise
