"""Lists the collections. Each has all calls of /v1 under its own path."""

from fastapi import APIRouter
from pydantic import BaseModel

from api.access import require
from api.services import ServicesDep


class CollectionView(BaseModel):
    """`default`: whether /v1 itself means this one. `workers` is the number of ready workers."""

    name: str
    default: bool
    workers: int


class CollectionsView(BaseModel):
    collections: list[CollectionView]


router = APIRouter(prefix="/collections", tags=["collections"])


@router.get("", name="list_collections", dependencies=[require("search")])
def all_collections(services: ServicesDep) -> CollectionsView:
    """All collections that a worker has opened, by name."""
    return CollectionsView(
        collections=[
            CollectionView(
                name=name,
                default=name == services.settings.collection,
                workers=sum(w.ready for w in services.ledgers.of(name).workers.alive()),
            )
            for name in services.names()
        ]
    )
