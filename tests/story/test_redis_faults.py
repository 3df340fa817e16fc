"""A Redis that refuses for a while, as those of hospitals do, costs time and nothing else."""

import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from PIL import Image
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli.sample import write_dataset
from pipeline.base.states import FINAL_STATES
from tests.system import WAIT, System, until

pytestmark = pytest.mark.story

ROWS = 200
SLOW = {
    "BATCH_SIZE": "2",
    "SHARD_SIZE": "16",
}  # many checkpoints, so that the fault falls among them

# Seconds that a fault lasts. A worker counts as dead after five; a script blocks for longer.
SHORT, LONG = 3.0, 10.0


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("redis-faults"), encoder, **SLOW) as running:
        yield running


def picture() -> dict[str, bytes]:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (10, 20, 30)).save(buffer, "JPEG")
    return {"image": buffer.getvalue()}


def refused(system: System) -> bool:
    """Whether a new search is; one that waits already may wait on."""
    return system.http.post("/v1/searches", files=picture()).status_code == 503


class Callers:
    """Callers who search all the time, and what they are told: statuses, and states of searches."""

    def __init__(self, system: System) -> None:
        self.told: Counter[int | str] = Counter()
        self._system, self._stop = system, threading.Event()
        self._threads = [threading.Thread(target=self._search, daemon=True) for _ in range(2)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _search(self) -> None:
        with httpx.Client(base_url=self._system.http.base_url, timeout=120) as http:
            while not self._stop.wait(0.05):
                answer = http.post("/v1/searches", files=picture(), headers=WAIT)
                if answer.status_code == 202:  # longer than a call waits, as after a lost lease
                    self._follow(http, answer.headers["Location"])
                    continue
                self.told[answer.status_code] += 1
                if answer.status_code == 200:
                    self.told[answer.json()["state"]] += 1

    def _follow(self, http: httpx.Client, path: str) -> None:
        def final() -> str | None:
            answer = http.get(path)
            assert answer.status_code in (200, 503)
            state = answer.json().get("state")
            return state if state in FINAL_STATES else None

        self.told[until(final, "the end of a search")] += 1


# --- what happens to Redis: each begins, and ends when the test says so --------------------------


@contextmanager
def a_script(client: Any) -> Iterator[None]:
    """Blocks Redis until it is killed."""
    client.config_set("lua-time-limit", 200)
    blocked = threading.Thread(target=_run_for_ever, args=(client,))
    blocked.start()
    until(lambda: _busy(client), "a Redis that is busy")
    try:
        yield
    finally:
        client.script_kill()
        blocked.join()


def _run_for_ever(client: Any) -> None:
    path = client.connection_pool.connection_kwargs["path"]
    once = Retry(NoBackoff(), 0)
    with (
        redis.Redis(unix_socket_path=path, socket_timeout=None, retry=once) as waiting,
        suppress(redis.ResponseError),  # killed
    ):
        waiting.eval("while true do end", 0)


def _busy(client: Any) -> bool:
    try:
        client.get("any")
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")
    return False


@contextmanager
def several_scripts(client: Any) -> Iterator[None]:
    """One after the other: what Celery sends in between, it is refused at any place."""
    for _ in range(3):
        with a_script(client):
            time.sleep(1.5)
        time.sleep(0.5)
    yield


def _set(name: str, during: Any, after: Any) -> Callable[[Any], Any]:
    @contextmanager
    def fault(client: Any) -> Iterator[None]:
        client.config_set(name, during)
        try:
            yield
        finally:
            client.config_set(name, after)

    return fault


full_memory = _set("maxmemory", 1, 0)
missing_replicas = _set("min-replicas-to-write", 1, 0)


@contextmanager
def a_replica(client: Any) -> Iterator[None]:
    """As after a failover, for those that still ask the old master."""
    client.replicaof("127.0.0.1", 1)
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")


@contextmanager
def no_room_for_clients(client: Any) -> Iterator[None]:
    before = client.config_get("maxclients")["maxclients"]
    client.config_set("maxclients", 2)
    for kind in ("normal", "pubsub"):
        client.client_kill_filter(_type=kind, skipme=True)
    try:
        yield
    finally:
        client.config_set("maxclients", before)


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (a_script, LONG),
        (several_scripts, 0),
        (full_memory, SHORT),
        (a_replica, SHORT),
        (missing_replicas, SHORT),
        (no_room_for_clients, SHORT),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
def test_nothing_fails_and_nothing_is_lost(
    system: System, tmp_path: Path, fault: Any, seconds: float, request: pytest.FixtureRequest
) -> None:
    seed = request.node.callspec.indices["fault"] + 1
    write_dataset(tmp_path / "drawn", rows=ROWS, seed=seed)
    client = system.client()
    said = len(system.logs())
    with Callers(system) as callers:
        job = system.submit(tmp_path / "drawn")["id"]
        until(lambda: system.job(job)["embedded"] > 10, "progress")
        until(lambda: callers.told["succeeded"], "a search")
        with fault(client):
            time.sleep(seconds)
            until(lambda: callers.told[503] or refused(system), "a caller who is told to wait")
        blamed = _blamed(client)
        ended = finished(system, job)
        after = callers.told["succeeded"]
        until(lambda: callers.told["succeeded"] > after, "a search after it")
    client.close()

    assert not blamed
    assert (ended["state"], ended["total"], ended["rejected"]) == ("succeeded", ROWS, 0)
    assert ended["embedded"] + ended["unchanged"] + ended["updated"] == ROWS
    assert set(callers.told) - {503} == {200, "succeeded"}
    assert system.worker.running
    for line in system.logs()[said:].splitlines():
        assert "work item failed" not in line
        assert "query failed" not in line
        assert "Traceback" not in line


def finished(system: System, job: str) -> Any:
    """As `System.finished`, for an api that may still answer 503."""
    for _ in range(100):
        with suppress(httpx.HTTPStatusError):
            return system.finished(job)
        time.sleep(0.2)
    raise AssertionError("the api never came back")


def _blamed(client: Any) -> list[tuple[str, str]]:
    """Work items that are held to have ended a worker."""
    counts = [
        (key, name, client.hget(key, name))
        for key in client.scan_iter("kindred:*:item:*")
        for name in ("crashes", "deaths")
    ]
    return [(key, name) for key, name, count in counts if int(count or 0)]
