"""What `kindred backup` takes: the ledger at one moment, and the blobs. Images it reads itself."""

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from api.access import require
from api.services import CollectionDep
from pipeline.backup.snapshot import Snapshots
from pipeline.backup.tar import tar_of
from pipeline.base.keys import Key


class KeysView(BaseModel):
    keys: tuple[Key, ...]


router = APIRouter(prefix="/backup", tags=["backup"], dependencies=[require("admin")])


@router.get("/ledger", response_class=StreamingResponse)
def ledger(collection: CollectionDep) -> StreamingResponse:
    """One JSON object a line and Redis key."""
    snapshots = Snapshots(collection.services.settings.redis_url, collection.ledger.namespace)
    lines = list(snapshots.lines())  # before the answer begins, so that a failure can be told
    snapshots.close()
    return StreamingResponse(iter(lines), media_type="application/x-ndjson")


@router.get("/keys")
def keys(collection: CollectionDep) -> KeysView:
    """The file of keys, in which they are hashed."""
    return KeysView(keys=collection.services.access.keys.file.read())


@router.get("/blobs", response_class=StreamingResponse)
def blobs(collection: CollectionDep) -> StreamingResponse:
    """A tar file of uploads, previews and receipts, as they are read."""
    return StreamingResponse(tar_of(collection.blobs), media_type="application/x-tar")
