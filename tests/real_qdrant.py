"""The Qdrant server that KINDRED_TEST_QDRANT_URL names, if it names one.

KINDRED_TEST_QDRANT_GRPC_PORT and KINDRED_TEST_QDRANT_API_KEY say the rest. Its collections are left
as they were: a store, and each system of a story, has one of its own there. An older server than
Kindred takes is taken here, and what it lacks is skipped; `python -m tests.real_qdrant` is a worker
that takes it.
"""

import atexit
import functools
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch
from uuid import uuid4

import httpx
from qdrant_client import QdrantClient

from pipeline.store import server_connection
from pipeline.store.server import ServerStore
from tests.forked import Prepare

URL = os.environ.get("KINDRED_TEST_QDRANT_URL", "")
_KEY = os.environ.get("KINDRED_TEST_QDRANT_API_KEY")
GRPC_PORT = os.environ.get("KINDRED_TEST_QDRANT_GRPC_PORT")


def _version() -> tuple[int, ...]:
    if not URL:
        return ()
    headers = {"api-key": _KEY} if _KEY else {}
    found = re.match(r"(\d+)\.(\d+)", httpx.get(URL, headers=headers).json()["version"])
    assert found
    return int(found[1]), int(found[2])


VERSION = _version()
LEAST = server_connection.LEAST_VERSION


def client() -> QdrantClient:
    return QdrantClient(url=URL, api_key=_KEY, check_compatibility=False)


@contextmanager
def collection(*, rest: bool = False) -> Iterator[Callable[..., ServerStore]]:
    """Opens a collection of its own, as often as it is called; all of it goes afterwards.

    `rest`: not over gRPC.
    """
    name, opened = f"kindred-test-{uuid4().hex[:8]}", list[ServerStore]()
    port = 0 if rest else int(GRPC_PORT) if GRPC_PORT else None

    def open_(*arguments: object) -> ServerStore:
        store = ServerStore.connect(URL, _KEY, name, *arguments, grpc_port=port)  # type: ignore[arg-type]
        opened.append(store)
        return store

    try:
        with patch.object(server_connection, "LEAST_VERSION", min(VERSION, LEAST)):
            yield open_
    finally:
        for store in opened:
            store.close()
        forget(name)


def settings(folder: Path) -> dict[str, str]:
    """Those of a system on `folder`, also when it is opened again. Nothing without a server."""
    if not URL:
        return {}
    name = "test-" + hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    _forget_at_the_end(name)
    optional = {"QDRANT_GRPC_PORT": GRPC_PORT, "QDRANT_API_KEY": _KEY}
    given = {name: value for name, value in optional.items() if value is not None}
    return {"QDRANT_URL": URL, "COLLECTION": name, **given}


@functools.cache
def _forget_at_the_end(name: str) -> None:
    atexit.register(forget, name)


def forget(prefix: str) -> None:
    """Deletes all collections whose names begin so, and with them their aliases."""
    if not URL:
        return
    with_all_rights = client()
    for each in with_all_rights.get_collections().collections:
        if each.name.startswith(prefix):
            with_all_rights.delete_collection(each.name)
    with_all_rights.close()


def is_older() -> bool:
    """Whether it is one that Kindred refuses."""
    return bool(URL) and VERSION < LEAST


def worker_module() -> str:
    """What to run as a worker."""
    return "tests.real_qdrant" if is_older() else "workers"


def prepare() -> Prepare | None:
    """What a forked worker needs for this server."""
    return take_older if is_older() else None


def take_older(_: Mapping[str, str]) -> None:
    """In a worker that is about to run."""
    server_connection.LEAST_VERSION = min(VERSION, LEAST) if URL else LEAST


if __name__ == "__main__":
    from workers.service import main

    take_older(os.environ)
    sys.exit(main())
