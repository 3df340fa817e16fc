"""How a worker ends: 0 only if it was asked to, so that a supervisor else starts it again."""

import logging
import os
import signal
import threading
from typing import Any
from unittest.mock import MagicMock

import pytest
from celery import bootsteps
from celery.signals import worker_ready, worker_shutting_down

from pipeline.base.errors import BlobsUnavailable, LedgerMisconfigured, SchemaMismatch
from pipeline.base.settings import Settings
from workers import service
from workers.app import register_tasks
from workers.queue import IN_MEMORY, make_app
from workers.runtime import Runtime

# Celery warns whoever runs it as root, as containers of continuous integration do.
pytestmark = pytest.mark.filterwarnings("ignore:You're running the worker with superuser")


@pytest.fixture(autouse=True)
def as_it_was() -> Any:
    """Celery installs handlers of signals, and keeps its receivers for the whole process."""
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    ready, stopping = worker_ready.receivers, worker_shutting_down.receivers
    worker_ready.receivers, worker_shutting_down.receivers = list(ready), list(stopping)
    yield
    worker_ready.receivers, worker_shutting_down.receivers = ready, stopping
    for number, handler in handlers.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    from celery.worker import state

    state.should_stop = state.should_terminate = None


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """A worker whose model, store and ledger are played, and whose Celery is real, in memory."""
    monkeypatch.setattr(service, "load_settings", lambda: Settings(data=tmp_path))
    monkeypatch.setattr(service, "make_app", lambda _: make_app(IN_MEMORY, current=False))
    monkeypatch.setattr(service, "_background", lambda *_: ())
    monkeypatch.setattr(service.logs, "configure", lambda *_: None)
    monkeypatch.setattr(service.gc, "freeze", lambda: None)
    played = MagicMock(spec=Runtime, stopping=threading.Event())
    played.name, played.lanes = "worker", {"ingest": 1}
    monkeypatch.setattr(service, "open_runtime", lambda *_: played)
    return played


def when_it_runs(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Has Celery's consumer call `act` once it serves."""

    class Acting(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            act()

    def with_step(app: Any, runtime: Any) -> None:
        app.steps["consumer"].add(Acting)
        register_tasks(app, runtime)

    monkeypatch.setattr(service, "register_tasks", with_step)


def reason_given(caplog: pytest.LogCaptureFixture) -> str:
    [record] = [record for record in caplog.records if record.message == "worker ends"]
    return str(record.__dict__["reason"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_stop_that_was_asked_for_is_0(
    runtime: Any, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    when_it_runs(monkeypatch, lambda: os.kill(os.getpid(), number))

    assert service.main() == 0
    runtime.close.assert_called_once_with()


def test_a_worker_that_is_to_stop_says_so_at_once(
    runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its next heartbeat it would be leased work that it does not begin."""
    heartbeat = MagicMock()
    heartbeat.hasten.side_effect = lambda: said.append(runtime.stopping.is_set())
    said: list[bool] = []
    monkeypatch.setattr(service, "Repeating", lambda *_: heartbeat)
    when_it_runs(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGTERM))

    assert service.main() == 0
    assert said == [True]


def test_a_celery_that_gives_up_is_said_and_can_be_started_again(
    runtime: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def give_up() -> None:
        raise RuntimeError("the consumer cannot go on")

    when_it_runs(monkeypatch, give_up)
    with caplog.at_level(logging.CRITICAL):
        assert service.main() == 75

    assert reason_given(caplog) == "Celery's worker gave up"
    runtime.close.assert_called_once_with()
    runtime.ledger.workers.leave.assert_called_once_with("worker")


def test_whatever_ends_it_it_can_be_started_again(
    runtime: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise OSError("no more threads")

    monkeypatch.setattr(service, "serve", broken)
    with caplog.at_level(logging.CRITICAL):
        assert service.main() == 75

    assert reason_given(caplog).startswith("OSError at broken")
    runtime.close.assert_called_once_with()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LedgerMisconfigured("Redis refuses the password."), 78),
        (SchemaMismatch("A newer Kindred wrote it."), 78),
        (BlobsUnavailable("The bucket does not answer."), 75),
    ],
    ids=lambda value: getattr(value, "slug", value),
)
def test_a_start_that_fails_says_whether_another_one_helps(
    runtime: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, error: Exception, code: int
) -> None:
    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(service, "open_runtime", refuse)

    assert service.main() == code
    assert str(error) in capsys.readouterr().err
