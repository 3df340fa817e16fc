"""The routes that `kindred backup` calls, for the ledger, the keys and the blobs.

It reads images page by page through `GET /v1/images`.
"""

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from api.access import require
from api.services import CollectionDep
from pipeline.backup.snapshot import Snapshots
from pipeline.backup.tar import tar_of
from pipeline.base.keys import Key

LINES, TAR = "application/x-ndjson", "application/x-tar"


class KeysView(BaseModel):
    keys: tuple[Key, ...]


router = APIRouter(prefix="/backup", tags=["backup"], dependencies=[require("admin")])


@router.get(
    "/ledger",
    name="backup_ledger",
    response_class=StreamingResponse,
    responses={200: {"content": {LINES: {}}}},
)
def ledger(collection: CollectionDep) -> StreamingResponse:
    """One JSON object for each Redis key, one on each line."""
    snapshots = Snapshots(collection.services.settings.redis_url, collection.ledger.namespace)
    lines = list(snapshots.lines())  # before the answer begins, so that an error gets its status
    snapshots.close()
    return StreamingResponse(iter(lines), media_type=LINES)


@router.get("/keys", name="backup_keys")
def keys(collection: CollectionDep) -> KeysView:
    """The API keys, hashed."""
    return KeysView(keys=collection.services.access.keys.file.read())


@router.get(
    "/blobs",
    name="backup_blobs",
    response_class=StreamingResponse,
    responses={200: {"content": {TAR: {}}}},
)
def blobs(collection: CollectionDep) -> StreamingResponse:
    """Streams a tar file of uploads, previews and receipts."""
    return StreamingResponse(tar_of(collection.blobs), media_type=TAR)
