"""The two places where `scale_store` keeps its points: a folder of ours, or a Qdrant server."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import httpx
from qdrant_client import QdrantClient

from benchmarks.embeddings import DIMENSIONS
from pipeline.base.settings import Settings
from pipeline.messages import EncoderInfo
from pipeline.store import Store, fingerprint
from pipeline.store.edge import EdgeStore
from pipeline.store.server import ServerStore

MIB = 2**20
ASK_AGAIN = 1.0  # seconds between two questions whether a server has built its index

ENCODER = EncoderInfo(
    model="made",
    revision=None,
    weights_sha256="0" * 64,
    pooling="mean",
    preprocessing="none",
    dimensions=DIMENSIONS,
)


@dataclass(frozen=True)
class State:
    points: int
    indexed: int
    segments: int


class Backend(Protocol):
    def open(self, index_from: int = 0) -> Store:
        """The embedded engine builds an index where `index_from` points have none (0: never)."""
        ...

    def wait_until_indexed(self, store: Store) -> None: ...

    def state(self, store: Store) -> State: ...

    def memory(self) -> dict[str, float | None]:
        """In MiB: what this process, or the server, has for its own, and its mapped files."""
        ...

    def disk_mib(self) -> float | None: ...

    def drop_page_cache(self) -> None:
        """Evicts the store's files from memory, as after a restart of the machine."""
        ...


class Embedded:
    def __init__(self, folder: Path) -> None:
        self._folder = folder / "store"

    def open(self, index_from: int = 0) -> Store:
        return EdgeStore(self._folder, "made", ENCODER, Settings().indexed_fields, index_from)

    def wait_until_indexed(self, store: Store) -> None:
        cast(EdgeStore, store).wait_until_idle()

    def state(self, store: Store) -> State:
        info = cast(EdgeStore, store)._current.shard.info()
        return State(info.points_count, info.indexed_vectors_count, info.segments_count)

    def memory(self) -> dict[str, float | None]:
        lines = Path("/proc/self/status").read_text().splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
        return {"own": kib["RssAnon"] / 1024, "mapped": kib["RssFile"] / 1024}

    def disk_mib(self) -> float | None:
        """Without the holes of sparse files."""
        return sum(entry.stat().st_blocks * 512 for entry in self._folder.rglob("*")) / MIB

    def drop_page_cache(self) -> None:
        for entry in self._folder.rglob("*"):
            if entry.is_file():
                with entry.open("rb") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Server:
    """A collection `made-IMAGES` on the server at `url`; `grpc_port` as `ServerStore.connect`.

    Of a server's files a client knows nothing.
    """

    def __init__(self, url: str, grpc_port: int | None, images: int) -> None:
        self._url, self._grpc_port = url, grpc_port
        self._alias = f"made-{images}"
        self._name = f"{self._alias}-{fingerprint(ENCODER)}"

    def open(self, index_from: int = 0) -> Store:
        indexes = Settings().indexed_fields
        return ServerStore.connect(
            self._url, None, self._alias, ENCODER, indexes, grpc_port=self._grpc_port
        )

    def wait_until_indexed(self, store: Store) -> None:
        with self._client() as client:
            while client.get_collection(self._name).status != "green":
                time.sleep(ASK_AGAIN)

    def state(self, store: Store) -> State:
        with self._client() as client:
            info = client.get_collection(self._name)
        return State(info.points_count or 0, info.indexed_vectors_count or 0, info.segments_count)

    def memory(self) -> dict[str, float | None]:
        lines = httpx.get(f"{self._url}/metrics").raise_for_status().text.splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("memory_"))
        return {"own": float(values["memory_resident_bytes"]) / MIB, "mapped": None}

    def disk_mib(self) -> float | None:
        return None

    def drop_page_cache(self) -> None: ...

    def delete(self) -> None:
        with self._client() as client:
            client.delete_collection(self._name)

    @contextmanager
    def _client(self) -> Iterator[QdrantClient]:
        client = QdrantClient(url=self._url, check_compatibility=False)
        try:
            yield client
        finally:
            client.close()
