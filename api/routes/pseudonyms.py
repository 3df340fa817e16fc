"""Pseudonyms: a new key for the hashes of identifiers, and what files are called in lists."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from api.access import require
from api.problems import documented
from api.services import CollectionDep
from pipeline.messages import Message

router = APIRouter(prefix="/pseudonyms", tags=["pseudonyms"], dependencies=[require("admin")])

MAX_NAMES = 1000


class RotationView(Message):
    """How many keys there are now. All but the newest only tell what was stored before."""

    keys: int


class NamesRequest(Message):
    """Paths of files as a job saw them: relative to its source, with slashes."""

    names: tuple[Annotated[str, Field(max_length=10_000)], ...] = Field(max_length=MAX_NAMES)


class NamesView(Message):
    """For each name, in its order, what lists call it: under each key, the newest first."""

    names: tuple[tuple[str, ...], ...]


@router.post("/rotate", name="rotate_pseudonyms", responses=documented(409))
def rotate(collection: CollectionDep) -> RotationView:
    """Draws a new key. What is stored keeps its hashes, and is still found and deleted by them."""
    own = collection.services.settings.pseudonym_key
    return RotationView(keys=collection.ledger.pseudonyms.rotate(own))


@router.post("/names", name="name_files")
def names(wanted: NamesRequest, collection: CollectionDep) -> NamesView:
    """What lists call files, whose names they hide."""
    pseudonyms = collection.pseudonyms
    return NamesView(names=tuple(tuple(pseudonyms.names_of(name)) for name in wanted.names))
