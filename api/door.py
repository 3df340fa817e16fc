"""The door: how many connections a client may have, and how long one may stand there for nothing.

uvicorn's own settings help only in part. `timeout_keep_alive` begins after the first answer, and
`limit_concurrency` refuses everybody once a single client has used it up.
"""

import ipaddress
import logging
import resource
from collections.abc import Collection
from typing import Any, ClassVar, cast

import h11
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline import metrics

logger = logging.getLogger("kindred.door")

# Seconds that a connection without a call may last: until its first header is whole, between two
# calls, and after an answer whose client still sends the body that nobody reads.
PATIENCE = 10

# Seconds in which a client that gets an answer must take at least one byte of it. A download may
# stand still for a while, as when the disk at the other end is busy.
STALL = 300.0

# A proxy's connections are those of all its clients.
PROXY = 8

# The most connections of all clients together: far beyond what one process can answer, and about
# 150 MB if each of them is in the middle of a header.
MOST = 4_000

# Of the files that the process may open, the connections get half: Redis, the blobs, the logs and
# connections that are just being accepted or closed need the rest.
PART_OF_FILES = 2
MOST_FILES = 65_536

# So many connections are accepted at a stroke, before one of them can be refused. As many wait in
# the kernel.
BACKLOG = 512

LOOK = 1.0  # seconds between two looks at all connections

_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nretry-after: 2\r\n"
    b"connection: close\r\ncontent-length: 42\r\n\r\nToo many connections. Try again in a bit.\n"
)

_REASONS = {
    "silent": "closed a connection that sent no request in time",
    "replaced": "closed the oldest idle connection for a new one",
    "refused": "refused a connection: too many are busy",
    "stalled": "closed a connection that took no answer",
}


class Door:
    """Counts the connections of every client, by its address, and closes those that waste time.

    Too many: the new one takes the place of the oldest without a call, so that neither half-open
    nor idle connections can lock anybody out. If all are busy, the new one is refused.
    """

    def __init__(self, each: int, trusted_proxies: str, most: int = MOST) -> None:
        """`each` client may have so many, a trusted proxy `PROXY` times that."""
        self._each, self._most = each, most
        self._trusted = ProxyHeadersMiddleware(cast(Any, None), trusted_proxies).trusted_hosts
        self._inside: dict[str, set[Connection]] = {}
        self._looking = False

    @classmethod
    def for_files(cls, files: int, each: int, trusted_proxies: str) -> "Door":
        """A door of a process that may open so many files."""
        return cls(each, trusted_proxies, min(MOST, max(1, files // PART_OF_FILES)))

    def protocol(self) -> "type[Connection]":
        """What uvicorn makes of every connection."""
        return type("Connection", (Connection,), {"door": self})

    def enter(self, connection: "Connection") -> bool:
        """Whether there is a place."""
        own = self._inside.get(connection.address, set())
        if len(own) >= self._limit(connection):
            found = self._make_room(own)
        else:
            found = len(self._everyone()) < self._most or self._make_room(self._everyone())
        if not found:
            self._tell("refused", connection)
            return False
        self._inside.setdefault(connection.address, set()).add(connection)
        self._look_later(connection)
        return True

    def leave(self, connection: "Connection") -> None:
        own = self._inside.get(connection.address, set())
        own.discard(connection)
        if not own:
            self._inside.pop(connection.address, None)

    def _limit(self, connection: "Connection") -> int:
        return self._each * (PROXY if connection.host in self._trusted else 1)

    def _everyone(self) -> "list[Connection]":
        return [each for own in self._inside.values() for each in own]

    def _make_room(self, among: "Collection[Connection]") -> bool:
        idle = [each for each in among if each.idle]
        if not idle:
            return False
        self._close("replaced", min(idle, key=lambda each: each.since))
        return True

    def _look_later(self, connection: "Connection") -> None:
        if not self._looking:
            self._looking = True
            connection.loop.call_later(LOOK, self._look, connection.loop)

    def _look(self, loop: Any) -> None:
        """Closes what wastes time. Looks again as long as there is any connection."""
        self._looking = False
        now = loop.time()
        for each in self._everyone():
            if each.idle and now - each.since > PATIENCE:
                self._close("silent", each)
            elif each.stalled(now):
                self._close("stalled", each)
        left = self._everyone()
        metrics.gauge("kindred_connections", "Connections of callers", len(left))
        if left:
            self._look_later(left[0])

    def _close(self, reason: str, connection: "Connection") -> None:
        self.leave(connection)
        self._tell(reason, connection)
        # `close` would wait until the client has taken everything.
        connection.transport.abort()

    def _tell(self, reason: str, connection: "Connection") -> None:
        metrics.count(
            "kindred_connections_closed_total", "Connections closed at the door", reason=reason
        )
        level = logging.DEBUG if reason == "silent" else logging.WARNING
        logger.log(level, _REASONS[reason], extra={"client": connection.address})


class Connection(H11Protocol):
    """uvicorn's, and it knows since when it has had no call.

    `host` is its peer's address, `address` that of the client to which this belongs.
    """

    door: ClassVar[Door]
    host = address = ""
    since = 0.0
    _moved = 0.0  # when the client last took a part of an answer
    _unsent = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.host = self.client[0] if self.client else ""
        self.address = network_of(self.host)
        self.since = self._moved = self.loop.time()
        if not self.door.enter(self):
            transport.write(_REFUSAL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.leave(self)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()

    def resume_writing(self) -> None:
        self._moved = self.loop.time()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What cannot be read may come in the middle of a call, or after its answer has begun."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # so that the app sends nothing more
            self.cycle.message_event.set()

    @property
    def idle(self) -> bool:
        """No call is running, and the last answer has gone out."""
        running = self.cycle is not None and not self.cycle.response_complete
        return not running and not self.transport.get_write_buffer_size()

    def stalled(self, now: float) -> bool:
        """Whether the client has taken nothing of what lies ready for it for too long."""
        unsent = self.transport.get_write_buffer_size()
        waits = self.flow.write_paused or self.transport.is_closing()
        if not waits or unsent < self._unsent:
            self._moved = now
        self._unsent = unsent
        return now - self._moved > STALL


def network_of(host: str) -> str:
    """Whose address it is: of IPv6, one client has a whole network of 64 bits."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return host if address.is_loopback else f"{ipaddress.ip_network((address, 64), strict=False)}"


def open_more_files() -> int:
    """Lets this process open as many files as it may ask for, and says how many those are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return most if soft == resource.RLIM_INFINITY else soft
