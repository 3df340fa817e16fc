"""Child processes: how they start, that none outlives us, and when to restart one that ended."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

EX_CONFIG = 78  # sysexits.h: a fault that a restart cannot mend
FIRST_DELAY = 1.0  # seconds before a process that ended restarts; doubles each time
LONGEST_DELAY = 30.0
FORGIVEN_AFTER = 60.0  # seconds of life after which earlier ends no longer count
LOG_BYTES = 16_000_000  # the next start renames a longer log; one old log stays

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_CHECKOUT = Path(__file__).parents[1]


def module_command(module: str, *arguments: str) -> list[str]:
    """`python -m module`, but never one of that name in the folder we happen to stand in (-P)."""
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Adds a checkout that is not installed to the path, from which -P removed it."""
    if not (_CHECKOUT / "pyproject.toml").exists():
        return dict(environment)
    path = os.pathsep.join(filter(None, (str(_CHECKOUT), environment.get("PYTHONPATH"))))
    return {**environment, "PYTHONPATH": path}


@dataclass(frozen=True)
class Program:
    """What to run. Its output goes to `log`; without one it is mixed with ours, line by line."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path | None


class Handle(Protocol):
    """What a child needs of its process (`subprocess.Popen`)."""

    @property
    def pid(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def send_signal(self, number: int, /) -> None: ...


@dataclass
class Backoff:
    """Delays of 1, 2, 4 … 30 seconds, and 1 again after a minute of life."""

    ends: int = 0

    def delay(self, lived: float) -> float:
        """Seconds to wait after a life of `lived` seconds."""
        self.ends = 1 if lived >= FORGIVEN_AFTER else self.ends + 1
        return min(FIRST_DELAY * 2.0 ** min(self.ends - 1, 10), LONGEST_DELAY)


class Child:
    """One process in a session of its own, so that a terminal's Ctrl-C reaches only us.

    `keeps_open` are file descriptors it holds as long as it lives. Start it from the main thread:
    on Linux a child is told when the *thread* that started it ends.
    """

    def __init__(self, program: Program, keeps_open: Sequence[int] = ()) -> None:
        self.program = program
        self.started_at = 0.0
        self._keeps_open = tuple(keeps_open)
        self._process: Handle | None = None

    def start(self) -> None:
        self.started_at = time.monotonic()
        with output_of(self.program.log) as log:
            self._process = subprocess.Popen(
                self.program.command,
                env=self.program.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT if log else None,
                start_new_session=True,
                pass_fds=self._keeps_open,
                preexec_fn=_dies_with(os.getpid()),  # noqa: PLW1509 - it makes two system calls
                umask=0o077,  # what it writes holds patients' images
            )

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number if one ended it."""
        return self._process.poll() if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)  # does nothing once the process has ended

    def last_words(self, lines: int = 1) -> str:
        """The end of its log, without empty lines. Empty if it has none of its own."""
        return "\n".join(tail(self.program.log, lines)) if self.program.log else ""


def ended_how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"


@contextmanager
def output_of(log: Path | None) -> Iterator[BinaryIO | None]:
    if log is None:
        yield None
        return
    _rotate(log)
    with log.open("ab") as file:
        yield file


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def tail(log: Path, lines: int) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]


def _dies_with(parent: int) -> Callable[[], None] | None:
    """The child gets SIGTERM when we end in any way, kill -9 too. Only Linux can do that."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def bind_to_parent() -> None:  # runs in the child, before its program
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # we ended before the call above
            os._exit(1)

    return bind_to_parent
