"""The door: whose place a new connection takes, and which body is taken."""

import asyncio
import resource
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.datastructures import Headers
from uvicorn import Config
from uvicorn.server import ServerState

from api import body
from api.body import Body, BodyRefused
from api.door import MOST, MOST_FILES, PATIENCE, PROXY, STALL, Door, network_of, open_more_files
from tests.unit.test_access import finished

PROXIES = "10.0.0.1,fd00::1"


class Transport:
    """Of a connection that nobody reads."""

    def __init__(self, host: str) -> None:
        self.host, self.ended, self.unsent, self.written = host, False, 0, b""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": (self.host, 1), "sockname": ("127.0.0.1", 8000)}.get(name, default)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.ended

    def close(self) -> None:
        self.ended = True

    abort = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Clock:
    """A loop that only has the time, and looks when it is told to."""

    def __init__(self) -> None:
        self.now, self.later = 0.0, list[tuple[float, Callable[[], None]]]()

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Any, *args: Any) -> Any:
        self.later.append((self.now + seconds, lambda: call(*args)))
        return None

    def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [each for each in self.later if each[0] <= end]:
            self.later.remove(first := min(due, key=lambda each: each[0]))
            self.now = first[0]
            first[1]()
        self.now = end


class Street:
    """A door, and who comes to it."""

    def __init__(self, each: int, most: int = MOST) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None: ...

        config = Config(app, interface="asgi3", log_config=None, proxy_headers=False)
        config.load()
        self.clock, state = Clock(), ServerState()
        kind = Door(each, PROXIES, most).protocol()
        self.make = lambda: kind(config, state, {}, self.clock)

    def comes(self, host: str = "10.0.0.7") -> Any:
        self.clock.now += 0.001
        connection = self.make()
        connection.connection_made(Transport(host))
        return connection

    def busy(self, host: str = "10.0.0.7") -> Any:
        connection = self.comes(host)
        calls(connection)
        return connection


class Cycle:
    """A call that runs until it is told that it is complete."""

    response_complete = disconnected = False

    def __init__(self) -> None:
        self.message_event = asyncio.Event()


def calls(connection: Any) -> None:
    connection.cycle = Cycle()


def answered(connection: Any) -> None:
    connection.cycle.response_complete = True
    connection.since = connection.loop.time()


def inside(*connections: Any) -> list[bool]:
    return [not connection.transport.ended for connection in connections]


# --- connections ----------------------------------------------------------------------------------


def test_a_new_connection_takes_the_place_of_the_same_clients_oldest_idle_one() -> None:
    street = Street(each=3)
    first, busy, third = street.comes(), street.busy(), street.comes()
    other = street.comes("10.0.0.8")
    fourth = street.comes()

    assert inside(first, busy, third, fourth, other) == [False, True, True, True, True]


def test_a_client_whose_connections_are_all_busy_is_told_so() -> None:
    street = Street(each=2)
    busy = [street.busy(), street.busy()]
    refused, other = street.comes(), street.comes("10.0.0.8")

    assert inside(*busy, refused, other) == [True, True, False, True]
    assert refused.transport.written.startswith(b"HTTP/1.1 503 ")
    head, _, text = refused.transport.written.partition(b"\r\n\r\n")
    assert f"content-length: {len(text)}".encode() in head
    busy[0].connection_lost(None)
    assert inside(street.comes()) == [True]


@pytest.mark.parametrize("proxy", ["10.0.0.1", "fd00::1"])
def test_a_trusted_proxy_has_the_connections_of_its_clients(proxy: str) -> None:
    street = Street(each=2)
    many = [street.busy(proxy) for _ in range(2 * PROXY)]

    assert all(inside(*many)) and inside(street.comes(proxy)) == [False]


def test_all_together_have_so_many_and_the_oldest_idle_one_goes() -> None:
    street = Street(each=9, most=3)
    busy, idle, _ = street.busy("10.0.0.2"), street.comes("10.0.0.3"), street.busy("10.0.0.4")

    assert inside(street.comes("10.0.0.5"), busy, idle) == [True, True, False]


def test_a_connection_without_a_call_is_closed_and_one_with_a_call_is_not() -> None:
    street = Street(each=9)
    silent, busy, idle = street.comes(), street.busy(), street.busy()
    street.clock.pass_by(PATIENCE - 1)
    assert inside(silent, busy, idle) == [True, True, True]

    answered(idle)
    street.clock.pass_by(PATIENCE - 1)
    assert inside(silent, busy, idle) == [False, True, True]
    street.clock.pass_by(100 * PATIENCE)
    assert inside(silent, busy, idle) == [False, True, False]


def test_a_client_that_takes_nothing_of_its_answer_is_given_up_and_a_slow_one_is_not() -> None:
    street = Street(each=9)
    stuck, slow = street.busy(), street.busy()
    for connection in (stuck, slow):
        connection.transport.unsent = 100_000
        connection.pause_writing()
    for _ in range(2 * int(STALL)):
        slow.transport.unsent -= 1
        street.clock.pass_by(1)

    assert inside(stuck, slow) == [False, True]


def test_what_cannot_be_read_ends_its_call_and_no_error_follows() -> None:
    connection = Street(each=9).busy()
    connection.send_400_response("no")
    assert connection.transport.written.startswith(b"HTTP/1.1 400 ")
    assert connection.cycle.disconnected and connection.cycle.message_event.is_set()
    connection.send_400_response("no")  # its answer has begun: nothing more can be said
    assert connection.transport.written.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("::1", "::1"),
        ("2001:db8::7", "2001:db8::/64"),
        ("2001:db8::ffff:0:0:7", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_client_of_ipv6_has_a_whole_network(host: str, network: str) -> None:
    assert network_of(host) == network


@pytest.fixture
def files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_process_may_open_as_many_files_as_it_is_given(files: None) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))

    most = open_more_files()

    assert most == resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, MOST_FILES)
    assert open_more_files() == most


# --- bodies ---------------------------------------------------------------------------------------


def sent(*parts: bytes, every: float = 0, most: int = 1_000_000, **headers: str) -> Any:
    """What is read of a body whose parts come every so many seconds: its bytes, or a status."""

    async def read() -> bytes | int:
        left = [{"type": "http.request", "body": part, "more_body": True} for part in parts]

        async def receive() -> Any:
            await asyncio.sleep(every)
            return left.pop(0) if left else {"type": "http.disconnect"}

        if left and left[-1]["body"] == b"":
            left[-1]["more_body"] = False
        given = Headers({"Content-Length": "1", **headers})
        taken, found, more = Body(receive, given, most), b"", True
        try:
            while more:
                message = await taken()
                found, more = found + message["body"], message["more_body"]
        except BodyRefused as refused:
            return refused.problem.status
        return found

    return finished(read())


def test_a_whole_body_is_taken() -> None:
    assert sent(b"one", b"two", b"") == b"onetwo"


def test_a_body_that_is_broken_off_is_refused() -> None:
    assert sent(b"one") == sent() == 400


def test_a_body_that_is_too_large_is_refused_whatever_it_declares() -> None:
    assert sent(b"one", b"two", b"", most=5) == 413
    assert sent(b"", most=5, **{"Content-Length": "6"}) == 413
    assert sent(b"12345", b"", most=5) == b"12345"


def test_a_body_that_drips_is_refused_and_one_that_is_slow_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What counts is how much comes in a window, not how long all of it takes."""
    monkeypatch.setattr(body, "WINDOW", 2)
    drips = [b"x"] * 1_000
    slow = [b"x" * body.LEAST] * 40

    assert sent(*drips, b"", every=0.01) == 408
    assert sent(*slow, b"", every=0.01) == b"".join(slow)


def test_a_body_of_which_nothing_comes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "WINDOW", 0.01)

    assert sent(b"", every=3600) == 408


def test_an_answer_that_has_begun_ends_with_its_caller() -> None:
    async def read() -> Any:
        async def receive() -> Any:
            return {"type": "http.disconnect"}

        there = Body(receive, Headers({"Content-Length": "1"}), 10)
        there.answered = True
        return [await there(), await Body(receive, Headers({}), 10)()]

    assert finished(read()) == [{"type": "http.disconnect"}] * 2
