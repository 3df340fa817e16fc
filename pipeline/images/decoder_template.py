"""The template of decoders: a process that has imported all they need, and forks them.

Torch takes a second to import, and 200 MB. A fork has it within milliseconds and shares the memory.
The template decodes nothing and runs no threads, so a fork of it is whole.

`python -m pipeline.images.decoder_template PROGRAM SOCKET`: each message on the socket asks for a
decoder, and is answered with its process id, or 0. It carries the decoder's arguments and its
descriptors. The first is a socket too. A byte from there ends the decoder, as does its closing, and
the decoder's return code goes there.
"""

import gc
import importlib
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from types import ModuleType

_MOST_BYTES, _MOST_DESCRIPTORS = 1024, 8


class _Template:
    """For one thread, which is the process's only one."""

    def __init__(self, decoder: ModuleType, orders: socket.socket) -> None:
        self._decoder = decoder
        self._orders = orders
        self._children: dict[int, socket.socket] = {}  # by process id: who is told of its end
        self._ended, wake = socket.socketpair()
        for end in (self._ended, wake):
            end.setblocking(False)
        self._wake = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self._selector = selectors.DefaultSelector()
        for source in (orders, self._ended):
            self._selector.register(source, selectors.EVENT_READ)

    def run(self) -> None:
        """Until the socket of the orders closes."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._orders:
                    if not self._obey():
                        return
                elif key.fileobj is self._ended:
                    self._reap()
                else:
                    self._end(key.data, key.fileobj)  # type: ignore[arg-type]

    def _obey(self) -> bool:
        text, descriptors, _, _ = socket.recv_fds(self._orders, _MOST_BYTES, _MOST_DESCRIPTORS)
        if not text:
            return False
        watcher, *given = descriptors
        try:
            pid = os.fork()
        except OSError:
            pid = -1
        if pid == 0:
            self._become_decoder(watcher, given, text.decode())
        for descriptor in given:
            os.close(descriptor)
        if pid > 0:
            self._children[pid] = socket.socket(fileno=watcher)
            self._selector.register(self._children[pid], selectors.EVENT_READ, pid)
        else:
            os.close(watcher)
        self._orders.sendall(str(max(0, pid)).encode())
        return True

    def _become_decoder(self, watcher: int, given: list[int], argument: str) -> None:
        """Keeps nothing of what the template and the other decoders have open. It never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            for kept in (self._orders, self._ended, self._wake, *self._children.values()):
                kept.close()
            os.close(watcher)
            self._decoder.main([*map(str, given), argument])
            code = 0
        finally:
            os._exit(code)

    def _end(self, pid: int, watcher: socket.socket) -> None:
        """A child that has ended and was reaped is no longer among the children."""
        if pid in self._children:
            os.kill(pid, signal.SIGKILL)
        with suppress(OSError):
            if watcher.recv(1):
                return
        self._selector.unregister(watcher)
        watcher.close()

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            while self._ended.recv(_MOST_BYTES):
                pass
        for pid in [*self._children]:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                with suppress(OSError):  # nobody asks any more
                    self._children.pop(pid).sendall(f"{code} ".encode())


def main(arguments: list[str]) -> None:
    program, descriptor = arguments
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the worker
    decoder = importlib.import_module(program)
    decoder.end_with_parent()
    decoder.preload()
    gc.collect()
    gc.freeze()  # so that no collection writes to the memory that forks share
    with socket.socket(fileno=int(descriptor)) as orders, suppress(ConnectionError):
        _Template(decoder, orders).run()


if __name__ == "__main__":
    main(sys.argv[1:])
