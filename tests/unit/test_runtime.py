"""What a worker does with work that fails: who is blamed, and when the worker gives itself up."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest

from pipeline.ledger import Lease, Progress, Unit
from pipeline.messages import DatasetSource
from workers import runtime as module
from workers.runtime import DEATHS, Runtime

LEASE = Lease("job", 1, "token")


@pytest.fixture
def runtime() -> Runtime:
    """All its parts are played."""
    parts: dict[str, Any] = {name: MagicMock() for name in Runtime.__dataclass_fields__}
    parts["ledger"].jobs.dispatch.return_value = []
    parts["ledger"].jobs.begin.return_value = unit(deaths=0)
    return Runtime(**parts)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    reasons: list[str] = []
    monkeypatch.setattr(module, "end_process", reasons.append)
    yield reasons


def unit(deaths: int) -> Unit:
    return Unit(LEASE, DatasetSource(dataset="any"), 0, 10, Progress(0, 0), 0, 0, deaths)


@pytest.mark.parametrize("healthy", [True, False])
def test_a_failure_is_its_rows_and_the_workers_only_if_the_probe_fails_too(
    runtime: Runtime, ended: list[str], healthy: bool
) -> None:
    jobs: Any = runtime.ledger.jobs
    played: Any = runtime
    played.ingest.run.side_effect = ValueError("a vector holds NaN")
    played.probe.return_value = healthy

    runtime.work(LEASE)

    jobs.release.assert_called_once_with(LEASE, crashed=True)
    assert bool(ended) is not healthy


def test_a_search_is_not_failed_by_a_worker_whose_encoder_is_broken(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays the worker's until the next one takes it over."""
    monkeypatch.setattr(module, "end_process", MagicMock(side_effect=SystemExit))
    played: Any = runtime
    played.answers.answer.side_effect = FloatingPointError("a vector holds NaN")
    played.probe.return_value = False

    with pytest.raises(SystemExit):
        runtime.answer("ask")

    played.ledger.asks.fail.assert_not_called()


def test_a_unit_that_no_worker_survives_fails_its_job(runtime: Runtime) -> None:
    jobs: Any = runtime.ledger.jobs
    jobs.begin.return_value = unit(deaths=DEATHS)

    runtime.work(LEASE)

    [(job, problem)] = [call.args for call in jobs.fail.call_args_list]
    assert (job, problem.title) == ("job", "The source cannot be read")
    jobs.release.assert_called_once_with(LEASE)
