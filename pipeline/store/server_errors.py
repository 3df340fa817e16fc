"""What goes wrong with a Qdrant server, in our words.

What a server says is never repeated, because it can repeat a filter's values. Only names that we
sent ourselves, and numbers, are looked for in it.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import httpx
from grpc import Call, RpcError  # type: ignore[import-untyped]
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import (
    ApiException,
    ResponseHandlingException,
    UnexpectedResponse,
)

from pipeline.base.errors import ConfigurationError, InvalidQuery, StoreUnavailable
from pipeline.messages.filters import Filter
from pipeline.store import server_strict
from pipeline.store.server_strict import Path

# All that qdrant-client raises for a server. Over gRPC it does not wrap the library's errors.
ERRORS = (RpcError, ApiException, ResourceExhaustedResponse)

_REFUSED = ("INVALID_ARGUMENT", "OUT_OF_RANGE", "HTTP 400", "HTTP 422")
_WRONG_KEY = ("UNAUTHENTICATED", "PERMISSION_DENIED", "HTTP 401", "HTTP 403")
_UNREACHED = ("UNAVAILABLE", "ConnectError", "ConnectTimeout", "ReadError", "RemoteProtocolError")
_SILENT = ("DEADLINE_EXCEEDED", "ReadTimeout", "WriteTimeout", "PoolTimeout")
_FULL_DISK = re.compile(r"no space left on device", re.IGNORECASE)
_RATE = ("RESOURCE_EXHAUSTED", "ResourceExhaustedResponse", "HTTP 429")
_NO_INDEX = re.compile(r"index required but not found", re.IGNORECASE)


@contextmanager
def server_errors(
    path: Path = (), filters: Sequence[Filter | None] = (), *, writes: bool = False
) -> Iterator[None]:
    """Raises InvalidQuery, with `path`, or StoreUnavailable in the place of the client's errors.

    `filters` are those that the request has: their fields may be named in the error. If it
    `writes`, a refusal is StoreUnavailable, too: no image is to blame for it, and it can be lifted.
    """
    try:
        yield
    except ERRORS as error:
        if writes:
            raise _unavailable(error) from None
        _raise(error, path, filters)


@contextmanager
def errors_at_start() -> Iterator[None]:
    """As `server_errors`, but a key or a certificate that is refused is a wrong setting."""
    try:
        yield
    except ERRORS as error:
        reason = _reason(error)
        if reason in _WRONG_KEY:
            line = f"KINDRED_QDRANT_API_KEY: the Qdrant server refuses it ({reason})"
        elif "CERTIFICATE_VERIFY_FAILED" in _text(error):
            line = "KINDRED_QDRANT_CA: it does not vouch for the Qdrant server's certificate"
        elif most := server_strict.most_indexes(_text(error)):
            line = (
                f"KINDRED_INDEXED_FIELDS: strict mode allows the collection {most} indexes in all"
            )
        else:
            _raise(error)
    else:
        return
    raise ConfigurationError([line])  # outside of `except`: the cause would quote the server


def _raise(error: Exception, path: Path = (), filters: Sequence[Filter | None] = ()) -> NoReturn:
    reason, text = _reason(error), _text(error)
    if reason in _REFUSED:
        raise _refusal(reason, text, path, filters) from None
    raise _unavailable(error) from None


def _unavailable(error: Exception) -> StoreUnavailable:
    reason = _reason(error)
    return StoreUnavailable(f"{_cause(reason, _text(error))} ({reason})")


def _refusal(reason: str, text: str, path: Path, filters: Sequence[Filter | None]) -> InvalidQuery:
    if _NO_INDEX.search(text):
        return InvalidQuery(
            f"{_unindexed(text, filters)} has no index for this condition, and the Qdrant server's "
            f"strict mode requires one ({reason}). Add it to KINDRED_INDEXED_FIELDS, with the type "
            "that fits.",
            path,
        )
    if found := server_strict.refusal(text):
        limit, where = found
        return InvalidQuery(f"The Qdrant server's strict mode {limit} ({reason}).", where)
    return InvalidQuery(f"Qdrant does not take this request ({reason})", path)


def _cause(reason: str, text: str) -> str:
    if _FULL_DISK.search(text):
        return "The vector store's disk is full"
    if reason in _WRONG_KEY:
        return "The Qdrant server refuses KINDRED_QDRANT_API_KEY"
    if reason in _UNREACHED:
        return "The Qdrant server cannot be reached"
    if reason in _SILENT:
        return "The Qdrant server does not answer in time"
    if reason in _RATE:
        return "The Qdrant server's strict mode limits how often it is asked"
    if server_strict.is_full(text):
        return "The Qdrant server's strict mode takes no more into this collection"
    return "Qdrant did not do as asked"


def _reason(error: Exception) -> str:
    """The name of gRPC's status, HTTP's status, or the type of the error."""
    if isinstance(error, Call):
        return str(error.code().name)
    if isinstance(error, UnexpectedResponse):
        return f"HTTP {error.status_code}"
    if isinstance(error, ResponseHandlingException) and isinstance(error.source, httpx.HTTPError):
        return type(error.source).__name__
    return type(error).__name__


def _text(error: Exception) -> str:
    """What the server, or the connection, says. For searching, never to be shown."""
    if isinstance(error, Call):
        return str(error.details() or "")
    if isinstance(error, UnexpectedResponse):
        return error.content.decode(errors="replace").replace('\\"', '"')
    if isinstance(error, ResponseHandlingException):
        return str(error.source)
    return ""


def _unindexed(text: str, filters: Sequence[Filter | None]) -> str:
    """That of the filters' fields which the server names. It writes lists without brackets."""
    said = text.replace("[]", "")
    for wanted in filters:
        for field in _fields(None if wanted is None else wanted.to_qdrant()):
            if f'"{field.replace("[]", "")}"' in said:
                return field
    return "A field of the filter"


def _fields(part: Any, above: str = "") -> Iterator[str]:
    """All payload fields of a filter's JSON, those within others with their whole path."""
    for item in part if isinstance(part, list) else ():
        yield from _fields(item, above)
    if not isinstance(part, dict):
        return
    key = part.get("key")
    field = f"{above}{key}"
    if isinstance(key, str):
        yield field
    for name, item in part.items():
        within = f"{field}." if name == "filter" and isinstance(key, str) else above
        yield from _fields(item, within)
