"""Errors as they travel and are kept (RFC 9457)."""

from pipeline.base.errors import InvalidQuery, KindredError
from pipeline.messages.base import Message


class Problem(Message):
    """An RFC 9457 problem, as an ask or a job keeps it. `type` is the error's slug."""

    type: str
    title: str
    status: int
    detail: str


def problem(error: KindredError) -> Problem:
    """An error as it is kept and shown."""
    place = ".".join(map(str, error.path)) if isinstance(error, InvalidQuery) else ""
    detail = f"{place}: {error}" if place else str(error)
    return Problem(type=error.slug, title=error.title, status=error.status, detail=detail)
