"""The routes that `kindred backup` calls, for the ledger, the keys and the blobs.

It reads images page by page through `GET /v1/images`.
"""

from collections.abc import Iterator
from contextlib import closing
from itertools import chain, islice

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from api.access import require
from api.services import CollectionDep
from pipeline.backup.snapshot import Snapshots
from pipeline.backup.tar import tar_of
from pipeline.base.keys import Key

LINES_AT_ONCE = 200  # each part of an answer costs a change of threads
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
    """One JSON object on each line: a Redis key, or a part of a large one."""
    snapshots = Snapshots(collection.services.settings.redis_url, collection.ledger.namespace)
    lines = snapshots.lines()
    first = list(islice(lines, 2))  # before the answer begins, so that an error gets its status
    return StreamingResponse(_closing(snapshots, chain(first, lines)), media_type=LINES)


def _closing(snapshots: Snapshots, lines: Iterator[str]) -> Iterator[str]:
    """Raises LedgerUnavailable in the middle: then the answer breaks off, which its reader sees."""
    with closing(snapshots):
        while some := "".join(islice(lines, LINES_AT_ONCE)):
            yield some


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
    pieces = tar_of(collection.blobs)
    first = list(islice(pieces, 1))  # before the answer begins, so that an error gets its status
    return StreamingResponse(chain(first, pieces), media_type=TAR)
