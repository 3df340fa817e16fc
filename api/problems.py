"""Errors as application/problem+json (RFC 9457). They never quote the request."""

import logging
import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import PydanticSerializationError
from starlette.exceptions import HTTPException

from api.body import BodyRefused
from api.queries import AnsweredWithProblem
from api.readiness import NotReady
from pipeline.base.errors import (
    InvalidQuery,
    KindredError,
    RateLimited,
    Unauthorized,
    UnsupportedMedia,
)
from pipeline.base.logs import where
from pipeline.messages import Problem, problem

# The form of an option's name.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")

logger = logging.getLogger("kindred.api")

# Seconds until a caller should try again after a service was unavailable.
RETRY_AFTER = 2


_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "urn:kindred:problem:…"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, or what to do"},
        "errors": {
            "type": "array",
            "description": "Each fault of the request, with its path",
            "items": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}

_MEANINGS = {
    400: "The request cannot be read",
    401: "An API key is required",
    403: "The key does not allow this",
    404: "Not found",
    406: "The answer has no such media type",
    409: "Not possible in this state",
    413: "Too large",
    415: "The body is compressed, or of another media type",
    422: "The request is not valid; `errors` says where",
    429: "Too many requests",
    503: "A service is unavailable, or no worker answers; try again",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Problems as the OpenAPI document has them."""
    content = {"application/problem+json": {"schema": _SCHEMA}}
    return {each: {"description": _MEANINGS[each], "content": content} for each in statuses}


def install(app: FastAPI) -> None:
    """Installs the handlers of all errors that can leave the api; the gate has the last one."""
    app.add_exception_handler(KindredError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(PydanticSerializationError, _no_text)


def of(error: KindredError) -> JSONResponse:
    """The answer to an error of ours, with its headers and its fault's path."""
    if isinstance(error, AnsweredWithProblem):
        return response(error.problem)
    if isinstance(error, NotReady):
        return response(problem(error.error), **error.parts)
    if isinstance(error, InvalidQuery) and error.path:
        fault = _fault(error.path, str(error))
        detail = f"{fault['path']}: {fault['message']}"
        found = problem(error).model_copy(update={"detail": detail})
        return response(found, errors=[fault])
    answer = response(problem(error))
    if isinstance(error, RateLimited):
        answer.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        answer.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, UnsupportedMedia):
        answer.headers["Accept-Encoding"] = "identity"
    return answer


def response(found: Problem, **more: Any) -> JSONResponse:
    body = {**found.model_dump(), "type": f"urn:kindred:problem:{found.type}", **more}
    headers = {"Retry-After": str(RETRY_AFTER)} if found.status == 503 else None
    return JSONResponse(body, found.status, headers, "application/problem+json")


def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, KindredError)  # noqa: S101 - the signature is Starlette's
    return of(error)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    faults = [_fault(e["loc"], e["msg"]) for e in error.errors()]
    first = faults[0] if faults else {"path": "request", "message": "is not valid"}
    detail = f"{first['path']}: {first['message']}"
    found = Problem(type="invalid-query", title="Invalid request", status=422, detail=detail)
    return response(found, errors=faults)


def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    if isinstance(error, BodyRefused):
        return response(error.problem)
    title = _TITLES.get(error.status_code, "Request refused")
    found = Problem(
        type="http", title=title, status=error.status_code, detail=str(error.detail or title)
    )
    answer = response(found)
    answer.headers.update(error.headers or {})
    return answer


def _no_text(_: Request, error: Exception) -> JSONResponse:
    """FastAPI's parser accepts half a surrogate pair in JSON, but it cannot be written again."""
    detail = (
        "It contains text that is not Unicode: half of a surrogate pair, such as \\ud800 alone."
    )
    found = Problem(type="invalid-query", title="Invalid request", status=422, detail=detail)
    return response(found)


def unexpected(error: Exception) -> JSONResponse:
    """The answer to an error that no handler knows, after a line in the log."""
    logger.error("unexpected", extra={"error": where(error)})
    detail = "This is a fault of ours. The api's log says where it happened."
    return response(
        Problem(type="internal-error", title="Internal error", status=500, detail=detail)
    )


def _fault(path: Sequence[str | int], message: str) -> dict[str, str]:
    return {"path": ".".join(map(_named, path[path[:1] == ("body",) :])), "message": message}


def _named(part: str | int) -> str:
    """Repeats a name, which helps if an option is misspelt, but no text of another form."""
    return str(part) if _NAME.fullmatch(str(part)) else "(an unknown name)"


_TITLES = {
    404: "Not found",
    405: "Method not allowed",
}
