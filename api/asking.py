"""Asks, from the call to its answer."""

import re
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from api.audit import Entry, images_in
from api.services import Services
from pipeline.base.blobs import request_folder
from pipeline.base.errors import KindredError, Unavailable
from pipeline.ledger import RequestRecord
from pipeline.messages import Ask, Problem

# In seconds: how long a plain GET waits for a worker, and the most that `Prefer: wait` gets.
PATIENCE = 10.0
LONGEST_WAIT = 60.0

JSON = "application/json"

_WAIT = re.compile(r"\bwait\s*=\s*(\d{1,6})\b")


Model = TypeVar("Model", bound=BaseModel)


class AnsweredWithProblem(KindredError):
    """A worker's refusal, passed on as it was said."""

    def __init__(self, said: Problem) -> None:
        super().__init__(said.detail)
        self.said = said


def preferred_wait(request: Request) -> float:
    """Seconds, from `Prefer: wait=N` (RFC 7240); 0 without it."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(float(found[1]), LONGEST_WAIT) if found else 0.0


async def passed_on(services: Services, ask: Ask, entry: Entry | None = None) -> Response:
    """What the worker wrote, as it stands; `entry` learns which images it shows.

    Raises as `ask_and_wait`.
    """
    found = await ask_and_wait(services, ask)
    if entry is not None:
        entry.shown = await run_in_threadpool(images_in, found)
    return Response(found, media_type=JSON)


async def ask_and_wait(services: Services, ask: Ask) -> bytes:
    """The answer's JSON. Raises what the worker said, or Unavailable when none answers in time,
    or RateLimited when too many wait."""
    await run_in_threadpool(services.refuse_when_full)
    identifier = await run_in_threadpool(services.submit, ask)
    record = await services.waiting.finished(identifier, PATIENCE)
    if record.error is not None:
        raise AnsweredWithProblem(record.error)
    if record.state != "succeeded":
        raise Unavailable("No worker has answered yet. Is one running? Try again in a moment.")
    return await run_in_threadpool(answer, services, record)


def answer(services: Services, record: RequestRecord) -> bytes:
    return services.blobs.read(f"{request_folder(record.id)}/answer.json")


def documented(model: str) -> dict[str, Any]:
    """An OpenAPI reference to one of our message schemas."""
    return {"$ref": f"#/components/schemas/{model}"}


def parse(model: type[Model], body: bytes, place: tuple[str, ...] = ()) -> Model:
    """From JSON that FastAPI does not read for us. Faults are named under `place`, inputs never."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise RequestValidationError([{**f, "loc": (*place, *f["loc"])} for f in faults]) from None
