"""What `kindred backup` takes: the ledger at one moment, and the blobs. Images it reads itself."""

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from api.access import require
from api.services import ServicesDep
from pipeline.backup.snapshot import Snapshots
from pipeline.backup.tar import tar_of
from pipeline.base.keys import Key


class KeysView(BaseModel):
    keys: tuple[Key, ...]


router = APIRouter(prefix="/v1/backup", tags=["backup"], dependencies=[require("admin")])


@router.get("/ledger", response_class=StreamingResponse)
def ledger(services: ServicesDep) -> StreamingResponse:
    """One JSON object a line and Redis key."""
    snapshots = Snapshots(services.settings.redis_url)
    lines = list(snapshots.lines())  # before the answer begins, so that a failure can be told
    snapshots.close()
    return StreamingResponse(iter(lines), media_type="application/x-ndjson")


@router.get("/keys")
def keys(services: ServicesDep) -> KeysView:
    """The file of keys, in which they are hashed."""
    return KeysView(keys=services.access.keys.file.read())


@router.get("/blobs", response_class=StreamingResponse)
def blobs(services: ServicesDep) -> StreamingResponse:
    """A tar file of uploads, previews and receipts, as they are read."""
    return StreamingResponse(tar_of(services.blobs), media_type="application/x-tar")
