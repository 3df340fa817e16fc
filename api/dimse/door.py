"""The receiver's first process: it accepts connections, and hands each to the least busy receiver.

It has one thread, reads nothing of what peers send, and starts again whichever process ends. Few
connections at once are taken from addresses that no entry of KINDRED_DICOM_PEERS covers: their
associations are rejected. No address has more than half of all associations.
"""

import logging
import os
import selectors
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from pipeline.base.peers import Peers

logger = logging.getLogger("kindred.dicom")

STRANGERS = 4  # connections at once from addresses that may not send
AGAIN = 1.0  # seconds between two starts of a process
DRAIN = 20.0  # seconds for associations to end when the receiver stops

_LINE = struct.Struct("!I46s")  # a connection's number and its address
_NUMBER = struct.Struct("!I")

Work = Callable[[socket.socket], None]  # what a process does, with its end of a pair


@dataclass(eq=False)
class _Child:
    work: Work
    takes: bool  # connections
    started: float = 0.0
    pid: int = 0
    pair: socket.socket | None = None
    open: dict[int, str] = field(default_factory=dict)


class Door:
    """`works`: what the processes that receive do; `others`: what is done in one process each.

    `most`: associations at once.
    """

    def __init__(
        self,
        listener: socket.socket,
        peers: Peers,
        most: int,
        works: Sequence[Work],
        others: Sequence[Work] = (),
    ) -> None:
        self._listener, self._peers, self._most = listener, peers, most
        self._children = [_Child(work, True) for work in works]
        self._children += [_Child(work, False) for work in others]
        self._selector = selectors.DefaultSelector()
        self._by_address: Counter[str] = Counter()
        self._strangers, self._number, self._stopping = 0, 0, False

    def run(self) -> None:
        """Returns when a signal asked it to stop and all processes have ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        while not self._stopping:
            self._start_missing()
            for key, _ in self._selector.select(timeout=0.5):
                if key.data is None:
                    self._accept()
                else:
                    self._hear(key.data)
        self._listener.close()
        self._end_all()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _start_missing(self) -> None:
        for child in self._children:
            if child.pid == 0 and time.monotonic() - child.started >= AGAIN:
                self._start(child)

    def _start(self, child: _Child) -> None:
        ours, theirs = socket.socketpair()
        child.started = time.monotonic()
        child.pid = os.fork()
        if child.pid == 0:
            self._become(child, ours, theirs)
        theirs.close()
        ours.setblocking(False)
        child.pair = ours
        self._selector.register(ours, selectors.EVENT_READ, child)

    def _become(self, child: _Child, ours: socket.socket, theirs: socket.socket) -> None:
        """In the new process. It ends when our end of the pair is closed, as by our death."""
        code = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, whose group it shares
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._selector.close()
            self._listener.close()
            for pair in (ours, *(each.pair for each in self._children)):
                if pair is not None:
                    pair.close()
            child.work(theirs)
            code = 0
        except BaseException as error:  # nothing of the parent may run here
            logger.error("a process of the receiver failed", exc_info=error)
        finally:
            logging.shutdown()
            os._exit(code)

    def _accept(self) -> None:
        try:
            connection, found = self._listener.accept()
        except OSError:  # it has gone, or there are too many files
            return
        with connection:
            address = str(found[0])
            child = min(
                (child for child in self._children if child.takes and child.pair is not None),
                key=lambda child: len(child.open),
                default=None,
            )
            if child is not None and self._has_room(address):
                self._hand_over(child, connection, address)

    def _has_room(self, address: str) -> bool:
        if not self._peers.cover(address):
            return self._strangers < STRANGERS
        total = sum(self._by_address.values())
        return total < self._most and self._by_address[address] < max(1, self._most // 2)

    def _hand_over(self, child: _Child, connection: socket.socket, address: str) -> None:
        assert child.pair is not None  # noqa: S101 - the caller has looked
        self._number = (self._number + 1) % 2**32
        line = _LINE.pack(self._number, address.encode())
        connection.setblocking(True)
        try:
            socket.send_fds(child.pair, [line], [connection.fileno()])
        except OSError:  # it is too busy to take any, or has just died
            return
        child.open[self._number] = address
        self._change(address, 1)

    def _change(self, address: str, by: int) -> None:
        if self._peers.cover(address):
            self._by_address[address] += by
            if not self._by_address[address]:
                del self._by_address[address]
        else:
            self._strangers += by

    def _hear(self, child: _Child) -> None:
        """A receiver says which associations have ended, or has ended itself."""
        assert child.pair is not None  # noqa: S101 - it was registered
        try:
            said = child.pair.recv(_NUMBER.size * 256)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        for (number,) in _NUMBER.iter_unpack(said[: len(said) // 4 * 4]):
            if (address := child.open.pop(number, None)) is not None:
                self._change(address, -1)
        if not said:
            self._bury(child)

    def _bury(self, child: _Child) -> None:
        assert child.pair is not None  # noqa: S101 - the caller has read it
        self._selector.unregister(child.pair)
        child.pair.close()
        with suppress(ChildProcessError):
            os.waitpid(child.pid, 0)
        if not self._stopping:
            logger.error("a process of the receiver ended and is started again")
        for address in child.open.values():
            self._change(address, -1)
        child.pid, child.pair = 0, None
        child.open.clear()

    def _end_all(self) -> None:
        """Those that receive first: the others make jobs of what they end with."""
        for takes in (True, False):
            living = [each for each in self._children if each.pid and each.takes is takes]
            for child in living:
                if child.pair is not None:
                    child.pair.shutdown(socket.SHUT_WR)
            end = time.monotonic() + DRAIN + 5
            while living and time.monotonic() < end:
                living = [each for each in living if os.waitpid(each.pid, os.WNOHANG)[0] == 0]
                time.sleep(0.05)
            for child in living:
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)


def connections(pair: socket.socket) -> Callable[[], tuple[int, socket.socket, str] | None]:
    """In a receiver: waits for the next connection; None when it is to stop."""

    def next_one() -> tuple[int, socket.socket, str] | None:
        line, descriptors, _, _ = socket.recv_fds(pair, _LINE.size, 1)
        if not line or not descriptors:
            return None
        while len(line) < _LINE.size:
            line += pair.recv(_LINE.size - len(line))
        number, address = _LINE.unpack(line)
        return number, socket.socket(fileno=descriptors[0]), address.rstrip(b"\0").decode()

    return next_one


def tell_end(pair: socket.socket, number: int) -> None:
    with suppress(OSError):
        pair.sendall(_NUMBER.pack(number))
