"""The two Redis that the ledger's suite runs over: one in memory, and a real one as a story."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis

from cli.processes import Child, Program
from cli.redis_server import RedisServer, find_redis_server
from pipeline.ledger import Ledger, Ledgers, Timing
from tests.ledger_steps import US, worker
from tests.memory_ledger import memory_ledgers
from tests.system import end, until

COLLECTION = "skin"


@dataclass
class Backend:
    """`url` is empty in memory. `redis` looks at what the ledger writes."""

    url: str
    redis: Any
    server: fakeredis.FakeServer | None = None
    opened: list[Ledgers] = field(default_factory=list)

    def ledgers(self, **timing: float) -> Ledgers:
        """All that are opened over one backend see the same keys; timing is in seconds."""
        if self.server is not None:
            ledgers = memory_ledgers(Timing(**timing), self.server)
        else:
            ledgers = Ledgers(self.url, Timing(**timing))
        self.opened.append(ledgers)
        return ledgers

    def ledger(self, **timing: float) -> Ledger:
        return self.ledgers(**timing).of(COLLECTION)


@pytest.fixture(scope="module", params=["memory", pytest.param("redis", marks=pytest.mark.story)])
def _backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    if request.param == "memory":
        server = fakeredis.FakeServer()
        yield Backend("", fakeredis.FakeRedis(server=server, decode_responses=True), server)
        return
    folder = Path(tempfile.mkdtemp(prefix="kindred-test-"))
    started = RedisServer(find_redis_server(), folder, folder / "redis.sock")
    child = Child(Program("redis", started.command, {}, folder / "redis.log"))
    child.start()
    until(started.answers, "an answer of Redis")
    with redis.Redis.from_url(started.url, decode_responses=True) as client:
        yield Backend(started.url, client)
    end(child)
    shutil.rmtree(folder)


@pytest.fixture
def backend(_backend: Backend) -> Iterator[Backend]:
    _backend.redis.flushall()
    yield _backend
    while _backend.opened:
        _backend.opened.pop().close()


@pytest.fixture
def ledger(backend: Backend) -> Ledger:
    """With a live worker of one lane, since nothing is dispatched without one."""
    ledger = backend.ledger()
    ledger.workers.beat(worker(US, lanes=1))
    return ledger
