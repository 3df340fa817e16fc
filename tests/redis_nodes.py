"""Redis servers on ports of this machine, for stories that one on a socket cannot tell."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from cli.processes import Child, Program
from cli.redis_server import find_redis_server
from tests.system import end, until


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
