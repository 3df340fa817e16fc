"""The Qdrant server of KINDRED_TEST_QDRANT_URL: stories then keep their vectors there.

Each system has collections of its own, named after its folder, and they go when the tests end.
`python -m tests.qdrant_server` is a worker that takes an older server than Kindred does, for tests
of all that older servers do right.
"""

import atexit
import functools
import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

    from tests.forked import Prepare

URL = os.environ.get("KINDRED_TEST_QDRANT_URL")
GRPC_PORT = os.environ.get("KINDRED_TEST_QDRANT_GRPC_PORT")
API_KEY = os.environ.get("KINDRED_TEST_QDRANT_API_KEY")

_OLDEST = (1, 18)  # that the tests were tried on


def settings(folder: Path) -> dict[str, str]:
    """Those of a system on `folder`, also when it is opened again. Nothing without a server."""
    if URL is None:
        return {}
    collection = "test-" + hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    _forget_at_the_end(collection)
    optional = {"QDRANT_GRPC_PORT": GRPC_PORT, "QDRANT_API_KEY": API_KEY}
    given = {name: value for name, value in optional.items() if value is not None}
    return {"QDRANT_URL": URL, "COLLECTION": collection, **given}


@functools.cache
def is_older() -> bool:
    """Whether it is one that Kindred refuses."""
    if URL is None:
        return False
    from pipeline.store.server_connection import LEAST_VERSION

    version = client().info().version
    return tuple(map(int, version.split(".")[:2])) < LEAST_VERSION


def client() -> "QdrantClient":
    from qdrant_client import QdrantClient

    assert URL is not None
    return QdrantClient(URL, api_key=API_KEY, timeout=30, check_compatibility=False)


def worker_module() -> str:
    return "tests.qdrant_server" if is_older() else "workers"


def prepare() -> "Prepare | None":
    """What a forked worker needs for this server."""
    return take_older if is_older() else None


def take_older(_: Mapping[str, str]) -> None:
    """In a worker that is about to run."""
    import pipeline.store.server_connection as connection

    connection.LEAST_VERSION = _OLDEST


@functools.cache
def _forget_at_the_end(collection: str) -> None:
    atexit.register(forget, collection)


def forget(prefix: str) -> None:
    """Deletes all collections whose names begin so, and with them their aliases."""
    if URL is None:
        return
    qdrant = client()
    for each in qdrant.get_collections().collections:
        if each.name.startswith(prefix):
            qdrant.delete_collection(each.name)
    qdrant.close()


if __name__ == "__main__":
    from workers.service import main

    take_older(os.environ)
    sys.exit(main())
