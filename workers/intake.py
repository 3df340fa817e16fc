"""Which messages a worker takes: no searches while others can answer them and it cannot.

Searches lie on one queue for all workers. One that fails them at once is always free, so it would
take nearly all, and others would have nothing to do.
"""

from collections.abc import Callable
from typing import Any

from pipeline.base.outage import Away
from workers.runtime import Runtime


class Intake:
    """Whether the worker takes messages of `queue`. Until it has `of` a worker, it does nothing."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._worker: Any = None
        self._open = True

    def of(self, worker: Any) -> None:
        """`worker` is Celery's. Its consumer begins with all queues, also after a lost connection:
        it leaves out those that were cancelled."""
        self._worker = worker

    def set(self, *, is_open: bool) -> None:
        consumer = getattr(self._worker, "consumer", None)
        if is_open == self._open or consumer is None:
            return
        self._open = is_open
        change = consumer.add_task_queue if is_open else consumer.cancel_task_queue
        consumer.call_soon(change, self._queue)  # in its own thread: a connection has one user


class Watch:
    """Looks after the services, and tells the ledger at once when one goes or comes back."""

    def __init__(self, runtime: Runtime, intake: Intake, tell: Callable[[], None]) -> None:
        self._runtime, self._intake, self._tell = runtime, intake, tell
        self._told: dict[str, Away] = {}

    def __call__(self) -> None:
        services = self._runtime.services
        services.look()
        away = services.away
        if away.keys() != self._told.keys():
            self._tell()
        self._told = away
        unable = services.seconds() > 0
        self._intake.set(is_open=not unable or not self._runtime.others_can_answer())
