"""What a worker does with work that fails: who is blamed, and when the worker gives itself up."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest

from pipeline.ledger import Lease, Progress, Unit
from pipeline.ledger.jobs import PLAN
from pipeline.messages import DatasetSource
from workers import runtime as module
from workers.renewal import Renewals
from workers.runtime import DEATHS, REPLANS, Runtime

LEASE = Lease("job", 1, "token")


@pytest.fixture
def runtime() -> Runtime:
    """All its parts are played."""
    parts: dict[str, Any] = {name: MagicMock() for name in Runtime.__dataclass_fields__}
    parts["ledger"].jobs.dispatch.return_value = []
    parts["ledger"].jobs.begin.return_value = unit()
    parts["sources"].get.return_value.version = "of ten files"
    parts["renewals"] = Renewals()
    return Runtime(**parts)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    reasons: list[str] = []
    monkeypatch.setattr(module, "end_process", reasons.append)
    yield reasons


def unit(deaths: int = 0, lease: Lease = LEASE) -> Unit:
    source = DatasetSource(dataset="any")
    return Unit(lease, source, 0, 10, Progress(0, 0), 0, 0, deaths, "of ten files")


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


@pytest.mark.parametrize("number", [PLAN, 1])
def test_a_source_that_is_long_in_opening_stays_ours(runtime: Runtime, number: int) -> None:
    """It gives no sign of life, and once its job failed of that after four minutes."""
    played: Any = runtime
    lease = Lease("job", number, "token")
    played.ledger.jobs.begin.return_value = unit(lease=lease)
    reader = played.sources.get.return_value

    def slow(*_: object, **__: object) -> Any:
        runtime.renewals()
        return reader

    played.sources.get.side_effect = slow
    reader.__len__.return_value = 10

    runtime.work(lease)
    runtime.renewals()  # it is open now

    played.ledger.jobs.renew.assert_called_once_with(lease)


def test_a_deletion_that_takes_long_stays_ours(runtime: Runtime) -> None:
    played: Any = runtime
    played.ledger.asks.take.return_value = "delete"
    played.answers.answer.side_effect = lambda _: runtime.renewals()

    runtime.answer("ask")

    played.ledger.asks.renew.assert_called_once_with("ask", runtime.name, "delete")


def test_what_is_open_but_not_what_the_job_counted_is_opened_anew(runtime: Runtime) -> None:
    """Another job's, or one that was opened before a file was added."""
    played: Any = runtime
    right, stale = MagicMock(version="of ten files"), MagicMock(version="of nine files")
    played.sources.get.side_effect = lambda _, fresh: right if fresh else stale

    runtime.work(LEASE)

    assert played.ingest.run.call_args.args[1] is right
    played.ledger.jobs.replan.assert_not_called()


@pytest.mark.parametrize(("before", "fails"), [(1, False), (REPLANS, False), (REPLANS + 1, True)])
def test_a_source_that_has_changed_is_counted_anew_and_not_for_ever(
    runtime: Runtime, before: int, fails: bool
) -> None:
    """Else the rows behind a file that was added would be others, and some never embedded."""
    played: Any = runtime
    played.sources.get.return_value.version = "of eleven files"
    played.ledger.jobs.replan.return_value = before

    runtime.work(LEASE)

    played.ledger.jobs.replan.assert_called_once_with(LEASE)
    played.ingest.run.assert_not_called()
    assert played.ledger.jobs.fail.called is fails
