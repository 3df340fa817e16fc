"""A Redis of our own keeps what it was told over a stop, wherever it was found."""

import os
import shutil
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from cli.processes import Child, Program
from cli.redis_server import SERVERS, RedisServer, wheel_redis_server
from cli.up import private_folder

pytestmark = pytest.mark.story


def installed() -> Path | None:
    found = next(filter(None, map(shutil.which, SERVERS)), None)
    return Path(found) if found else None


@pytest.fixture(params=[installed, wheel_redis_server], ids=["installed", "wheel"])
def executable(request) -> Path:
    found = request.param()
    if found is None:
        pytest.skip(f"no {request.param.__name__.replace('_', ' ')} on this machine")
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_is_written_outlives_a_stop(executable, tmp_path):
    folder = tmp_path / "a folder with späces"
    folder.mkdir()
    with private_folder() as private:
        server = RedisServer(executable, folder, private / "redis.sock")
        child = Child(Program("redis", server.command, os.environ, tmp_path / "redis.log"))
        try:
            assert not server.answers()
            child.start()
            wait_until(server.answers)
            assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
            with redis.Redis.from_url(server.url) as client:
                client.set("kept", "value")
                assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
                assert client.config_get("save") == {"save": ""}
            child.send(signal.SIGTERM)
            wait_until(lambda: child.exit_code == 0)

            child.start()
            wait_until(server.answers)
            with redis.Redis.from_url(server.url) as client:
                assert client.get("kept") == b"value"
        finally:
            child.send(signal.SIGTERM)
            wait_until(lambda: not child.running)
