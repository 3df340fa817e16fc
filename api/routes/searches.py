"""Searches: accepted at once, answered by a worker, fetched by polling."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from api.asking import answer, documented, parse, preferred_wait
from api.services import Services, ServicesDep, new_id
from api.views import HitView, SearchView
from pipeline.blobs import ask_folder
from pipeline.errors import BadRequest, InvalidQuery
from pipeline.images import Unusable, inspect
from pipeline.ledger import AskRecord
from pipeline.messages import (
    MAX_BATCH,
    BatchAnswer,
    BatchAsk,
    Message,
    SearchAnswer,
    SearchAsk,
    SearchQuery,
)

router = APIRouter(prefix="/v1/searches", tags=["searches"])

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
                        "image": {"type": "string", "format": "binary"},
                        "query": {"type": "string", "description": "SearchQuery as JSON"},
                    },
                }
            },
        },
    }
}


@router.post("", status_code=202, openapi_extra=_BODY)
async def search(request: Request, services: ServicesDep, response: Response) -> SearchView:
    """By an image sent along (multipart), or by what the query names (JSON)."""
    identifier = new_id()
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        ask = await _upload(request, services, identifier)
    else:
        ask = SearchAsk(query=parse(SearchQuery, await request.body()))
        if ask.query.targets != 1:
            raise InvalidQuery("Name exactly one of image_id, text and vector.", ("query",))
    return await _accept(ask, identifier, request, services, response)


@router.post("/batch", status_code=202)
async def batch(
    body: BatchRequest, request: Request, services: ServicesDep, response: Response
) -> SearchView:
    """Several searches at once, each with its own filter, fields and limit."""
    for number, query in enumerate(body.searches):
        if query.targets != 1:
            place = ("searches", number)
            raise InvalidQuery("Name exactly one of image_id, text and vector.", place)
    ask = BatchAsk(searches=body.searches)
    return await _accept(ask, new_id(), request, services, response)


@router.get("/{identifier}")
async def one(identifier: str, request: Request, services: ServicesDep) -> SearchView:
    """The search as it stands; with `Prefer: wait=N`, as soon as it is settled."""
    record = await services.waiting.settled(identifier, preferred_wait(request))
    return await run_in_threadpool(_view, services, record)


async def _accept(
    ask: SearchAsk | BatchAsk,
    identifier: str,
    request: Request,
    services: Services,
    response: Response,
) -> SearchView:
    await run_in_threadpool(services.submit, ask, identifier)
    response.headers["Location"] = f"/v1/searches/{identifier}"
    wait = preferred_wait(request)
    record = await services.waiting.settled(identifier, wait)
    if record.final and wait:
        response.status_code = 200
        response.headers["Preference-Applied"] = f"wait={wait:.0f}"
    else:
        response.headers["Retry-After"] = "1"
    return await run_in_threadpool(_view, services, record)


async def _upload(request: Request, services: Services, identifier: str) -> SearchAsk:
    async with request.form(max_files=1, max_fields=1) as form:
        unknown = sorted(set(form) - {"image", "query"})
        if unknown:
            raise BadRequest("The form takes the fields image and query only.")
        image, text = form.get("image"), form.get("query", "{}")
        if not isinstance(image, UploadFile):
            raise InvalidQuery("Send the picture as the form's file 'image'.", ("image",))
        if not isinstance(text, str):
            raise InvalidQuery("Send the query as JSON text, not as a file.", ("query",))
        query = parse(SearchQuery, text.encode(), ("query",))
        if query.targets:
            raise InvalidQuery("The image is the target; name no other.", ("query",))
        data = await image.read()
    return await run_in_threadpool(_keep, services, identifier, data, query)


def _keep(services: Services, identifier: str, data: bytes, query: SearchQuery) -> SearchAsk:
    """Looks at the header only: a broken picture must not cost the api a decoding."""
    found = inspect(data, services.settings.max_pixels)
    if isinstance(found, Unusable):
        raise InvalidQuery(found.reason, ("image",))
    blob = f"{ask_folder(identifier)}/image"
    services.blobs.write(blob, data)
    return SearchAsk(query=query, image=blob)


def _view(services: Services, record: AskRecord) -> SearchView:
    if record.state != "succeeded" or record.kind not in ASK_KINDS:
        return SearchView(id=record.id, state=record.state, error=record.error)
    body = answer(services, record)
    results: list[HitView] | list[list[HitView]]
    if record.kind == "batch":
        found = BatchAnswer.model_validate_json(body).results
        results = [[HitView.of(hit) for hit in hits] for hits in found]
    else:
        results = [HitView.of(hit) for hit in SearchAnswer.model_validate_json(body).results]
    return SearchView(id=record.id, state=record.state, results=results)
