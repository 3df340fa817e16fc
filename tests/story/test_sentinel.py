"""Three Sentinels, and the master dies in the middle of a job and of searches."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from cli.processes import Child
from cli.sample import write_dataset
from tests.redis_nodes import answers, node, until_it_answers
from tests.story.test_redis_faults import ROWS, SLOW, Callers, finished
from tests.system import System, _free_port, kill, until

pytestmark = pytest.mark.story

PASSWORD, THEIRS = "drawn-for-redis", "drawn-for-sentinels"
SERVICE = "kindred-test"

Client = Any


class Watched:
    """Two Redis, the first of them the master, and three Sentinels that watch it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.ports = [_free_port() for _ in range(2)]
        self.redis = [self._redis(folder, stack, number) for number in range(2)]
        self._sentinels = [_free_port() for _ in range(3)]
        for number, port in enumerate(self._sentinels):
            self._sentinel(folder, stack, number, port)
        until(lambda: self._ready() == 3, "Sentinels that know each other and the replica")

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._sentinels)
        return f"sentinel://:{PASSWORD}@{hosts}/0?service={SERVICE}&sentinel_password={THEIRS}"

    def master(self) -> int:
        """The port of the one that the Sentinels name."""
        with self._asked(self._sentinels[0]) as client:
            return int(client.sentinel_get_master_addr_by_name(SERVICE)[1])

    def client(self, port: int) -> Client:
        return redis.Redis(port=port, password=PASSWORD, decode_responses=True)

    def _redis(self, folder: Path, stack: ExitStack, number: int) -> Child:
        lines = [f"port {self.ports[number]}", f"requirepass {PASSWORD}", f"masterauth {PASSWORD}"]
        lines += ["appendonly yes", "repl-diskless-sync-delay 0"]
        if number:
            lines.append(f"replicaof 127.0.0.1 {self.ports[0]}")
        child = stack.enter_context(node(folder, f"redis-{number}", *lines))
        with self.client(self.ports[number]) as client:
            until_it_answers(client, child)
        return child

    def _sentinel(self, folder: Path, stack: ExitStack, number: int, port: int) -> None:
        lines = [f"port {port}", f"requirepass {THEIRS}", f"sentinel sentinel-pass {THEIRS}"]
        lines += [f"sentinel monitor {SERVICE} 127.0.0.1 {self.ports[0]} 2"]
        lines += [f"sentinel auth-pass {SERVICE} {PASSWORD}"]
        lines += [f"sentinel down-after-milliseconds {SERVICE} 1000"]
        lines += [f"sentinel failover-timeout {SERVICE} 5000"]
        child = stack.enter_context(node(folder, f"sentinel-{number}", *lines, sentinel=True))
        with self._asked(port) as client:
            until(lambda: answers(client) or not child.running, f"Sentinel: {child.last_words(3)}")
        if not child.running:
            pytest.skip(f"this redis-server is no Sentinel: {child.last_words()}")

    def _asked(self, port: int) -> Client:
        return redis.Redis(port=port, password=THEIRS, decode_responses=True)

    def _ready(self) -> int:
        ready = 0
        for port in self._sentinels:
            with self._asked(port) as client:
                seen = client.sentinel_masters()[SERVICE]
            ready += (seen["num-other-sentinels"], seen["num-slaves"]) == (2, 1)
        return ready


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    (tmp_path / "nodes").mkdir()
    with ExitStack() as stack:
        yield Watched(tmp_path / "nodes", stack)


def test_a_failover_in_the_middle_loses_nothing(
    watched: Watched, tmp_path: Path, encoder: Path
) -> None:
    write_dataset(tmp_path / "drawn", rows=ROWS)
    with (
        System(tmp_path / "system", encoder, REDIS_URL=watched.url, **SLOW) as system,
        Callers(system) as callers,
    ):
        job = system.submit(tmp_path / "drawn")["id"]
        until(lambda: system.job(job)["embedded"] > 10, "progress")
        until(lambda: callers.told["succeeded"], "a search")
        kill(watched.redis[0])
        until(lambda: watched.master() == watched.ports[1], "another master")
        ended = finished(system, job)
        before = callers.told["succeeded"]
        until(lambda: callers.told["succeeded"] > before, "a search after it")
        with watched.client(watched.ports[1]) as client:
            until(client.pubsub_numpat, "the api's subscription at the new master")
        running = system.worker.running
        logs = system.logs()

    assert running
    assert (ended["state"], ended["total"], ended["rejected"]) == ("succeeded", ROWS, 0)
    assert ended["embedded"] + ended["unchanged"] + ended["updated"] == ROWS
    assert set(callers.told) <= {200, 503, "succeeded"}
    assert "work item failed" not in logs
    assert "query failed" not in logs
    for secret in (PASSWORD, THEIRS):
        assert secret not in logs
