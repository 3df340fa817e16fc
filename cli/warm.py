"""Workers forked from a warm process: one that died is back without importing torch again."""

import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import BinaryIO, Self

from cli.processes import Child, Program, module_command, output_of

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_NEVER_STARTED = 1  # the exit code of a worker that the warm process could not make


class Warm:
    """`workers.warm`, as a context manager. Where there is no such thing, workers start as others.

    Once it has ended, workers start as others do.
    """

    def __init__(self, worker: Program) -> None:
        """It has the environment and the log of `worker`."""
        self._orders: socket.socket | None = None
        self._pending = 0
        if sys.platform != "linux":
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = module_command("workers.warm", str(theirs.fileno()))
        self._child = Child(replace(worker, name="warm", command=command), [theirs.fileno()])
        self._child.start()
        theirs.close()
        self._orders = ours

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._orders is not None:
            self._orders.close()
            self._child.send(signal.SIGKILL)  # it may be at its imports still
            while self._child.running:
                time.sleep(0.01)

    def fork(self, program: Program, log: BinaryIO | None, kept: Sequence[int]) -> "Forked | None":
        """None if it is not there. It may take until its imports are done."""
        if self._orders is None or not self._child.running:
            return None
        answer, theirs = socket.socketpair()
        order = {"environment": dict(program.environment), "parent": os.getpid()}
        outputs = [log.fileno(), log.fileno()] if log else [1, 2]
        self._adopt(1)
        try:
            text = json.dumps(order).encode()
            socket.send_fds(self._orders, [text], [theirs.fileno(), *outputs, *kept])
        except OSError:  # it has just ended
            self._adopt(-1)
            answer.close()
            return None
        finally:
            theirs.close()
        return Forked(self, answer)

    def answered(self) -> None:
        self._adopt(-1)

    def _adopt(self, more: int) -> None:
        """Orphans of this process's children become its own while it waits for a worker."""
        self._pending += more
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(self._pending > 0))


class Forked:
    """A worker that the warm process makes, as `subprocess.Popen`, and a child of this process."""

    def __init__(self, warm: Warm, answer: socket.socket) -> None:
        self._warm = warm
        self._answer = answer
        answer.setblocking(False)
        self.pid: int | None = None
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.pid is None and self.returncode is None:
            self._look()
        if self.pid is not None and self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def _look(self) -> None:
        try:
            said = self._answer.recv(64)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        self._answer.close()
        self._warm.answered()
        if said:
            self.pid = int(said)
        else:
            self.returncode = _NEVER_STARTED

    def send_signal(self, number: int) -> None:
        """One that is not there yet never comes: it ends with this process, which is stopping."""
        if self.poll() is not None:
            return
        if self.pid is None:
            self._answer.close()
            self.returncode = -number
        else:
            os.kill(self.pid, number)


class WarmChild(Child):
    """A worker from the warm process, or a child like all others where there is none."""

    def __init__(self, program: Program, warm: Warm, keeps_open: Sequence[int] = ()) -> None:
        super().__init__(program, keeps_open)
        self._warm = warm

    def start(self) -> None:
        self.started_at = time.monotonic()
        with output_of(self.program.log) as log:
            forked = self._warm.fork(self.program, log, self._keeps_open)
        if forked is None:
            super().start()
        else:
            self._process = forked
