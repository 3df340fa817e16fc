"""The real system, as processes that a test can stop, kill and start again."""

import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx
import redis

from cli.processes import Child, Program, module_command, module_environment
from cli.redis_server import RedisServer, find_redis_server
from pipeline.base.states import FINAL_STATES
from tests import real_qdrant
from tests.forked import ForkedWorker

# Nothing waits as long as this unless it is broken, on a busy machine neither; a test never asserts
# on time.
PATIENCE = 180.0

WAIT = {"Prefer": "wait=60"}  # the most that the api waits

JobView = dict[str, Any]
COUNTS = ("embedded", "updated", "unchanged", "rejected", "quarantined")


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """The first true value of `condition`, which is asked less often the longer it takes.

    A key may make 600 calls a minute, and a busy machine has better things to do.
    """
    start = time.monotonic()
    while (waited := time.monotonic() - start) < seconds:
        if found := condition():
            return found
        time.sleep(min(max(0.05, waited / 20), 0.5))
    raise AssertionError(f"never came: {what}")


class System:
    """Redis, one worker and the api on one data folder. Use as a context manager.

    The worker is forked, unless its environment is to reach the libraries that it imports.
    `checkout` is another folder of our code to run than this one; its worker is never forked.
    `embedded`: its vectors lie in its folder, even where the tests name a Qdrant server.
    """

    def __init__(
        self,
        folder: Path,
        encoder: Path,
        *,
        forked: bool = True,
        checkout: Path | None = None,
        embedded: bool = False,
        **settings: str,
    ) -> None:
        self.folder = folder
        # The tests may take a server which is too old for the worker of another checkout.
        embedded = embedded or (checkout is not None and real_qdrant.is_older())
        if not embedded and "QDRANT_URL" not in settings:
            settings = {**real_qdrant.settings(folder), **settings}
        self.collection = settings.get("COLLECTION", "kindred")
        self.blobs = folder / "blobs" / self.collection
        # A socket's path is limited to about 100 characters, and pytest's folders are long.
        self._sockets = Path(tempfile.mkdtemp(prefix="kindred-test-"))
        (folder / "redis").mkdir(parents=True, exist_ok=True)
        self._redis = RedisServer(
            find_redis_server(), folder / "redis", self._sockets / "redis.sock"
        )
        self.port = free_port()
        quick = {
            "DATA": str(folder),
            "MODEL": str(encoder),
            "REDIS_URL": self._redis.url,
            # Five are missed before a worker counts as dead. On a busy machine one that lives can
            # be silent for two seconds, and what it works on would be taken from it.
            "HEARTBEAT_SECONDS": "1",
            "RECONCILE_SECONDS": "0.3",
            "LOG_LEVEL": "DEBUG",
            "SOURCES": "/,hub:*",
            **settings,
        }
        self.environment = module_environment(
            {
                **{k: v for k, v in os.environ.items() if not k.startswith("KINDRED_")},
                **{f"KINDRED_{name}": value for name, value in quick.items()},
            }
        )
        if checkout is not None:
            self.environment["PYTHONPATH"] = str(checkout)
        self.redis_process = self.child("redis", self._redis.command)
        module = "workers" if embedded else real_qdrant.worker_module()
        self.worker: Child | ForkedWorker = self.child("worker", module_command(module))
        if forked and checkout is None and sys.platform == "linux":
            self.worker = ForkedWorker(self.worker.program, real_qdrant.prepare())
        self.api = self.child("api", module_command("api", "--port", str(self.port)))
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE)

    def __enter__(self) -> Self:
        try:
            self.start_redis()
            self.worker.start()
            self.api.start()
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.http.close()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def start_redis(self) -> None:
        self.redis_process.start()
        until(self._redis.answers, "an answer of Redis")

    def wait_ready(self) -> None:
        until(self._ready, f"readiness; the worker said: {self.worker.last_words(5)}")

    def stop(self) -> None:
        """As a supervisor would: politely, Redis last."""
        for child in (self.api, self.worker, self.redis_process):
            end(child)

    def restart_worker(self) -> None:
        self.worker.start()
        self.wait_ready()

    def wait_until_still(self) -> None:
        """Until no batch is in flight: those of a job that was just paused land all the same."""
        redis = self.client()
        until(
            lambda: not redis.zcard(f"kindred:{self.collection}:leases:ingest"),
            "the end of what is in flight",
        )
        redis.close()

    def client(self) -> "redis.Redis[str]":
        return redis.Redis(unix_socket_path=str(self._redis.socket), decode_responses=True)

    def logs(self) -> str:
        return "".join(path.read_text("utf-8", "replace") for path in self.folder.glob("*.log"))

    # --- what a user does ---------------------------------------------------------------------

    def ingest(self, dataset: Path | str, **options: Any) -> JobView:
        """Starts a job and follows it to its end."""
        return self.finished(self.submit(dataset, **options)["id"])

    def submit(self, dataset: Path | str, **options: Any) -> JobView:
        answer = self.http.post("/v1/jobs", json={"dataset": str(dataset), **options})
        assert answer.status_code == 202, answer.text
        view: JobView = answer.json()
        return view

    def job(self, job: str) -> JobView:
        view: JobView = self.http.get(f"/v1/jobs/{job}").raise_for_status().json()
        return view

    def finished(self, job: str) -> JobView:
        """Its end, however long a busy machine takes, as long as it moves."""
        seen: JobView = {}

        def moved() -> JobView | None:
            view = self.job(job)
            same = all(view[name] == seen.get(name) for name in ("state", *COUNTS))
            return None if same else view

        while seen.get("state") not in FINAL_STATES:
            seen = until(moved, f"the end of job {job}, or one more image")
        return seen

    def search(self, images: Sequence[bytes] = (), **query: Any) -> Any:
        """The finished search, with its results or its error."""
        if images:
            files = [("image", image) for image in images]
            return self._searched("/v1/searches", files=files, data={"query": json.dumps(query)})
        return self._searched("/v1/searches", json=query)

    def batch(self, searches: Sequence[Mapping[str, Any]]) -> list[Any]:
        """A list of hits for each search."""
        finished = self._searched("/v1/searches/batch", json={"searches": searches})
        results: list[Any] = finished["results"]
        return results

    def _searched(self, path: str, **body: Any) -> Any:
        answer = self.http.post(path, headers=WAIT, **body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def facets(self, condition: Mapping[str, Any]) -> Any:
        return self.http.get("/v1/facets", params={"filter": json.dumps(condition)}).json()

    def count(self) -> int:
        return int(self.http.get("/v1/collection").raise_for_status().json()["count"])

    def indexed(self) -> list[dict[str, Any]]:
        """All images, page by page."""
        images: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            more: Mapping[str, str] = {} if cursor is None else {"cursor": cursor}
            page = self.http.get("/v1/images", params={"limit": "50", **more}).json()
            images += page["images"]
            cursor = page["cursor"]
            if cursor is None:
                return images

    def _ready(self) -> bool:
        """Whether this very worker is: one that was just killed counts as alive for a while."""
        assert self.worker.running, f"the worker ended: {self.worker.last_words(5)}"
        said = self.worker.program.log.read_text("utf-8", "replace")
        if not re.search(rf"kindred@\S+-{self.worker.pid}-\S+ ready", said):
            return False
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def child(self, name: str, command: list[str]) -> Child:
        return Child(Program(name, command, self.environment, self.folder / f"{name}.log"))


def contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """All files of a folder, but for those that its system deletes meanwhile."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                yield path, path.read_bytes()


def kill(child: Child | ForkedWorker) -> None:
    """SIGKILL, and gone."""
    child.send(signal.SIGKILL)
    until(lambda: not child.running, f"the end of {child.program.name}")


def end(child: Child | ForkedWorker) -> None:
    """SIGTERM, and gone; SIGKILL if it will not go, and its last words say where it stood."""
    child.send(signal.SIGTERM)
    try:
        until(lambda: not child.running, f"the end of {child.program.name}")
    except AssertionError as error:
        child.send(signal.SIGABRT)  # a forked worker prints where all its threads stand
        with suppress(AssertionError):
            until(lambda: not child.running, "its end", 10)
        kill(child)
        said = (
            child.program.log.read_text("utf-8", "replace")[-20_000:] if child.program.log else ""
        )
        raise AssertionError(f"{error}, which said:\n{said}") from None


def free_port() -> int:
    """None of those that Linux gives to connections: one could take it while the api is down."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            return int(probe.getsockname()[1])
