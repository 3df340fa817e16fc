"""Starts children, starts fallen ones again, and stops all of them in order."""

import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Protocol, Self

from cli.failure import CommandError
from cli.processes import EX_CONFIG, Backoff, Program, ended_how

TICK = 0.2  # seconds between two looks at the children
STOP_SECONDS = {"worker": 60.0}  # a worker ends its batch first; the others have nothing to end
STOP_SECONDS_ELSE = 10.0

Say = Callable[[str], None]
Clock = Callable[[], float]


class Stop:
    """How often we were asked to stop: once is a request, twice is impatience."""

    def __init__(self) -> None:
        self.requests = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._asked)
        if self._before[signal.SIGHUP] is signal.SIG_IGN:  # nohup means what it says
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:
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


class Kept:
    """A child that is to be up, and when it is due again if it is not."""

    def __init__(self, child: Process, say: Say, clock: Clock = time.monotonic) -> None:
        self.child = child
        self._say = say
        self._clock = clock
        self._backoff = Backoff()
        self._due: float | None = None

    def look(self) -> None:
        """Call it often. A fall that starting again cannot cure is a CommandError."""
        code = self.child.exit_code
        if code is None:
            return
        if self._due is None:
            self._fell(code)
        elif self._clock() >= self._due:
            self._due = None
            self.child.start()

    def _fell(self, code: int) -> None:
        program = self.child.program
        if code == EX_CONFIG:
            raise CommandError(f"the {program.name} cannot run: {self._last_words()}")
        delay = self._backoff.delay(self._clock() - self.child.started_at)
        self._due = self._clock() + delay
        # Who is killed has no last words; what stands in its log is about something else.
        reason = f": {self._last_words()}" if code > 0 else f" (log: {program.log})"
        end = f"the {program.name} ended ({ended_how(code)})"
        self._say(f"{end} and starts again in {delay:.0f} s{reason}")

    def _last_words(self) -> str:
        return f"{self.child.last_words() or 'it said nothing'} ({self.child.program.log})"


class Supervisor:
    """Children that are kept up together, and stopped together; foundations after the others."""

    def __init__(self, stop: Stop, say: Say) -> None:
        self.stop = stop
        self._say = say
        self._kept: list[Kept] = []
        self._foundations: list[Process] = []

    def add(self, child: Process, *, foundation: bool = False) -> None:
        """Starts it. A foundation is what the others need until they have stopped."""
        self._kept.append(Kept(child, self._say))
        if foundation:
            self._foundations.append(child)
        child.start()

    def keep_up_until(self, condition: Callable[[], bool]) -> bool:
        """True once `condition` holds, False if we were asked to stop before that."""
        while not self.stop.requests:
            for kept in self._kept:
                kept.look()
            if condition():
                return True
            time.sleep(TICK)  # a signal's handler runs at once; the request is seen within a tick
        return False

    def stop_all(self) -> None:
        children = [kept.child for kept in self._kept]
        self._stop_together([child for child in children if child not in self._foundations])
        self._stop_together(self._foundations)

    def _stop_together(self, children: Sequence[Process]) -> None:
        for child in children:
            child.send(signal.SIGTERM)
        begun = time.monotonic()
        for child in children:
            patience = STOP_SECONDS.get(child.program.name, STOP_SECONDS_ELSE)
            self._await_end(child, begun + patience)

    def _await_end(self, child: Process, deadline: float) -> None:
        while child.running and time.monotonic() < deadline and self.stop.requests < 2:
            time.sleep(0.05)
        if child.running:
            self._say(f"the {child.program.name} did not stop when asked, and was killed")
            child.send(signal.SIGKILL)
        while child.running:
            time.sleep(0.02)
