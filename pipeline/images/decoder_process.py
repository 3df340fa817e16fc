"""Decoders as their worker sees them: forked from a template, given orders, and ended.

The template is started as a program of its own (`decoder_template.py`), so nothing of the worker is
in it or in a decoder: neither CUDA nor threads nor open files, which a fork of the worker would
copy, nor the worker's main module, which `multiprocessing` would import again. Nor do they inherit
the environment, where secrets are.
"""

import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.images import memory_files
from pipeline.images.decoder import KEPT
from pipeline.images.decoding import Unusable
from pipeline.images.preparing import Order, Prepared

# Seconds in which a new template must answer, and a new decoder be ready. On a quiet machine a
# template takes 1.5, and a decoder of it 0.01; with every core taken ten times over, a minute.
START_SECONDS = 180.0

# Orders that a decoder may have at once: while its worker reads an answer, it works on the next.
DEPTH = 2

# What a decoder may inherit: where programs and libraries are, and how texts are written.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "HOME")

_SETTINGS = {
    # NumPy's libraries would keep stacks and buffers for every core, and a decoder uses one.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # One heap, and freed memory stays in it for the next picture (see workers/memory.py), but less
    # than a worker keeps, because there are many decoders.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
}


_TEMPLATE = "pipeline.images.decoder_template"


class Lost(Exception):
    """The decoder has ended. `code` is as of `subprocess.Popen.returncode`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Hangs(Exception):
    """The decoder did not answer in time."""


class Template:
    """Forks decoders. Threads can share it."""

    def __init__(self, program: str) -> None:
        """`program` is the decoders' module. It starts with the first of them."""
        self._program = program
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None else None

    def fork(self, argument: str, descriptors: list[int]) -> int:
        """The process id of a new decoder. A template that has ended is replaced.

        The first descriptor is a socket's: see `decoder_template.py`. Raises OSError or Lost.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            process, orders = self._process, self._orders
            assert process is not None and orders is not None  # noqa: S101 - it has started
            try:
                socket.send_fds(orders, [argument.encode()], descriptors)
                pid = int(orders.recv(64) or 0)
            except (ConnectionError, TimeoutError):
                pid = 0
            if pid == 0:
                self._stop()
                raise Lost(process.returncode)
            return pid

    def close(self) -> None:
        """Ends it, and every decoder of it."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        self._stop()
        self._orders, theirs = socket.socketpair()
        self._orders.settimeout(START_SECONDS)
        started: Future[subprocess.Popen[bytes]] = Future()
        with theirs:
            # The system ends it with the thread that started it, so that one must outlast it.
            threading.Thread(
                target=self._keep, args=(theirs.fileno(), started), name="template", daemon=True
            ).start()
            self._process = started.result()

    def _keep(self, orders: int, started: "Future[subprocess.Popen[bytes]]") -> None:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", _TEMPLATE, self._program, str(orders)],
                pass_fds=[orders],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment(),
            )
        except Exception as error:  # noqa: BLE001 - the thread that waits raises it
            started.set_exception(error)
        else:
            started.set_result(process)
            process.wait()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._orders is not None:
            self._orders.close()
        self._process = self._orders = None


class DecoderProcess:
    """For one thread. Any method can raise Lost; then only `end` may follow."""

    def __init__(self, template: Template, max_pixels: int) -> None:
        """Starts it, and waits until it is ready. Raises OSError, Lost or Hangs."""
        with ExitStack() as undo:
            self._files = [memory_files.make() for _ in range(DEPTH)]
            for file in self._files:
                undo.callback(os.close, file)
            self._pipe, theirs = Pipe()
            undo.callback(self._pipe.close)
            self._life, watcher = socket.socketpair()
            undo.callback(self._life.close)
            self._code: int | None = None
            with theirs, watcher:
                descriptors = [watcher.fileno(), theirs.fileno(), *self._files]
                self.pid = template.fork(str(max_pixels), descriptors)
            undo.callback(self._kill)
            # Of `select`, since Connection.poll makes a selector for each call.
            self._lives, self._answers = select.poll(), select.poll()
            self._lives.register(self._life, select.POLLIN)
            self._answers.register(self._pipe, select.POLLIN)
            self._next = 0  # the file of the next order; orders are answered in turn
            self._answer(time.monotonic() + START_SECONDS)
            self._undo = undo.pop_all()

    def check(self) -> None:
        """Raises Lost if it has ended."""
        if self._lives.poll(0):
            raise Lost(self._ended())

    def send(self, data: bytes, order: Order) -> None:
        """At most DEPTH orders may be unanswered. Raises OSError if there is no memory for it."""
        file = self._files[self._next]
        memory_files.write(file, data)
        message = json.dumps((self._next, len(data), order.as_json()))
        try:
            self._pipe.send_bytes(message.encode())
        except ConnectionError:
            raise Lost(self._kill()) from None
        self._next = (self._next + 1) % DEPTH

    def receive(self, order: Order, pending: int, until: float) -> Prepared | Unusable:
        """The answer to the first of `pending` orders, which is `order`.

        `until` is a time of `time.monotonic`. Raises Hangs, OSError if there is no memory for the
        answer, and RuntimeError for a fault of ours.
        """
        answer = self._answer(until)
        file = self._files[(self._next - pending) % DEPTH]
        if "reason" in answer:
            return Unusable(answer["reason"])
        if "full" in answer:
            raise OSError("no memory for an answer")
        if "fault" in answer:
            raise RuntimeError(f"a decoder failed: {answer['fault']}")
        shape = (3, *order.steps.size)
        size = math.prod(shape)
        pixels = np.frombuffer(memory_files.read(file, size), np.uint8).reshape(shape)
        small = memory_files.read(file, answer["preview"], size)
        whole = memory_files.read(file, answer["picture"], size + answer["preview"])
        memory_files.release(file, above=KEPT)
        said = (answer["width"], answer["height"], answer["phash"], answer["rule"], whole)
        window = tuple(answer["window"]) if answer["window"] else None
        return Prepared(pixels, small, *said, window=window)

    def kill(self) -> None:
        """From any thread: the one that uses it meets Lost."""
        with suppress(OSError):  # its template has ended, and it with that
            self._life.send(b"k")

    def end(self) -> None:
        """At once; it has nothing to lose."""
        self._undo.close()

    def _answer(self, until: float) -> dict[str, Any]:
        try:
            if not self._answers.poll(max(0.0, 1000 * (until - time.monotonic()))):
                raise Hangs
            answer: dict[str, Any] = json.loads(self._pipe.recv_bytes())
        except (EOFError, ConnectionError):
            raise Lost(self._kill()) from None
        return answer

    def _kill(self) -> int:
        """How it has ended: what already ends it has ended it."""
        self.kill()
        return self._ended()

    def _ended(self) -> int:
        """Waits for its end. Returns its code, or that of a kill if its template has ended."""
        if self._code is None:
            with suppress(ConnectionError):
                self._code = int(self._life.recv(16) or -signal.SIGKILL)
        return -signal.SIGKILL if self._code is None else self._code


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    return {**kept, **_SETTINGS, "PYTHONPATH": path}
