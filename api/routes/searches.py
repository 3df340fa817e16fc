"""Searches: accepted at once, answered by a worker, fetched by polling."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from api.access import require
from api.asking import JSON, answer, documented, parse, preferred_wait
from api.audit import Entry, EntryDep, images_in
from api.services import Services, ServicesDep, new_id
from api.views import SearchView
from pipeline.base.blobs import request_folder
from pipeline.base.errors import BadRequest, InvalidQuery
from pipeline.images.decoding import Unusable, inspect
from pipeline.ledger import RequestRecord
from pipeline.messages import (
    MAX_BATCH,
    MAX_PICTURES,
    BatchAsk,
    Message,
    SearchAsk,
    SearchQuery,
)

router = APIRouter(prefix="/v1/searches", tags=["searches"], dependencies=[require("search")])

ASK_KINDS = ("search", "batch")


class BatchRequest(Message):
    searches: Annotated[tuple[SearchQuery, ...], Field(min_length=1, max_length=MAX_BATCH)]


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": documented("SearchQuery")},
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


_SETTLED: dict[int | str, dict[str, Any]] = {
    200: {"model": SearchView, "description": "Settled within `Prefer: wait=N` seconds"}
}


@router.post(
    "", status_code=202, response_model=SearchView, responses=_SETTLED, openapi_extra=_BODY
)
async def search(request: Request, services: ServicesDep, entry: EntryDep) -> Response:
    """By pictures sent along (multipart), or by what the query names (JSON)."""
    await run_in_threadpool(services.refuse_when_full)  # before a body is read and kept
    identifier = new_id()
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        ask = await _upload(request, services, identifier)
    else:
        ask = SearchAsk(query=parse(SearchQuery, await request.body()))
        ask.query.check_target(pictures=0)
    entry.images = list(ask.query.named)
    return await _accept(ask, identifier, request, services, entry)


@router.post("/batch", status_code=202, response_model=SearchView, responses=_SETTLED)
async def batch(
    body: BatchRequest, request: Request, services: ServicesDep, entry: EntryDep
) -> Response:
    """Several searches at once, each with its own filter, fields and limit."""
    await run_in_threadpool(services.refuse_when_full)
    for number, query in enumerate(body.searches):
        try:
            query.check_target(pictures=0)
        except InvalidQuery as error:
            raise InvalidQuery(str(error), ("searches", number, *error.path)) from None
    ask = BatchAsk(searches=body.searches)
    entry.images = [image_id for query in body.searches for image_id in query.named]
    return await _accept(ask, new_id(), request, services, entry)


@router.get("/{identifier}", response_model=SearchView)
async def one(
    identifier: str, request: Request, services: ServicesDep, entry: EntryDep
) -> Response:
    """The search as it stands; with `Prefer: wait=N`, as soon as it is settled."""
    record = await services.waiting.finished(identifier, preferred_wait(request))
    return await run_in_threadpool(_settled, services, record, entry)


async def _accept(
    ask: SearchAsk | BatchAsk, identifier: str, request: Request, services: Services, entry: Entry
) -> Response:
    await run_in_threadpool(services.submit, ask, identifier)
    wait = preferred_wait(request)
    record = await services.waiting.finished(identifier, wait)
    response = await run_in_threadpool(_settled, services, record, entry)
    response.headers["Location"] = f"/v1/searches/{identifier}"
    if record.final and wait:
        response.headers["Preference-Applied"] = f"wait={wait:.0f}"
    else:
        response.status_code = 202
        response.headers["Retry-After"] = "1"
    return response


async def _upload(request: Request, services: Services, identifier: str) -> SearchAsk:
    async with _form(request) as form:
        unknown = sorted(set(form) - {"image", "query"})
        if unknown:
            raise BadRequest("The form takes the fields image and query only.")
        images, text = form.getlist("image"), form.get("query", "{}")
        if not isinstance(text, str):
            raise InvalidQuery("Send the query as JSON text, not as a file.", ("query",))
        query = parse(SearchQuery, text.encode(errors="replace"), ("query",))
        query.check_target(len(images))
        files = [await _bytes(image) for image in images]
    return await run_in_threadpool(_keep, services, identifier, files, query)


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    """Raises BadRequest for one in an encoding that its parser stumbles over."""
    try:
        form = await request.form(max_files=MAX_PICTURES, max_fields=1)
    except UnicodeError:
        raise BadRequest("The form is in no encoding that can be read.") from None
    try:
        yield form
    finally:
        await form.close()


async def _bytes(image: UploadFile | str) -> bytes:
    if isinstance(image, str):
        raise InvalidQuery("Send the picture as the form's file 'image'.", ("image",))
    return await image.read()


def _keep(
    services: Services, identifier: str, files: Sequence[bytes], query: SearchQuery
) -> SearchAsk:
    """Looks at the headers only: a broken picture must not cost the api a decoding."""
    blobs = []
    for number, data in enumerate(files):
        found = inspect(data, services.settings.max_pixels)
        if isinstance(found, Unusable):
            raise InvalidQuery(found.reason, ("image",))
        blobs.append(f"{request_folder(identifier)}/image-{number}")
        services.blobs.write(blobs[-1], data)
    return SearchAsk(query=query, images=tuple(blobs))


def _settled(services: Services, record: RequestRecord, entry: Entry) -> Response:
    """The search as it stands, with what the worker wrote."""
    entry.search = record.id
    view = SearchView(id=record.id, state=record.state, error=record.error)
    if record.state != "succeeded" or record.kind not in ASK_KINDS:
        return Response(view.model_dump_json(), media_type=JSON)
    head = view.model_dump_json(exclude={"results"}).encode()
    results = answer(services, record)
    entry.shown = images_in(results)
    return Response(head[:-1] + b"," + results[1:], media_type=JSON)
