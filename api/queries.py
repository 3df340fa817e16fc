"""Runs queries, from the call to its answer."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.request import parse_http_list

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from api.audit import Entry, images_in
from api.readiness import trouble
from api.services import Collection, new_id
from api.viewer import with_viewer
from pipeline.base.blobs import request_folder
from pipeline.base.errors import BlobsUnavailable, KindredError, NotFound, Unavailable
from pipeline.ledger import RequestRecord
from pipeline.messages import Message, Problem
from pipeline.operations.base import Operation

# In seconds: how long a plain GET waits for a worker, and the maximum for `Prefer: wait`.
PATIENCE = 10.0
LONGEST_WAIT = 60.0

JSON = "application/json"

Submit = Callable[[str], None]  # takes the id that the query gets

Model = TypeVar("Model", bound=BaseModel)


class AnsweredWithProblem(KindredError):
    """A worker answered with a problem, which is passed on unchanged."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class AnswerGone(NotFound):
    """A deletion takes the answers of all earlier searches, which could hold its images."""


def preferred_wait(request: Request) -> float:
    """Seconds from `Prefer: wait=N`, in any case, and also as "N" (RFC 7240); 0 without it."""
    for preference in parse_http_list(",".join(request.headers.getlist("Prefer"))):
        name, _, value = preference.partition(";")[0].partition("=")
        seconds = value.strip().strip('"')
        if name.strip().lower() == "wait" and seconds.isascii() and seconds.isdecimal():
            return min(float(seconds), LONGEST_WAIT)
    return 0.0


async def passed_on(
    collection: Collection, wanted: Operation, body: Message, entry: Entry | None = None
) -> Response:
    """Runs a query, and passes on the worker's answer unchanged; `entry` gets the images it shows.

    Raises AnsweredWithProblem, Unavailable if no worker answers in time, or RateLimited if too many
    queries wait.
    """
    submit = collection.submit_unless_full
    try:
        found = await _answered(collection, partial(submit, wanted, body), entry)
    except AnswerGone:  # a deletion took it in this moment
        found = await _answered_again(collection, partial(submit, wanted, body), entry)
    return Response(found, media_type=JSON)


async def answered(
    collection: Collection, wanted: Operation, body_of: Callable[[str], Message]
) -> bytes:
    """Runs a query whose body depends on its id, and returns the worker's answer.

    Nothing of it stays, since nobody else can ask for the answer. Raises as `passed_on` does.
    """
    sent: list[str] = []

    def submit(identifier: str) -> None:
        collection.refuse_when_full()
        sent.append(identifier)
        collection.submit(wanted, body_of(identifier), identifier)

    try:
        return await _answered(collection, submit, None)
    except AnswerGone:  # a deletion took it in this moment
        return await _answered_again(collection, submit, None)
    finally:
        await run_in_threadpool(_forget, collection, sent)


def _forget(collection: Collection, requests: Sequence[str]) -> None:
    with suppress(BlobsUnavailable):  # then they go when they have expired
        for request in requests:
            collection.blobs.delete(request_folder(request))


async def _answered_again(collection: Collection, submit: Submit, entry: Entry | None) -> bytes:
    try:
        return await _answered(collection, submit, entry)
    except AnswerGone:
        raise Unavailable("Images are being deleted. Try again in a moment.") from None


async def _answered(collection: Collection, submit: Submit, entry: Entry | None) -> bytes:
    identifier, waiting = new_id(), collection.services.waiting
    get, begin = partial(_look, collection, entry), partial(submit, identifier)
    found = await waiting.finished(get, identifier, PATIENCE, begin)
    if found.record.error is not None:
        raise AnsweredWithProblem(found.record.error)
    if found.record.state != "succeeded":
        raise await run_in_threadpool(_why_unanswered, collection)
    return found.answer


def _why_unanswered(collection: Collection) -> Unavailable:
    return trouble(collection) or Unavailable(
        "No worker has answered yet. Is one running? Try again in a moment."
    )


@dataclass(frozen=True)
class _Found:
    """`answer` is the worker's, once it has succeeded."""

    record: RequestRecord
    answer: bytes = b""

    @property
    def final(self) -> bool:
        return self.record.final


def _look(collection: Collection, entry: Entry | None, request: str) -> _Found:
    record = collection.request(request)
    if record.state != "succeeded":
        return _Found(record)
    body = answer(collection, request)
    if entry is not None:
        entry.shown = images_in(body)
    return _Found(record, with_viewer(body, collection, entry))


def answer(collection: Collection, request: str) -> bytes:
    """The answer's JSON. Raises AnswerGone."""
    try:
        return collection.blobs.read(f"{request_folder(request)}/answer.json")
    except FileNotFoundError:
        raise AnswerGone(
            "The results have expired, or images were deleted since: search again."
        ) from None


def parse(model: type[Model], body: bytes | str, path: tuple[str, ...] = ()) -> Model:
    """Parses JSON that FastAPI does not parse. Puts `path` before each fault; quotes no input."""
    try:
        return model.model_validate_json(json_text(body))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise RequestValidationError([{**f, "loc": (*path, *f["loc"])} for f in faults]) from None


def json_text(body: bytes | str) -> bytes:
    """JSON as UTF-8 without a byte order mark. It may come in UTF-16 or UTF-32, as FastAPI has it.

    What no encoding fits is left to the parser, which refuses it.
    """
    if isinstance(body, str):
        return body.removeprefix("\ufeff").encode(errors="replace")
    encoding = json.detect_encoding(body)
    try:
        return body if encoding == "utf-8" else body.decode(encoding).encode()
    except UnicodeError:
        return body
