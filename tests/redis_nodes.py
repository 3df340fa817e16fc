"""Redis servers on ports of this machine, for stories that one on a socket cannot tell."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from cli.processes import Child, Program
from cli.redis_server import find_redis_server
from tests.system import end, free_port, kill, until

PASSWORD, THEIRS = "drawn-for-redis", "drawn-for-sentinels"
SERVICE = "kindred-test"

Client = Any


@contextmanager
def node(folder: Path, name: str, *lines: str, sentinel: bool = False) -> Iterator[Child]:
    """A server that reads these lines as its configuration, and may rewrite them."""
    (folder / name).mkdir(exist_ok=True)
    written = folder / name / "redis.conf"
    written.write_text("\n".join([f"dir {folder / name}", "bind 127.0.0.1", *lines, ""]))
    command = [str(find_redis_server()), str(written), *(["--sentinel"] if sentinel else [])]
    child = Child(Program(name, command, {}, folder / f"{name}.log"))
    child.start()
    try:
        yield child
    finally:
        end(child)


def answers(client: "redis.Redis[str]") -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def until_it_answers(client: "redis.Redis[str]", child: Child) -> None:
    until(lambda: answers(client), f"an answer of {child.program.name}: {child.last_words(3)}")


def certificate(folder: Path, name: str, authority: str = "", subject: str = "") -> Path:
    """The PEM file of a certificate, with its key beside it as NAME.key.

    Without an `authority`, another such file of this folder, it signs itself and can sign others.
    """
    key, pem = folder / f"{name}.key", folder / f"{name}.pem"
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    if authority:
        signs = ["-CA", folder / f"{authority}.pem", "-CAkey", folder / f"{authority}.key"]
        made += [*signs, "-addext", "basicConstraints=CA:FALSE"]
        made += ["-addext", f"subjectAltName={subject}"]
    command = ["openssl", *made, "-keyout", key, "-out", pem]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return pem


class Watched:
    """Two Redis, the first of them the master, and three Sentinels that watch it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.ports = [free_port() for _ in range(2)]
        self.redis = [self._redis(folder, stack, number) for number in range(2)]
        self._sentinels = [free_port() for _ in range(3)]
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

    def kill_master(self) -> None:
        """Returns when the other is the master."""
        before = self.master()
        kill(self.redis[self.ports.index(before)])
        until(lambda: self.master() != before, "another master")

    def start_again(self) -> None:
        """Whoever is down. Returns when it is a replica, which the Sentinels make of it."""
        for child in self.redis:
            if not child.running:
                child.start()
        until(self._is_whole, "a replica that follows")

    def _is_whole(self) -> bool:
        with self.client(self.master()) as client:
            found = client.info("replication")
        return bool(found["role"] == "master" and found["connected_slaves"] == 1)

    def _ready(self) -> int:
        ready = 0
        for port in self._sentinels:
            with self._asked(port) as client:
                seen = client.sentinel_masters()[SERVICE]
            ready += (seen["num-other-sentinels"], seen["num-slaves"]) == (2, 1)
        return ready
