"""Starts child processes, restarts those that end, and stops all of them in order."""

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, Protocol, Self

from cli.failure import WrongSetting
from cli.processes import EX_CONFIG, Backoff, Program, ended_how

TICK = 0.2  # seconds between two checks of the children
# A worker finishes its batch first, and a receiver its associations; the others have none.
STOP_SECONDS = {"worker": 60.0, "dicom": 30.0}
STOP_SECONDS_ELSE = 10.0

Say = Callable[[str], None]
Clock = Callable[[], float]


class Stop:
    """Counts the requests to stop. The second one kills what still runs."""

    def __init__(self) -> None:
        self.requests = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._count)
        if self._before[signal.SIGHUP] is signal.SIG_IGN:  # nohup means what it says
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.requests += 1


class Process(Protocol):
    """What the supervisor needs of a child (`cli.processes.Child`)."""

    program: Program
    started_at: float

    @property
    def exit_code(self) -> int | None: ...
    @property
    def running(self) -> bool: ...
    def start(self) -> None: ...
    def send(self, number: signal.Signals) -> None: ...
    def last_words(self, lines: int = 1) -> str: ...


class Supervised:
    """A child that should run, and when to restart it if it does not."""

    def __init__(self, child: Process, say: Say, clock: Clock = time.monotonic) -> None:
        self.child = child
        self._say = say
        self._clock = clock
        self._backoff = Backoff()
        self._due: float | None = None

    def check(self) -> None:
        """Call it often. Raises WrongSetting for an end that a restart cannot mend."""
        code = self.child.exit_code
        if code is None:
            return
        if self._due is None:
            self._ended(code)
        elif self._clock() >= self._due:
            self._due = None
            self.child.start()

    def _ended(self, code: int) -> None:
        program = self.child.program
        if code == EX_CONFIG:
            raise WrongSetting(f"the {program.name} cannot run{self._why()}")
        delay = self._backoff.delay(self._clock() - self.child.started_at)
        self._due = self._clock() + delay
        # A killed process has no last words: the end of its log is about something else.
        killed = f" (log: {program.log})" if program.log else ""
        reason = self._why() if code > 0 else killed
        end = f"the {program.name} ended ({ended_how(code)})"
        self._say(f"{end} and starts again in {delay:.0f} s{reason}")

    def _why(self) -> str:
        log = self.child.program.log
        if log is None:
            return ": it said why above"
        return f": {self.child.last_words() or 'it said nothing'} ({log})"


class Supervisor:
    """Keeps its children running together, and stops them together, foundations last."""

    def __init__(self, stop: Stop, say: Say, patience: Mapping[str, float] = STOP_SECONDS) -> None:
        """`patience`: seconds until a child that was asked to stop is killed, by name up to a -."""
        self.stop = stop
        self._say = say
        self._patience = patience
        self._supervised: list[Supervised] = []
        self._foundations: list[Process] = []

    def add(self, child: Process, *, foundation: bool = False) -> None:
        """Starts it. The others need a foundation until they have stopped."""
        self._supervised.append(Supervised(child, self._say))
        if foundation:
            self._foundations.append(child)
        child.start()

    def keep_up_until(self, condition: Callable[[], bool]) -> bool:
        """True once `condition` holds, False if a request to stop came before."""
        while not self.stop.requests:
            for supervised in self._supervised:
                supervised.check()
            if condition():
                return True
            time.sleep(TICK)  # a signal's handler runs at once; the request is seen within a tick
        return False

    def stop_all(self) -> None:
        children = [supervised.child for supervised in self._supervised]
        self._stop_together([child for child in children if child not in self._foundations])
        self._stop_together(self._foundations)

    def _stop_together(self, children: Sequence[Process]) -> None:
        for child in children:
            child.send(signal.SIGTERM)
        begun = time.monotonic()
        for child in children:
            kind = child.program.name.partition("-")[0]
            self._await_end(child, begun + self._patience.get(kind, STOP_SECONDS_ELSE))

    def _await_end(self, child: Process, deadline: float) -> None:
        while child.running and time.monotonic() < deadline and self.stop.requests < 2:
            time.sleep(0.05)
        if child.running:
            self._say(f"the {child.program.name} did not stop when asked, and was killed")
            child.send(signal.SIGKILL)
        while child.running:
            time.sleep(0.02)
