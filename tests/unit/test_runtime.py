"""What a worker does with work that fails: who is blamed, and when the worker gives itself up."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from pipeline.base.blobs import Blobs, request_folder
from pipeline.base.errors import NotFound, SourceError, StoreUnavailable
from pipeline.ledger import PLAN, Lease, Ledger, Progress
from pipeline.ledger.requests import MOST_REQUEUES, PATIENCE
from pipeline.messages import SearchQuery
from pipeline.operations.context import Context
from pipeline.operations.ingest import POISON, REPLANS, TRIES, IngestRequest
from pipeline.operations.search import SEARCH, SearchRequest
from pipeline.sources.dataset import DatasetSource
from tests.ledger_steps import worker
from tests.memory_ledger import memory_ledgers
from workers import runtime as module
from workers.app import register_tasks
from workers.background import Reconciler
from workers.queue import make_app
from workers.runtime import DEATHS, MISSED, SERVICE_DELAY, SILENCE, Runtime

REQUEST = IngestRequest(source=DatasetSource(dataset="any")).model_dump_json()
VERSION = "of ten files"
INFO = worker("worker", lanes=2, queue="ingest")


@pytest.fixture
def ledger() -> Ledger:
    ledger = memory_ledgers().of("kindred")
    ledger.workers.beat(INFO)
    ledger.jobs.create("job", "ingest", "ingest", REQUEST)
    return ledger


@pytest.fixture
def runtime(ledger: Ledger, tmp_path: Path) -> Runtime:
    """The ledger and the blobs are real; the model, the store and the source are played."""
    parts: dict[str, Any] = {name: MagicMock() for name in Context.__dataclass_fields__}
    parts |= {"ledger": ledger, "blobs": Blobs(str(tmp_path))}
    parts["encoder"].sizing.shard_size_for.return_value = 10
    parts["sources"].get.return_value = reader()
    parts["ingest"].run.side_effect = lambda item, *_: ledger.jobs.finish(item.lease) or True
    played: Any = MagicMock
    return Runtime("worker", Context(**parts), played(), played(), played())


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    reasons: list[str] = []
    monkeypatch.setattr(module, "end_process", reasons.append)
    yield reasons


def reader(version: str = VERSION) -> Any:
    return MagicMock(version=version, **{"__len__.return_value": 10})


def leased(ledger: Ledger) -> Lease:
    """The next work item of the job, for whoever begins it."""
    [lease] = ledger.jobs.dispatch()
    return lease


def planned(ledger: Ledger) -> Lease:
    """The one shard of the job."""
    plan = leased(ledger)
    ledger.jobs.begin(plan, "worker")
    ledger.jobs.planned(plan, 10, 10, VERSION)
    return leased(ledger)


def crash(ledger: Ledger, lease: Lease, times: int, in_flight: int = 0) -> Lease:
    """As after so many workers that died over it, one after the other."""
    for _ in range(times):
        ledger.jobs.begin(lease, "worker")
        if in_flight:
            ledger.jobs.checkpoint(lease, Progress(0, in_flight))
        ledger.jobs.release(lease, crashed=True)
        lease = leased(ledger)
    return lease


@pytest.mark.parametrize("healthy", [True, False])
def test_a_failure_is_its_rows_and_the_workers_only_if_the_probe_fails_too(
    runtime: Runtime, ledger: Ledger, ended: list[str], healthy: bool
) -> None:
    played: Any = runtime
    played.context.ingest.run.side_effect = ValueError("a vector holds NaN")
    played.probe.return_value = healthy

    runtime.work(planned(ledger))

    [again] = [call.args[0] for call in played.publish.call_args_list]
    item = ledger.jobs.begin(again, "other")
    assert item is not None
    assert item.deaths == 1
    assert bool(ended) is not healthy


def test_a_search_is_not_failed_by_a_worker_whose_encoder_is_broken(
    runtime: Runtime, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays the worker's until the next one takes it over."""
    monkeypatch.setattr(module, "end_process", MagicMock(side_effect=SystemExit))
    played: Any = runtime
    played.context.search.run.side_effect = FloatingPointError("a vector holds NaN")
    played.probe.return_value = False
    run_search(runtime, ledger)

    with pytest.raises(SystemExit):
        runtime.answer("request")

    assert ledger.requests.get("request").state == "running"


def test_an_answer_is_computed_again_if_images_were_deleted_meanwhile(
    runtime: Runtime, ledger: Ledger
) -> None:
    """It could hold them, and the deletion has already gone through the answers that there were."""
    played: Any = runtime
    turns = []

    def run(*_: object) -> list[tuple[()]]:
        turns.append(1)
        if len(turns) == 1:
            ledger.tombstones.advance_epoch()
        return [()]

    played.context.search.run.side_effect = run
    run_search(runtime, ledger)

    runtime.answer("request")

    assert len(turns) == 2
    assert ledger.requests.get("request").state == "succeeded"


def test_a_query_whose_message_comes_twice_runs_once(runtime: Runtime, ledger: Ledger) -> None:
    played: Any = runtime

    def run(*_: object) -> list[tuple[()]]:
        assert runtime.answer("request").state == "done"
        return [()]

    played.context.search.run.side_effect = run
    run_search(runtime, ledger)

    runtime.answer("request")

    assert played.context.search.run.call_count == 1
    assert ledger.requests.get("request").state == "succeeded"


def test_a_query_fails_when_the_store_stays_unavailable(
    runtime: Runtime, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.ledger.requests.PATIENCE", 0.0)
    played: Any = runtime
    played.context.search.run.side_effect = StoreUnavailable("Its disk is full (INTERNAL)")
    run_search(runtime, ledger)

    for _ in range(MOST_REQUEUES):
        runtime.answer("request")
        assert ledger.requests.get("request").state == "queued"
    runtime.answer("request")

    request = ledger.requests.get("request")
    assert request.error is not None
    assert (request.state, request.error.status) == ("failed", 503)
    assert request.error.title == "The vector store is unavailable"
    assert request.error.detail == "Its disk is full (INTERNAL)"


def test_a_fault_of_twenty_seconds_fails_no_query() -> None:
    assert PATIENCE > 20
    assert (MOST_REQUEUES + 1) * 2 * SERVICE_DELAY < PATIENCE, "seconds decide, not tries"


def run_search(runtime: Runtime, ledger: Ledger) -> None:
    body = SEARCH.envelope("/v1", SearchRequest(query=SearchQuery(image_id="A")))
    runtime.context.blobs.write(f"{request_folder('request')}/request.json", body)
    ledger.requests.create("request", SEARCH.name)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, "SUCCESS"),
        (StoreUnavailable("Its disk is full"), "RETRY"),
        (SourceError("There is no such folder"), "FAILURE"),
        (ValueError("Doe, Jane"), "RETRY"),
    ],
)
def test_a_task_ends_as_its_work_item_did(
    runtime: Runtime, ledger: Ledger, error: Exception | None, state: str
) -> None:
    """Flower shows that. The ledger alone sends the work again."""
    played: Any = runtime
    played.probe.return_value = True
    if error is not None:
        played.context.ingest.run.side_effect = error
    lease = planned(ledger)

    task = tasks(runtime)["kindred.ingest"].apply(args=[lease.job, lease.item, lease.token])

    assert task.state == state
    assert "Jane" not in f"{task.result!r} {task.traceback}"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, "SUCCESS"),
        (StoreUnavailable("Its disk is full"), "RETRY"),
        (NotFound("There is no image A."), "FAILURE"),
        (ValueError("Doe, Jane"), "FAILURE"),
    ],
)
def test_a_task_ends_as_its_query_did(
    runtime: Runtime, ledger: Ledger, error: Exception | None, state: str
) -> None:
    played: Any = runtime
    played.probe.return_value = True
    played.context.search.run.side_effect = [[()]] if error is None else error
    run_search(runtime, ledger)

    task = tasks(runtime)["kindred.search"].apply(args=["request"])

    assert task.state == state
    assert "Jane" not in f"{task.result!r} {task.traceback}"


def test_a_stale_message_is_a_task_that_is_done(runtime: Runtime, ledger: Ledger) -> None:
    lease = planned(ledger)
    stale = ["job", lease.item, "another token"]
    assert tasks(runtime)["kindred.ingest"].apply(args=stale).state == "SUCCESS"
    assert tasks(runtime)["kindred.search"].apply(args=["unknown"]).state == "SUCCESS"


def tasks(runtime: Runtime) -> Any:
    app = make_app("memory://", current=False)
    register_tasks(app, runtime)
    return app.tasks


def test_a_failed_job_leaves_an_error_line_with_its_reason(
    runtime: Runtime, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    played: Any = runtime
    played.context.ingest.run.side_effect = SourceError(
        "Doe-Jane.csv is no table", why="a table cannot be read"
    )

    runtime.work(planned(ledger))

    [line] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (line.getMessage(), vars(line)["job"]) == ("job failed", "job")
    assert vars(line)["reason"] == "The source cannot be read: a table cannot be read"


def test_an_item_that_no_worker_survives_fails_its_job(runtime: Runtime, ledger: Ledger) -> None:
    runtime.work(crash(ledger, planned(ledger), DEATHS))

    job = ledger.jobs.get("job")
    assert (job.state, job.error and job.error.title) == ("failed", "The source cannot be read")


def test_a_plan_that_no_worker_survives_fails_its_job(runtime: Runtime, ledger: Ledger) -> None:
    runtime.work(crash(ledger, leased(ledger), TRIES))

    job = ledger.jobs.get("job")
    assert (job.state, job.error and job.error.detail) == ("failed", POISON)


@pytest.mark.parametrize("number", [PLAN, 1])
def test_a_source_that_is_long_in_opening_stays_ours(
    runtime: Runtime, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It checkpoints nothing, and once its job failed of that after four minutes."""
    lease = leased(ledger) if number == PLAN else planned(ledger)
    renewed: list[list[Lease]] = []
    monkeypatch.setattr(Runtime, "info", INFO)
    monkeypatch.setattr(ledger.workers, "beat", lambda _, __, held: renewed.append(list(held)) or 0)
    played: Any = runtime

    def slow(*_: object, **__: object) -> Any:
        runtime.beat()
        return reader()

    played.context.sources.get.side_effect = slow
    played.context.sources.plan.side_effect = slow

    runtime.work(lease)
    runtime.beat()  # it is open now

    assert [[each.token for each in held] for held in renewed] == [[lease.token], []]


@pytest.mark.parametrize(
    ("missed", "heard", "ends"),
    [
        (MISSED - 1, -SILENCE, False),
        (MISSED, -SILENCE, True),
        (MISSED, 0, False),  # searches reach it, one after the other
    ],
)
def test_a_worker_that_no_message_reaches_ends(
    runtime: Runtime,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    ended: list[str],
    missed: int,
    heard: float,
    ends: bool,
) -> None:
    """Its connection to the broker can die in silence (celery #10502)."""
    monkeypatch.setattr(Runtime, "info", INFO)
    monkeypatch.setattr(ledger.workers, "beat", lambda *_: missed)
    runtime._heard[0] = time.monotonic() + heard - 1

    runtime.beat()

    assert bool(ended) is ends


def test_a_worker_whose_heartbeats_did_not_get_through_sends_one_before_it_takes_back_leases(
    runtime: Runtime, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(Runtime, "info", None)
    monkeypatch.setattr(type(ledger.workers), "beat", lambda *_: calls.append("beat") or 0)
    monkeypatch.setattr(type(ledger.jobs), "reclaim", lambda *_: calls.append("reclaim") or 0)
    reconcile = Reconciler(MagicMock(), runtime, pause=1)

    reconcile()
    assert calls == ["reclaim"]

    runtime._beaten[0] -= ledger.workers.alive_for
    reconcile()
    reconcile()
    assert calls == ["reclaim", "beat", "reclaim", "reclaim"]


def test_a_worker_that_fails_or_stops_is_given_no_work(runtime: Runtime) -> None:
    played: Any = runtime
    played.probe.healthy = True
    assert set(runtime.lanes) == {"ingest", "deletion"}

    played.context.encoder.configure_mock(sizing=MagicMock(lanes=2), device="cpu", dtype="float32")
    played.context.encoder.info = INFO.encoder
    assert runtime.info.lanes == {"ingest": 2, "deletion": 1}
    played.probe.healthy = False
    assert runtime.info.lanes == {}
    played.probe.healthy = True
    runtime.stopping.set()
    assert runtime.info.lanes == {}


@pytest.mark.parametrize(("before", "fails"), [(0, False), (REPLANS - 1, False), (REPLANS, True)])
def test_a_source_that_has_changed_is_counted_anew_and_not_for_ever(
    runtime: Runtime, ledger: Ledger, before: int, fails: bool
) -> None:
    """Else the rows behind a file that was added would be others, and some never embedded."""
    for _ in range(before):
        lease = planned(ledger)
        ledger.jobs.begin(lease, "worker")
        ledger.jobs.replan(lease)
    played: Any = runtime
    played.context.sources.get.return_value = reader("of eleven files")

    runtime.work(planned(ledger))

    played.context.ingest.run.assert_not_called()
    assert ledger.jobs.get("job").state == ("failed" if fails else "planning")


def test_a_search_without_its_query_is_not_found_and_no_doubt_of_the_encoder(
    runtime: Runtime, ledger: Ledger
) -> None:
    """A restored ledger names searches, and the restored blobs have none."""
    played: Any = runtime
    run_search(runtime, ledger)
    runtime.context.blobs.delete(request_folder("request"))

    runtime.answer("request")

    error = ledger.requests.get("request").error
    assert error is not None
    assert (error.status, error.type) == (404, "query-gone")
    played.probe.assert_not_called()
