"""Searches: accepts them at once; a worker answers them; clients poll for the answer."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from api.access import require
from api.audit import Entry, EntryDep, images_in
from api.queries import JSON, answer, parse, preferred_wait, wait_for
from api.services import Collection, CollectionDep, new_id
from pipeline.base.blobs import request_folder
from pipeline.base.errors import BadRequest, InvalidQuery
from pipeline.images.decoding import Unusable, inspect
from pipeline.ledger import RequestRecord
from pipeline.messages import Message, SearchQuery
from pipeline.operations.base import Operation
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

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/SearchQuery"}},
            "multipart/form-data": {
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
    await run_in_threadpool(collection.refuse_when_full)  # before a body is read and stored
    identifier = new_id()
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        wanted = await _upload(request, collection, identifier)
    else:
        wanted = SearchRequest(query=parse(SearchQuery, await request.body()))
    entry.images = list(wanted.query.named)
    return await _accept(SEARCH, wanted, identifier, request, collection, entry)


@router.post(
    "/batch", status_code=202, response_model=BATCH.answer, responses=_finished(BatchAnswer)
)
async def batch(
    body: BatchRequest, request: Request, collection: CollectionDep, entry: EntryDep
) -> Response:
    """Several searches at once, each with its own filter, fields and limit."""
    await run_in_threadpool(collection.refuse_when_full)
    entry.images = [image_id for query in body.searches for image_id in query.named]
    return await _accept(BATCH, body, new_id(), request, collection, entry)


@router.get("/{identifier}", response_model=SearchView)
async def one(
    identifier: str, request: Request, collection: CollectionDep, entry: EntryDep
) -> Response:
    """The search's current state; with `Prefer: wait=N`, as soon as it has finished."""
    record = await wait_for(collection, identifier, preferred_wait(request))
    return await run_in_threadpool(_view, collection, record, entry)


async def _accept(
    wanted: Operation,
    body: Message,
    identifier: str,
    request: Request,
    collection: Collection,
    entry: Entry,
) -> Response:
    await run_in_threadpool(collection.submit, wanted, body, identifier)
    wait = preferred_wait(request)
    record = await wait_for(collection, identifier, wait)
    response = await run_in_threadpool(_view, collection, record, entry)
    response.headers["Location"] = f"{collection.base}/searches/{identifier}"
    if record.final and wait:
        response.headers["Preference-Applied"] = f"wait={wait:.0f}"
    else:
        response.status_code = 202
        response.headers["Retry-After"] = "1"
    return response


async def _upload(request: Request, collection: Collection, identifier: str) -> SearchRequest:
    async with _form(request) as form:
        unknown = sorted(set(form) - {"image", "query"})
        if unknown:
            raise BadRequest("The form may have only the fields image and query.")
        images, text = form.getlist("image"), form.get("query", "{}")
        if not isinstance(text, str):
            raise InvalidQuery("Send the query as JSON text, not as a file.", ("query",))
        query = parse(SearchQuery, text.encode(errors="replace"), ("query",))
        names = [f"{request_folder(identifier)}/image-{n}" for n in range(len(images))]
        wanted = SearchRequest(query=query, images=tuple(names))
        files = [await _bytes(image) for image in images]
    await run_in_threadpool(_store, collection, dict(zip(names, files, strict=True)))
    return wanted


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    """The request's form. Raises BadRequest for an encoding that the parser cannot read."""
    try:
        form = await request.form(max_files=MAX_PICTURES, max_fields=1)
    except UnicodeError:
        raise BadRequest("The form's encoding cannot be read.") from None
    try:
        yield form
    finally:
        await form.close()


async def _bytes(image: UploadFile | str) -> bytes:
    if isinstance(image, str):
        raise InvalidQuery("Send the picture as the file 'image' of the form.", ("image",))
    return await image.read()


def _store(collection: Collection, files: Mapping[str, bytes]) -> None:
    """Checks only the headers: a broken picture must not make the api decode it."""
    for name, data in files.items():
        found = inspect(data, collection.services.settings.max_pixels)
        if isinstance(found, Unusable):
            raise InvalidQuery(found.reason, ("image",))
        collection.blobs.write(name, data)


def _view(collection: Collection, record: RequestRecord, entry: Entry) -> Response:
    """The search's current state, or the worker's answer once it has succeeded."""
    entry.search = record.id
    if record.state != "succeeded" or record.operation not in (SEARCH.name, BATCH.name):
        view = SearchAnswer(id=record.id, state=record.state, error=record.error)
        return Response(view.model_dump_json(), media_type=JSON)
    body = answer(collection, record.id)
    entry.shown = images_in(body)
    return Response(body, media_type=JSON)
