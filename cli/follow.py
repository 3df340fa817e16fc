"""Following jobs to their end: by polling, since that outlives a restart of the api."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from cli.documents import Work, is_final
from cli.failure import Unreachable, printable
from cli.render import duration
from cli.totals import Totals, totals_of

POLL_SECONDS = 0.5
POLLED_AT_ONCE = 8  # jobs; a large upload is hundreds of them
PATIENCE_SECONDS = 60  # with an api that is unavailable: `kindred up` restarts one that crashed
LINE_SECONDS = 5  # between two lines, where stdout is no terminal


@dataclass(frozen=True)
class Step:
    """What a progress display shows. `total` is None while it is unknown."""

    label: str
    done: int
    total: int | None
    images_per_second: float | None = None
    eta_seconds: float | None = None


Show = Callable[[Step], None]
Followed = TypeVar("Followed", bound=Work)
Fetch = Callable[[str], Followed]  # by id: `Client.job` or `Client.deletion`


def follow(fetch: Fetch[Followed], jobs: Sequence[Followed], show: Show) -> list[Followed]:
    """The jobs as they ended, in the order given."""
    latest = {job["id"]: job for job in jobs}
    pending = deque(job["id"] for job in jobs if not is_final(job))
    while pending:
        for _ in range(min(len(pending), POLLED_AT_ONCE)):
            job = _patiently(fetch, pending.popleft())
            latest[job["id"]] = job
            if not is_final(job):
                pending.append(job["id"])
        if pending:
            show(_step(totals_of(list(latest.values()))))
            time.sleep(POLL_SECONDS)
    return list(latest.values())


def _patiently(fetch: Fetch[Followed], job_id: str) -> Followed:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return fetch(job_id)
        except Unreachable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(POLL_SECONDS)


# What running is called in an operation, where there is a better word.
_RUNNING = {
    "ingest": "embedding",
    "delete": "deleting",
    "evaluate": "evaluating",
    "compare": "comparing",
    "label_audit": "auditing",
}


def _step(totals: Totals) -> Step:
    running = _RUNNING.get(totals.operation, "running")
    stage = {"running": running, "planning": "counting"}.get(totals.state, totals.state)
    return Step(
        label=printable(f"{stage} ({totals.notice})") if totals.notice else stage,
        done=totals.done,
        total=totals.total,
        images_per_second=totals.images_per_second,
        eta_seconds=totals.eta_seconds,
    )


# --- displays ------------------------------------------------------------------------------------


@contextmanager
def display(console: Console, *, quiet: bool) -> Iterator[Show]:
    """A bar in a terminal, a line now and then in a pipe, nothing beside `--json`."""
    if quiet:
        yield lambda step: None
    elif console.is_terminal:
        with _bar(console) as progress:
            task = progress.add_task("", total=None, speed="", left="")
            yield lambda step: _advance(progress, task, step)
    else:
        yield Lines(console)


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[left]}"),
    )
    return Progress(*columns, console=console, transient=True)


def _advance(progress: Progress, task: TaskID, step: Step) -> None:
    progress.update(
        task,
        description=step.label,
        completed=step.done,
        total=step.total,
        speed=_speed(step),
        left=_left(step),
    )


def _speed(step: Step) -> str:
    return f"{step.images_per_second:.1f} images/s" if step.images_per_second else ""


def _left(step: Step) -> str:
    return f"{duration(step.eta_seconds)} left" if step.eta_seconds else ""


class Lines:
    """At most one line every few seconds, and none that says what the last one said."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._due = clock() + LINE_SECONDS
        self._last: Step | None = None

    def __call__(self, step: Step) -> None:
        if self._clock() < self._due or step == self._last:
            return
        self._due = self._clock() + LINE_SECONDS
        self._last = step
        total = "?" if step.total is None else f"{step.total:,}"
        parts = (f"{step.label} {step.done:,} of {total}", _speed(step), _left(step))
        self._console.print(", ".join(part for part in parts if part), soft_wrap=True)
