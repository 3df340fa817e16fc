"""The api's door, without a worker and without a proxy: nobody can hold it shut for the others."""

import json
import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.door import open_more_files
from pipeline.base.keys import KeyFile
from tests.system import System, contents, until

CONNECTIONS = 100
BACKLOG = 40
SHARE = 10  # a quarter of it
FORM = "multipart/form-data; boundary=edge"
PART = b'--edge\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'


class Door:
    """A system without a worker. `http` has an admin's key, and comes from 127.0.0.2."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.keys = KeyFile(system.folder / "keys.json")
        self.key = self.keys.create("chief", "admin")[1]
        self.http = self.client(self.key)

    def client(self, key: str, address: str = "127.0.0.2") -> httpx.Client:
        return httpx.Client(
            base_url=self.system.http.base_url,
            headers={"Authorization": f"Bearer {key}"},
            transport=httpx.HTTPTransport(local_address=address),
            timeout=180,
        )

    def opened(self, address: str = "127.0.0.1", data: bytes = b"") -> socket.socket:
        found = socket.socket()
        found.bind((address, 0))
        found.settimeout(60)
        found.connect(("127.0.0.1", self.system.port))
        with suppress(ConnectionError):  # it may have heard enough
            found.sendall(data)
        return found

    def told(self, data: bytes) -> bytes:
        """All that it says to this until it closes the connection."""
        said = b""
        with self.opened(data=data) as opened, suppress(ConnectionError):
            while piece := opened.recv(65_536):
                said += piece
        return said

    def head(self, call: str, *lines: str, key: bool = True) -> bytes:
        own = [f"Authorization: Bearer {self.key}"] if key else []
        return "\r\n".join([f"{call} HTTP/1.1", "Host: 127.0.0.1", *own, *lines, "", ""]).encode()

    def log(self) -> str:
        return (self.system.folder / "api.log").read_text()

    def errors(self) -> list[str]:
        return [line for line in self.log().splitlines() if " ERROR " in line]

    def metric(self, line: str) -> float:
        found = [each for each in self.http.get("/metrics").text.splitlines() if line in each]
        return float(found[0].rpartition(" ")[2]) if found else 0

    def audit(self) -> list[tuple[str, int]]:
        lines = (self.system.folder / "logs" / "audit.jsonl").read_text().splitlines()
        return [(line["call"], line["status"]) for line in map(json.loads, lines)]

    def alive(self) -> bool:
        with suppress(httpx.TransportError):
            return self.http.get("/healthz").status_code == 200
        return False


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[Door]:
    open_more_files()
    settings = {"CONNECTIONS": str(CONNECTIONS), "SEARCH_BACKLOG": str(BACKLOG)}
    system = System(tmp_path_factory.mktemp("door"), encoder, **settings)
    system.worker = system.redis_process  # there is none to be stopped
    try:
        system.start_redis()
        system.api.start()
        door = Door(system)
        until(door.alive, "an answer of the api")
        yield door
        door.http.close()
    finally:
        system.__exit__()


@contextmanager
def all_closed(sockets: list[socket.socket]) -> Iterator[list[socket.socket]]:
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()


def still_open(sockets: list[socket.socket]) -> list[socket.socket]:
    """Those of which the other end is. What it says is read, and not looked at."""
    left = []
    poll = select.poll()
    for each in sockets:
        poll.register(each, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll(0)}
    for each in sockets:
        try:
            if each.fileno() not in ready or each.recv(65_536, socket.MSG_DONTWAIT):
                left.append(each)
        except ConnectionError:
            continue
    return left


def test_half_open_connections_are_closed_and_hold_up_nobody_who_calls(door: Door) -> None:
    job = door.http.post("/v1/jobs", json={"dataset": "/nowhere"}).json()["id"]
    events = door.opened(data=door.head(f"GET /v1/jobs/{job}/events"))
    query, kind = b'{"image_id": "A"}', "Content-Type: application/json"
    lines = ("Prefer: wait=15", kind, f"Content-Length: {len(query)}", "Connection: close")
    waiting = door.head("POST /v1/searches", *lines) + query
    half = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Never: "
    with ThreadPoolExecutor(1) as pool, all_closed([]) as opened:
        waited = pool.submit(door.told, waiting)
        for number in range(2_000):
            opened.append(door.opened(data=half if number % 2 else b""))
            if number % 200 == 0:
                assert door.http.get("/v1/jobs").status_code == 200
        assert door.http.get("/healthz").status_code == 200

        until(lambda: not still_open(opened), "the end of all half-open connections")

        # A stream, and a call that waits, are none.
        assert waited.result().startswith(b"HTTP/1.1 202 ")
        assert still_open([events])
    door.http.post(f"/v1/jobs/{job}/cancel").raise_for_status()
    until(lambda: not still_open([events]) or b"cancelled" in events.recv(65_536), "the event")
    events.close()
    assert door.metric('connections_closed_total{process="api",reason="silent"}') > 0
    assert door.errors() == []


def test_a_client_has_so_many_connections_and_another_one_has_its_own(door: Door) -> None:
    """127.0.0.1 is a proxy's address, which has more."""
    half = b"GET / HTTP/1.1\r\nX: "
    with all_closed([door.opened("127.0.0.3", half) for _ in range(3 * CONNECTIONS)]) as opened:
        until(lambda: len(still_open(opened)) <= CONNECTIONS, "the end of those that are too many")
        assert door.http.get("/v1/jobs").status_code == 200
        honest = door.client(door.key, "127.0.0.3")  # takes the place of the oldest
        assert honest.get("/v1/jobs").status_code == 200
        honest.close()
    assert door.log().count("closed the oldest idle connection") == 1  # a line a minute


def test_busy_connections_are_not_closed_for_new_ones(door: Door) -> None:
    job = door.http.post("/v1/jobs", json={"dataset": "/nowhere"}).json()["id"]
    follow = door.head(f"GET /v1/jobs/{job}/events")
    with all_closed([door.opened("127.0.0.4", follow) for _ in range(CONNECTIONS)]) as streams:
        for each in streams:
            assert each.recv(15) == b"HTTP/1.1 200 OK"
        with door.opened("127.0.0.4", follow) as refused:
            assert refused.recv(13) == b"HTTP/1.1 503 "
        assert len(still_open(streams)) == CONNECTIONS
        door.http.post(f"/v1/jobs/{job}/cancel").raise_for_status()


def test_a_body_that_drips_is_refused_with_a_key_and_never_read_without_one(door: Door) -> None:
    kind, length = f"Content-Type: {FORM}", "Content-Length: 9000"
    slow = [door.opened(data=door.head("POST /v1/images", kind, length) + PART) for _ in range(2)]
    nobody = door.opened(data=door.head("POST /v1/images", kind, length, key=False) + PART)
    assert nobody.recv(13) == b"HTTP/1.1 401 "

    def refused() -> bytes:
        for each in (*slow, nobody):
            with suppress(OSError):
                each.send(b"x")
        ready, _, _ = select.select(slow[:1], [], [], 0)
        return slow[0].recv(65_536) if ready else b""

    assert until(refused, "an answer to a body that drips").startswith(b"HTTP/1.1 408 ")
    until(lambda: not still_open([nobody, *slow]), "the end of those that drip")
    for each in (*slow, nobody):
        each.close()
    assert door.audit()[-2:] == [("POST /v1/images", 408)] * 2
    assert door.errors() == []


def test_an_upload_that_is_broken_off_is_no_error_and_leaves_nothing(door: Door) -> None:
    before = door.metric('bodies_refused_total{process="api",reason="broken-off"}')
    known = {path for path, _ in contents(door.system.folder / "blobs")}
    calls = []
    for path in ("/v1/images", "/v1/searches", "/v1/searches/batch", "/v1/jobs", "/v1/deletions"):
        kind = FORM if path in ("/v1/images", "/v1/searches") else "application/json"
        head = door.head(f"POST {path}", f"Content-Type: {kind}", "Content-Length: 9000000")
        for sent in (PART + b"x" * 3_000_000, PART, b""):
            door.opened(data=head + sent).close()
            calls.append((f"POST {path}", 400))
    line = 'bodies_refused_total{process="api",reason="broken-off"}'
    until(lambda: door.metric(line) - before == len(calls), "the count of all")

    until(lambda: sorted(door.audit()[-len(calls) :]) == sorted(calls), "a line for each")
    assert {path for path, _ in contents(door.system.folder / "blobs")} == known
    open_files = Path(f"/proc/{door.system.api.pid}/fd").iterdir()
    assert not [file for file in open_files if "(deleted)" in _target(file)]
    assert door.errors() == []


def _target(file: Path) -> str:
    with suppress(FileNotFoundError):
        return str(file.readlink())
    return ""


def test_what_is_hardly_http_is_refused_and_is_no_error(door: Door) -> None:
    chunked, kind = "Transfer-Encoding: chunked", "Content-Type: application/json"
    close = "Connection: close"
    search = door.head("POST /v1/searches", kind, chunked)
    health = door.head("GET /healthz")
    headers = "".join(f"X-{number}: y\r\n" for number in range(100_000))
    before = _peak(door)

    def statuses(data: bytes) -> list[int]:
        return [int(each[:3]) for each in door.told(data).split(b"HTTP/1.1 ")[1:]]

    assert statuses(b"GET /healthz HTTP/1.0\r\n\r\n") == [200]
    assert statuses(health * 3 + door.head("GET /healthz", close)) == [200] * 4
    assert statuses(b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n") == [400]
    assert statuses(f"GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()) == [400]
    for size in ("zz", "-1", "f" * 30):
        assert statuses(search + f"{size}\r\n".encode()) == [400]
    nobody = door.head("POST /v1/searches", kind, chunked, key=False)
    with door.opened(data=nobody) as opened:  # its answer is there before the chunk is
        assert opened.recv(13) == b"HTTP/1.1 401 "
        opened.sendall(b"zz\r\n")
        until(lambda: not still_open([opened]), "the end")
    both = door.head("POST /v1/searches", kind, chunked, "Content-Length: 2", close)
    assert statuses(both + b"2\r\n{}\r\n0\r\n\r\n") == [400]
    waits = door.head("POST /v1/searches", kind, "Expect: 100-continue", "Content-Length: 2", close)
    with door.opened(data=waits) as opened:
        assert opened.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        opened.sendall(b"{}")
        assert opened.recv(13) == b"HTTP/1.1 422 "
    unknown = door.head("POST /v1/images", "Expect: 100-continue", "Content-Length: 2", key=False)
    with door.opened(data=unknown) as opened:
        assert opened.recv(13) == b"HTTP/1.1 401 "
    assert door.errors() == []
    assert door.log().count("WARNING uvicorn.error Invalid HTTP request received.") <= 2
    assert _peak(door) - before < 64 * 1024


def _peak(door: Door) -> int:
    """The most memory that the api has had, in KiB."""
    status = Path(f"/proc/{door.system.api.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def test_one_key_cannot_fill_the_backlog_for_all(door: Door) -> None:
    eager, other = (door.client(door.keys.create(n, "search")[1]) for n in ("eager", "other"))
    query: dict[str, Any] = {"json": {"image_id": "A"}}
    answers = [eager.post("/v1/searches", **query) for _ in range(SHARE + 1)]

    assert [each.status_code for each in answers] == [202] * SHARE + [429]
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert "of your own" in answers[-1].json()["detail"]
    assert eager.get("/v1/images").status_code == 429
    assert other.post("/v1/searches", **query).status_code == 202

    # What is answered gives its place back, whoever answered it.
    redis, requests = door.system.client(), f"kindred:{door.system.collection}:request"
    redis.hset(f"{requests}:{answers[0].json()['id']}", "state", "failed")
    redis.delete(f"{requests}:{answers[1].json()['id']}")
    redis.close()
    again = [eager.post("/v1/searches", **query).status_code for _ in range(3)]
    assert again == [202, 202, 429]
    for client in (eager, other):
        client.close()
