"""The job of an evaluation: refused, stopped, killed, repeated, and forgotten."""

import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from pipeline.backup.tar import tar_of
from pipeline.base.blobs import Blobs, evaluation_folder
from pipeline.base.errors import InvalidQuery
from pipeline.ledger import Ledger
from pipeline.lifecycle.sweep import Sweep
from pipeline.messages.evaluations import EvaluationReport, EvaluationRequest
from pipeline.operations.context import Context
from pipeline.operations.evaluate import EVALUATE, evaluations
from pipeline.retrieval.fields import Fields
from tests.evaluated import Held, collection
from tests.ledger_steps import worker
from tests.memory_ledger import memory_ledgers

JOB = "0" * 36
INDEXES = dict.fromkeys(("dx", "lesion_id", "patient_id"), "keyword")


class Killed(BaseException):
    """As far as the code can tell."""


@pytest.fixture
def ledger() -> Ledger:
    ledger = memory_ledgers().of("kindred")
    ledger.workers.beat(worker("worker", lanes=1, queue=EVALUATE.queue))
    return ledger


@pytest.fixture
def held() -> Held:
    return collection()


@pytest.fixture
def context(tmp_path: Path, ledger: Ledger, held: Held, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setattr("pipeline.operations.evaluate._TICK", 0)
    monkeypatch.setattr("pipeline.evaluation.collected.PAGE", 50)
    store: Any = held
    parts: dict[str, Any] = {name: MagicMock() for name in Context.__dataclass_fields__}
    parts |= {
        "store": store,
        "blobs": Blobs(str(tmp_path)),
        "ledger": ledger,
        "fields": Fields(store, INDEXES),
        "stopping": lambda: False,
    }
    return Context(**parts)


def start(context: Context, job: str = JOB, **wanted: Any) -> None:
    request = EvaluationRequest(
        **{"label": "dx", "group": "lesion_id", "baseline": False, **wanted}
    )
    evaluations(context).write_request(job, request)
    context.ledger.jobs.create(job, EVALUATE.name, EVALUATE.queue, "")


def work(context: Context) -> bool:
    """One worker's turn. Whether it was stopped before the end."""
    jobs = context.ledger.jobs
    while leases := jobs.dispatch():
        item = jobs.begin(leases[0], "worker")
        assert item is not None
        if not item.lease.item:
            try:
                plan = EVALUATE.job.plan(context, item)
            except InvalidQuery:
                jobs.release(item.lease)
                raise
            assert plan is not None
            jobs.planned(item.lease, plan.total, plan.shard_size)
            continue
        try:
            done = EVALUATE.job.work(context, item)
        except Killed:
            jobs.release(item.lease, crashed=True)
            raise
        if not done:
            jobs.release(item.lease)
            return True
    return False


def report(context: Context) -> EvaluationReport:
    found = evaluations(context).report(JOB)
    assert found is not None
    return found


def numbers(found: EvaluationReport) -> Any:
    return found.model_dump(exclude={"created_at", "seconds"})


def test_it_ends_with_a_report_and_totals(context: Context, held: Held) -> None:
    del held.payloads[7]["dx"]
    start(context)
    assert not work(context)

    job = context.ledger.jobs.get(JOB)
    assert (job.state, job.total) == ("succeeded", 400)
    assert job.counts == {"evaluated": 399, "left_out": 1}
    assert report(context).evaluated == 399


def after(ticks: int, then: Any) -> Any:
    """Calls `then` at this checkpoint, and passes all on."""
    seen = 0

    def checkpoint(real: Any, *given: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == ticks:
            then()
        return real(*given)

    return checkpoint


@pytest.mark.parametrize("moment", [1, 4, 12, "report"])
def test_after_a_kill_the_next_worker_comes_to_the_same_report(
    context: Context, monkeypatch: pytest.MonkeyPatch, moment: int | str
) -> None:
    def die() -> None:
        raise Killed

    start(context, "1" * 36)
    assert not work(context)
    whole = evaluations(context).report("1" * 36)
    assert whole is not None

    start(context)
    with monkeypatch.context() as patched:
        if moment == "report":
            patched.setattr(context.ledger.jobs, "finish", lambda _: die())
        else:
            real, intercept = context.ledger.jobs.checkpoint, after(int(moment), die)
            patched.setattr(
                context.ledger.jobs, "checkpoint", lambda *given: intercept(real, *given)
            )
        with pytest.raises(Killed):
            work(context)
    assert not work(context)

    assert context.ledger.jobs.get(JOB).state == "succeeded"
    assert context.ledger.jobs.get(JOB).counts == {"evaluated": 400}
    assert numbers(report(context)) == {**numbers(whole), "id": JOB}


@pytest.mark.parametrize("action", ["cancel", "pause"])
def test_it_stops_between_two_blocks(
    context: Context, monkeypatch: pytest.MonkeyPatch, action: Any
) -> None:
    start(context)
    jobs = context.ledger.jobs
    real, calls = jobs.checkpoint, [0]

    def checkpoint(*given: Any) -> bool:
        calls[0] += 1
        if calls[0] == 3:
            jobs.transition(JOB, action)
        return real(*given)

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "checkpoint", checkpoint)
        assert work(context)
    assert calls[0] == 3
    assert evaluations(context).report(JOB) is None

    jobs.transition(JOB, "retry" if action == "cancel" else "resume")
    assert not work(context)
    assert report(context).evaluated == 400


def test_a_worker_that_stops_gives_it_back(context: Context, monkeypatch: Any) -> None:
    start(context)
    object.__setattr__(context, "stopping", lambda: True)
    assert work(context)
    assert context.ledger.jobs.get(JOB).state == "running"

    object.__setattr__(context, "stopping", lambda: False)
    assert not work(context)
    assert context.ledger.jobs.get(JOB).state == "succeeded"


# --- what is refused ------------------------------------------------------------------------------


def test_a_group_must_be_said_where_images_have_lesions_or_patients(
    context: Context, held: Held
) -> None:
    start(context, group=None)
    with pytest.raises(InvalidQuery, match="as lesion_id here, or `none`"):
        work(context)
    for number, payload in enumerate(held.payloads):
        del payload["lesion_id"]
        payload["patient_id"] = f"P{number}"
    with pytest.raises(InvalidQuery, match="as patient_id here"):
        work(context)


@pytest.mark.parametrize("group", ["none", None])
def test_without_lesions_or_patients_none_need_be_said(
    context: Context, held: Held, group: str | None
) -> None:
    for payload in held.payloads:
        del payload["lesion_id"]
    start(context, group=group)
    assert not work(context)
    assert report(context).same_group is None


@pytest.mark.parametrize("label", ["lesion_id", "source", "image_id"])
def test_an_identifier_is_no_label(context: Context, label: str) -> None:
    start(context, label=label)
    with pytest.raises(InvalidQuery):
        work(context)


# --- what is kept ---------------------------------------------------------------------------------


def test_a_backup_has_reports_and_a_sweep_forgets_them_with_their_jobs(context: Context) -> None:
    start(context)
    work(context)

    with tarfile.open(fileobj=BytesIO(b"".join(tar_of(context.blobs)))) as archive:
        member = archive.extractfile(f"{evaluation_folder(JOB)}/report.json")
        assert member is not None
        assert json.load(member)["id"] == JOB

    context.ledger.jobs.tidied(JOB)
    deletions: Any = MagicMock()
    deletions.store.purge_due = False
    Sweep(context.blobs, deletions, context.ledger, forgotten=1, job_seconds=1e-9)._jobs()
    assert evaluations(context).all() == []
