"""The threads of a worker: one that becomes free takes the next message at once."""

from typing import Any

from celery.concurrency.thread import TaskPool
from kombu.asynchronous import get_event_loop


class ThreadPool(TaskPool):  # type: ignore[misc]
    """Celery's threads, which also tell its event loop when one of them is free.

    With `worker_disable_prefetch` the loop asks for messages only while threads are free. It looks
    at that when something wakes it, or after a second.
    """

    def on_apply(self, *arguments: Any, **named: Any) -> Any:
        applied = super().on_apply(*arguments, **named)
        applied.f.add_done_callback(_wake)
        return applied


def _wake(_: object) -> None:
    loop: Any = get_event_loop()
    if loop is not None:
        loop.call_soon(lambda: None)
