"""The Qdrant server that KINDRED_TEST_QDRANT_URL names, if it names one.

KINDRED_TEST_QDRANT_GRPC_PORT and KINDRED_TEST_QDRANT_API_KEY say the rest. Its collections are left
as they were. An older server than Kindred takes is taken here, and what it lacks is skipped.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch
from uuid import uuid4

import httpx
from qdrant_client import QdrantClient

from pipeline.store import server_connection
from pipeline.store.server import ServerStore

URL = os.environ.get("KINDRED_TEST_QDRANT_URL", "")
_KEY = os.environ.get("KINDRED_TEST_QDRANT_API_KEY")
_GRPC = os.environ.get("KINDRED_TEST_QDRANT_GRPC_PORT")


def _version() -> tuple[int, ...]:
    if not URL:
        return ()
    headers = {"api-key": _KEY} if _KEY else {}
    found = re.match(r"(\d+)\.(\d+)", httpx.get(URL, headers=headers).json()["version"])
    assert found
    return int(found[1]), int(found[2])


VERSION = _version()


def client() -> QdrantClient:
    return QdrantClient(url=URL, api_key=_KEY, check_compatibility=False)


@contextmanager
def collection(*, rest: bool = False) -> Iterator[Callable[..., ServerStore]]:
    """Opens a collection of its own, as often as it is called; all of it goes afterwards.

    `rest`: not over gRPC.
    """
    name, opened = f"kindred-test-{uuid4().hex[:8]}", list[ServerStore]()
    port = 0 if rest else int(_GRPC) if _GRPC else None

    def open_(*arguments: object) -> ServerStore:
        store = ServerStore.connect(URL, _KEY, name, *arguments, grpc_port=port)  # type: ignore[arg-type]
        opened.append(store)
        return store

    try:
        with patch.object(server_connection, "LEAST_VERSION", min(VERSION, (1, 20))):
            yield open_
    finally:
        for store in opened:
            store.close()
        _remove(name)


def _remove(prefix: str) -> None:
    with_all_rights = client()
    for each in with_all_rights.get_collections().collections:
        if each.name.startswith(prefix):
            with_all_rights.delete_collection(each.name)
    with_all_rights.close()
