"""Refuses query parameters that a call does not have: a misspelt one must not be ignored."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from fastapi import Request
from pydantic import BaseModel

from pipeline.base.errors import InvalidQuery


async def known_parameters(request: Request) -> None:
    """A dependency of every call under /v1. Raises InvalidQuery, which quotes no value."""
    known = sorted(_names(request.scope["route"].dependant))
    for name in request.query_params:
        if name not in known:
            raise InvalidQuery(_instead_of(name, known), (name,))


def _names(dependant: Any) -> Iterator[str]:
    """Of the call's own parameters, and of those of everything that it depends on."""
    for parameter in dependant.query_params:
        model = parameter.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):  # its fields come one by one
            yield from (field.alias or name for name, field in model.model_fields.items())
        else:
            yield parameter.alias
    for each in dependant.dependencies:
        yield from _names(each)


def _instead_of(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name.lower(), known, n=1)
    if near:
        return f"There is no such parameter. Did you mean {near[0]}?"
    return f"There is no such parameter. This call takes {', '.join(known) or 'none'}."
