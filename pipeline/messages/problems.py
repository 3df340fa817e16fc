"""Errors as messages (RFC 9457)."""

from pipeline.base.errors import InvalidQuery, KindredError
from pipeline.messages.base import Message


class Problem(Message):
    """An RFC 9457 problem, as a request or a job stores it. `type` is the error's slug."""

    type: str
    title: str
    status: int
    detail: str


def problem(error: KindredError) -> Problem:
    """The problem that describes an error."""
    path = ".".join(map(str, error.path)) if isinstance(error, InvalidQuery) else ""
    detail = f"{path}: {error}" if path else str(error)
    return Problem(type=error.slug, title=error.title, status=error.status, detail=detail)
