"""A Redis over TLS: right certificates carry all work, and to a wrong one nothing is said."""

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from cli.processes import module_command
from pipeline.base.errors import LedgerMisconfigured, LedgerUnavailable
from pipeline.base.settings import Settings
from pipeline.ledger import Ledgers
from tests.redis_nodes import certificate, node, until_it_answers
from tests.system import System, free_port
from workers.queue import make_app

pytestmark = pytest.mark.story

PASSWORD = "drawn-at-random-for-this"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of two authorities, and of certificates for two names."""
    made = tmp_path_factory.mktemp("tls")
    for authority in ("ours", "another"):
        certificate(made, authority)
    certificate(made, "here", "ours", "IP:127.0.0.1")
    certificate(made, "elsewhere", "ours", "DNS:redis.elsewhere")
    return made


@contextmanager
def tls_redis(folder: Path, name: str) -> Iterator[int]:
    """A Redis that shows the certificate of this name; yields its port."""
    port = free_port()
    lines = [f"port 0\ntls-port {port}", f"requirepass {PASSWORD}", "tls-auth-clients no"]
    lines += [f"tls-cert-file {folder / name}.pem", f"tls-key-file {folder / name}.key"]
    lines += [f"tls-ca-cert-file {folder}/ours.pem"]
    with node(folder, f"redis-{name}", *lines) as child:
        if "tls" in child.last_words(5).lower():
            pytest.skip(f"this redis-server has no TLS: {child.last_words()}")
        with redis.Redis(port=port, password=PASSWORD, ssl=True, ssl_cert_reqs="none") as client:
            until_it_answers(client, child)
        yield port


def settings(folder: Path, port: int, authority: str = "ours") -> Settings:
    return Settings(
        redis_url=f"rediss://:{PASSWORD}@127.0.0.1:{port}/0", redis_ca=folder / f"{authority}.pem"
    )


def test_a_job_and_a_search_go_over_tls(
    folder: Path, tmp_path: Path, encoder: Path, drawn: Path
) -> None:
    with tls_redis(folder, "here") as port:
        over_tls = {
            "REDIS_URL": f"rediss://:{PASSWORD}@127.0.0.1:{port}/0",
            "REDIS_CA": str(folder / "ours.pem"),
        }
        with System(tmp_path, encoder, **over_tls) as system:
            job = system.ingest(drawn, limit=20)
            [some, *_] = system.indexed()
            found = system.search(image_id=some["image_id"])
            healthy = subprocess.run(
                module_command("workers.health"), env=system.environment, check=False
            )

    assert (job["state"], job["embedded"]) == ("succeeded", 20)
    assert found["state"] == "succeeded"
    assert healthy.returncode == 0


def test_an_unknown_authority_is_refused_by_ledger_and_celery_before_the_password(
    folder: Path,
) -> None:
    with listener(folder, "here") as (port, heard):
        _both_refuse(settings(folder, port, "another"))

    assert heard == []


def test_a_certificate_for_another_name_is_refused_before_the_password(folder: Path) -> None:
    with listener(folder, "elsewhere") as (port, heard):
        _both_refuse(settings(folder, port))

    assert heard == []


def test_the_listener_would_hear_a_password(folder: Path) -> None:
    """Else the tests above would prove nothing."""
    with (
        listener(folder, "here") as (port, heard),
        closing(Ledgers(settings(folder, port).redis_url, Settings().timing)) as ledgers,
        pytest.raises(LedgerUnavailable, match="Redis does not answer"),
    ):
        ledgers.ping()

    assert PASSWORD.encode() in b"".join(heard)


@pytest.mark.parametrize("name", ["workers", "api"])
def test_a_process_does_not_start_with_an_authority_that_does_not_fit(
    folder: Path, tmp_path: Path, encoder: Path, name: str
) -> None:
    with tls_redis(folder, "here") as port:
        wrong = settings(folder, port, "another").model_copy(
            update={"data": tmp_path, "model": str(encoder)}
        )
        done = subprocess.run(
            module_command(name),
            env={**os.environ, **wrong.environment()},
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == 78
    assert "KINDRED_REDIS_CA" in done.stderr
    assert PASSWORD not in done.stderr + done.stdout


def _both_refuse(wrong: Settings) -> None:
    with (
        closing(Ledgers(wrong.redis_url, wrong.timing)) as ledgers,
        pytest.raises(LedgerMisconfigured, match="certificate"),
    ):
        ledgers.ping()
    with (
        make_app(wrong.redis_url, current=False).connection() as connection,
        pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        connection.connect()


@contextmanager
def listener(folder: Path, name: str) -> Iterator[tuple[int, list[bytes]]]:
    """Shows a certificate as a Redis would, and keeps what it hears inside of TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_listen, args=(server, context, heard))
        thread.start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _listen(server: socket.socket, context: ssl.SSLContext, heard: list[bytes]) -> None:
    while True:
        try:
            plain, _ = server.accept()
        except OSError:
            return
        try:
            with plain, context.wrap_socket(plain, server_side=True) as connection:
                if said := connection.recv(4096):
                    heard.append(said)
        except OSError:  # the client has refused us
            continue
