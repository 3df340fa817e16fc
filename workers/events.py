"""The events of tasks, which Flower shows: sent a few times a second instead of one by one."""

from typing import Any

from celery import bootsteps
from celery.worker import consumer
from celery.worker.consumer.events import Events

# Seconds between two messages with all events since the one before. Celery's own loop sends each
# as it comes: three messages a search, for a third of what a search costs its worker, and the
# first of them before the search begins.
EVERY = 0.25


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Celery's, with the step that sends events."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]
        default_steps = (*consumer.Consumer.Blueprint.default_steps, "workers.events:SendEvents")

    def on_send_event_buffered(self) -> None:
        """The event waits for its turn."""


class SendEvents(bootsteps.StartStopStep):  # type: ignore[misc]
    """Sends what has come together; at the end of the worker the last of it."""

    requires = (Events,)
    _timer: Any = None

    def start(self, c: Any) -> None:
        self._timer = c.timer.call_repeatedly(EVERY, c._flush_events)

    def stop(self, c: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def shutdown(self, c: Any) -> None:
        self.stop(c)
        c._flush_events()
