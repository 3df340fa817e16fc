"""A worker takes no message that has to wait in it: another worker may have a thread for it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from cli.processes import Child, Program, module_environment
from cli.redis_server import RedisServer, find_redis_server
from tests.system import end, until
from workers.queue import make_app

THREADS, QUEUE = 2, "kindred.tests.search"

# Its tasks wait until the file that they are given is there.
WORKER = f"""
import sys, time
from pathlib import Path
from workers.queue import make_app
app = make_app(sys.argv[1])
@app.task(name="wait")
def wait(path):
    while not Path(path).exists(): time.sleep(0.01)
app.Worker(hostname=sys.argv[2], pool="workers.pool:ThreadPool", concurrency={THREADS},
           queues=["{QUEUE}"], without_gossip=True, without_mingle=True, loglevel="INFO").start()
"""


@pytest.fixture
def redis_url(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    socket = tmp_path_factory.mktemp("s") / "redis.sock"
    server = RedisServer(find_redis_server(), tmp_path, socket)
    child = Child(Program("redis", server.command, {}, tmp_path / "redis.log"))
    child.start()
    until(server.answers, "an answer of Redis")
    yield server.url
    end(child)


def test_what_no_thread_is_free_for_stays_on_the_queue(redis_url: str, tmp_path: Path) -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    app = make_app(redis_url, current=False)
    first = worker(redis_url, tmp_path, "first")
    for number in range(THREADS + 1):
        app.send_task("wait", args=[str(tmp_path / f"go-{number}")], queue=QUEUE)
    until(lambda: running(first) == THREADS, "two tasks in two threads")
    until(lambda: client.llen(QUEUE) == 1, "the third on the queue")

    second = worker(redis_url, tmp_path, "second")
    until(lambda: running(second) == 1, "the third in the other worker")

    app.send_task("wait", args=[str(tmp_path / "go-3")], queue=QUEUE)
    app.send_task("wait", args=[str(tmp_path / "go-4")], queue=QUEUE)
    until(lambda: running(second) == THREADS and client.llen(QUEUE) == 1, "one more that waits")
    (tmp_path / "go-0").touch()
    until(lambda: running(first) == THREADS + 1, "the thread that is free to take it")
    for number in range(5):
        (tmp_path / f"go-{number}").touch()
    for child in (first, second):
        end(child)


def worker(url: str, folder: Path, name: str) -> Child:
    command = [sys.executable, "-c", WORKER, url, name]
    child = Child(Program(name, command, module_environment({}), folder / f"{name}.log"))
    child.start()
    until(lambda: " ready." in said(child), f"readiness of {name}")
    return child


def running(child: Child) -> int:
    """How many tasks it has received so far."""
    return said(child).count("] received")


def said(child: Child) -> str:
    return child.program.log.read_text("utf-8", "replace")
