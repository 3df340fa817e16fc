"""A deletion that is killed in the middle, and goes on: nothing is left that nobody would find."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import pytest

from pipeline.base.blobs import Blobs, preview_name, request_folder
from pipeline.base.errors import InvalidQuery, NotFound
from pipeline.base.identity import point_id
from pipeline.ledger import Ledger, WorkItem
from pipeline.lifecycle.deletion import Deletions
from pipeline.lifecycle.quarantine import Quarantine
from pipeline.lifecycle.receipts import DeleteRequest
from pipeline.lifecycle.tombstone_keys import tombstone_key, tombstone_keys
from pipeline.messages import Deletion
from pipeline.messages.filters import Filter
from pipeline.operations.context import Context
from pipeline.operations.delete import DELETE
from tests.ledger_steps import worker
from tests.memory_ledger import memory_ledgers

POINT, UPLOAD = point_id("A"), "uploads/J/0"
JOB = "0" * 36


class Killed(BaseException):
    """As far as the code can tell."""


class Store:
    """One image. `kill` says when the worker is to die, around the deletion from the store."""

    kill = ""

    def __init__(self) -> None:
        payload = {"image_id": "A", "source": {"blob": UPLOAD}}
        self.stored: dict[UUID, Any] = {POINT: SimpleNamespace(id=POINT, payload=payload)}

    def retrieve(self, ids: list[UUID]) -> dict[UUID, Any]:
        return {i: self.stored[i] for i in ids if i in self.stored}

    def scroll(self, limit: int, **_: object) -> tuple[list[Any], None]:
        return [*self.stored.values()], None

    def delete(self, ids: list[UUID]) -> None:
        if self.kill == "before":
            raise Killed
        for i in ids:
            self.stored.pop(i, None)
        if self.kill == "after":
            raise Killed

    def count(self) -> int:
        return len(self.stored)

    def flush(self) -> None: ...

    def purge(self, tick: object = None) -> None: ...


@pytest.fixture
def ledger() -> Ledger:
    ledger = memory_ledgers().of("kindred")
    ledger.workers.beat(worker("worker", lanes=1, queue=DELETE.queue))
    return ledger


@pytest.fixture
def context(tmp_path: Path, ledger: Ledger) -> Context:
    store, blobs = Store(), Blobs(str(tmp_path))
    played: Any = store
    fields: Any = SimpleNamespace(check_filter=lambda wanted, **_: None)
    parts: dict[str, Any] = {name: MagicMock() for name in Context.__dataclass_fields__}
    parts |= {
        "store": store,
        "blobs": blobs,
        "ledger": ledger,
        "deletions": Deletions(
            played, blobs, ledger.tombstones, fields, Quarantine(blobs, ledger.withheld)
        ),
        "stopping": lambda: False,
    }
    for name in (preview_name(POINT), UPLOAD):
        blobs.write(name, b"of a patient")
    return Context(**parts)


def start(context: Context, job: str = JOB, **wanted: Any) -> None:
    request = DeleteRequest(wanted=Deletion(**wanted), must_exist="image_ids" in wanted)
    context.deletions.receipts.write_request(job, request)
    context.ledger.jobs.create(job, DELETE.name, DELETE.queue, "")


def work(context: Context) -> None:
    """One worker's turn: whatever can be done now, until it is done or the worker dies."""
    jobs = context.ledger.jobs
    while leases := jobs.dispatch():
        item = jobs.begin(leases[0], "worker")
        assert item is not None
        try:
            _run(context, item)
        except Killed:
            jobs.release(item.lease, crashed=True)
            raise


def _run(context: Context, item: WorkItem) -> None:
    if item.lease.item:
        assert DELETE.job.work(context, item)
        return
    plan = DELETE.job.plan(context, item)
    assert plan is not None
    context.ledger.jobs.planned(item.lease, plan.total, plan.shard_size)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_a_killed_worker_had_begun_is_finished(context: Context, moment: str) -> None:
    store: Any = context.store
    start(context, image_ids=("A",))

    store.kill = moment
    with pytest.raises(Killed):
        work(context)
    store.kill = ""
    work(context)  # by the next worker

    assert context.ledger.jobs.get(JOB).state == "succeeded"
    assert context.deletions.receipts.receipt(JOB).image_ids == ("A",)
    assert not store.stored
    assert not context.blobs.exists(preview_name(POINT))
    assert not context.blobs.exists(UPLOAD)
    start(context, "1" * 36, image_ids=("A",))
    with pytest.raises(NotFound):
        work(context)


def test_a_deletion_has_no_time_limit(context: Context) -> None:
    """Its record in the ledger does not expire while it runs, however long a worker is away."""
    start(context, image_ids=("A",))
    [lease] = context.ledger.jobs.dispatch()
    context.ledger.jobs.begin(lease, "a worker that dies")
    redis = context.ledger.jobs._script.redis

    assert {redis.ttl(key) for key in redis.scan_iter("kindred:kindred:job:*")} == {-1}


def test_answers_of_searches_go_with_the_images(context: Context, ledger: Ledger) -> None:
    for request in ("answered", "running"):
        ledger.requests.create(request, "search")
        ledger.requests.claim(request, "worker")
        context.blobs.write(f"{request_folder(request)}/request.json", b"the patient's number")
        context.blobs.write(f"{request_folder(request)}/answer.json", b"of the patient")
    assert ledger.requests.succeed("answered", ledger.tombstones.epoch())
    before = ledger.tombstones.epoch()

    start(context, image_ids=("A",))
    work(context)

    assert not context.blobs.names(request_folder("answered"))
    assert not ledger.requests.succeed("running", before), "it has to be computed again"


def test_the_number_in_clear_goes_unless_a_filter_must_be_heeded(
    context: Context, ledger: Ledger, tmp_path: Path
) -> None:
    ledger.workers.beat(worker("other", lanes=1, queue="ingest"))
    ledger.jobs.create("ingest", "ingest", "ingest", "{}")
    ledger.jobs.begin(ledger.jobs.dispatch()[0], "other")
    by_filter = Filter.model_validate({"must": [{"key": "name", "match": {"value": "MARK"}}]})

    start(context, image_ids=("A",))
    work(context)
    start(context, "1" * 36, filter=by_filter)
    work(context)

    receipts = context.deletions.receipts
    assert receipts.request(JOB) is None
    assert receipts.request("1" * 36) is not None
    assert ledger.tombstones.released_deletions() == []
    ledger.jobs.transition("ingest", "cancel")
    assert set(ledger.tombstones.pending_deletions("ingest")) == {JOB, "1" * 36}


def test_each_of_several_identifiers_is_a_tombstone_key() -> None:
    keys = tombstone_keys("A", {"patient_id": ["P1", "P2"], "age": 3})
    assert keys == [
        tombstone_key("image_id", "A"),
        tombstone_key("patient_id", "P1"),
        tombstone_key("patient_id", "P2"),
    ]


def test_a_filter_that_this_version_does_not_know_deletes_nothing(context: Context) -> None:
    """Another field can be ignored; a condition that is ignored would match more."""
    receipts, store = context.deletions.receipts, context.store
    receipts.write_request(JOB, DeleteRequest(wanted=Deletion(image_ids=("A",))))
    name = f"deletions/{JOB}/request.json"
    condition = {"key": "dx", "match": {"value": "nevus"}, "newer": {"than": "us"}}

    def rewrite(**wanted: Any) -> None:
        context.blobs.write(name, json.dumps({"wanted": wanted, "newer": 1}).encode())

    rewrite(image_ids=["A"])
    assert receipts.request(JOB) == DeleteRequest(wanted=Deletion(image_ids=("A",)))
    rewrite(filter={"must": [condition]})
    context.ledger.jobs.create(JOB, DELETE.name, DELETE.queue, "")
    with pytest.raises(InvalidQuery, match="older than the api"):
        work(context)
    assert store.count() == 1


@pytest.mark.parametrize("image_ids", [("A",), ("nobody",)])
def test_a_plan_that_was_cut_off_at_its_end_is_made_again_without_the_request(
    context: Context, image_ids: tuple[str, ...]
) -> None:
    """For nothing to delete, the plan itself ends with forgetting the request."""
    request = DeleteRequest(wanted=Deletion(image_ids=image_ids))
    context.deletions.receipts.write_request(JOB, request)
    context.ledger.jobs.create(JOB, DELETE.name, DELETE.queue, "")
    [lease] = context.ledger.jobs.dispatch()
    item = context.ledger.jobs.begin(lease, "a worker that dies")
    assert item is not None
    total = len(set(image_ids) & {"A"})

    before = DELETE.job.plan(context, item)
    context.deletions.receipts.forget_request(JOB)
    again = DELETE.job.plan(context, item)

    assert before == again
    assert before is not None
    assert before.total == total
