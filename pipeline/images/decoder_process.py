"""One decoder as its worker sees it: started, given orders, and ended.

It is started as a program of its own (`decoder.py`), so nothing of the worker is in it: neither
CUDA nor threads nor open files, which a fork would copy, nor the worker's main module, which
`multiprocessing` would import again. Nor does it inherit the environment, where secrets are.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.images import memory_files
from pipeline.images.decoder import KEPT
from pipeline.images.decoding import Unusable
from pipeline.images.preparing import Order, Prepared

# Seconds in which a new decoder must be ready. It takes 0.3 on a quiet machine.
START_SECONDS = 60.0

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


class Lost(Exception):
    """The decoder has ended. `code` is as of `subprocess.Popen.returncode`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Hangs(Exception):
    """The decoder did not answer in time."""


class DecoderProcess:
    """For one thread. Any method can raise Lost; then only `end` may follow."""

    def __init__(self, program: str, max_pixels: int) -> None:
        """Starts it, and waits until it is ready. Raises OSError, Lost or Hangs."""
        with ExitStack() as undo:
            self._files = [memory_files.make() for _ in range(DEPTH)]
            for file in self._files:
                undo.callback(os.close, file)
            self._pipe, theirs = Pipe()
            undo.callback(self._pipe.close)
            with theirs:
                descriptors = (theirs.fileno(), *self._files)
                arguments = map(str, (*descriptors, max_pixels))
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", program, *arguments],
                    pass_fds=descriptors,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=_environment(),
                )
            undo.callback(self._kill)
            self._next = 0  # the file of the next order; orders are answered in turn
            self._answer(time.monotonic() + START_SECONDS)
            self._undo = undo.pop_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises Lost if it has ended."""
        if self._process.poll() is not None:
            raise Lost(self._process.returncode)

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
        size = int(np.prod(shape))
        pixels = np.frombuffer(memory_files.read(file, size), np.uint8).reshape(shape)
        small = memory_files.read(file, answer["preview"], size)
        whole = memory_files.read(file, answer["picture"], size + answer["preview"])
        memory_files.release(file, above=KEPT)
        said = (answer["width"], answer["height"], answer["phash"], answer["rule"], whole)
        window = tuple(answer["window"]) if answer["window"] else None
        return Prepared(pixels, small, *said, window=window)

    def kill(self) -> None:
        """From any thread: the one that uses it meets Lost."""
        self._process.kill()

    def end(self) -> None:
        """At once; it has nothing to lose."""
        self._undo.close()

    def _answer(self, until: float) -> dict[str, Any]:
        try:
            if not self._pipe.poll(max(0.0, until - time.monotonic())):
                raise Hangs
            answer: dict[str, Any] = json.loads(self._pipe.recv_bytes())
        except (EOFError, ConnectionError):
            raise Lost(self._kill()) from None
        return answer

    def _kill(self) -> int:
        """How it has ended: what already ends it has ended it."""
        self._process.kill()
        return self._process.wait()


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    return {**kept, **_SETTINGS, "PYTHONPATH": path}
