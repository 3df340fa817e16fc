"""How the ledger grows: collections beside each other, queues, outcomes, and schema versions."""

import re
import time
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline.base.blobs import Blobs
from pipeline.base.errors import NotFound, SchemaMismatch
from pipeline.ledger import (
    FINAL_STATES,
    SCHEMA_VERSION,
    Claim,
    JobState,
    Ledger,
    Progress,
    RequestRecord,
    RequestState,
    WorkerInfo,
)
from pipeline.ledger.requests import MOST_REQUEUES, PATIENCE, Limits
from pipeline.ledger.schema import check_schema
from pipeline.ledger.script import source
from pipeline.lifecycle.rejections import Rejections
from pipeline.messages import Problem
from tests.encoders import ENCODER
from tests.ledger_steps import INGEST, OTHER, US, begin_all, planned, worker
from tests.system import until
from tests.unit.conftest import COLLECTION, Backend

DELETE = ("delete", "kindred.delete", "")
BROKEN = Problem(type="source-error", title="Broken", status=422, detail="It is broken.")


def test_collections_know_nothing_of_each_other(backend: Backend) -> None:
    ledgers = backend.ledgers()
    skin, lung = ledgers.of("skin"), ledgers.of("lung")
    skin.workers.beat(worker(US, lanes=2))
    skin.jobs.create("job", *INGEST)
    skin.requests.create("request", "search")
    skin.tombstones.add(["gone"], "deletion")
    assert {key.split(":")[1] for key in backend.redis.scan_iter()} == {"skin"}

    assert lung.jobs.recent() == lung.jobs.dispatch() == lung.workers.alive() == []
    assert lung.jobs.reclaim(alone=OTHER) == 0
    assert lung.tombstones.contains(["gone"]) == set()
    with pytest.raises(NotFound):
        lung.jobs.get("job")
    with pytest.raises(NotFound):
        lung.requests.get("request")


def test_collections_are_listed_once_they_are_registered(backend: Backend) -> None:
    ledgers = backend.ledgers()
    assert ledgers.names() == []

    for name in ("skin", "lung", "skin"):
        ledgers.of(name).register()

    assert ledgers.names() == ["lung", "skin"]
    assert ledgers.of("lung") is ledgers.of("lung")
    assert ledgers.of("lung").namespace == "kindred:lung"


@pytest.mark.parametrize("name", ["", "-a", "a:b", "a b", "a\n", "a*", "x" * 101, "session"])
def test_what_cannot_be_a_collection_is_not_found(backend: Backend, name: str) -> None:
    with pytest.raises(NotFound):
        backend.ledgers().of(name)


def test_a_job_keeps_what_it_was_created_with(ledger: Ledger) -> None:
    ledger.jobs.create("job", *INGEST)
    ledger.jobs.create("job", *DELETE)

    job = ledger.jobs.get("job")
    [lease] = ledger.jobs.dispatch()
    item = ledger.jobs.begin(lease, US)

    assert (job.operation, job.queue, job.request) == INGEST
    assert (lease.operation, lease.queue) == INGEST[:2]
    assert item is not None
    assert (item.operation, item.request) == (INGEST[0], INGEST[2])


def test_outcomes_are_whatever_the_operation_names(ledger: Ledger) -> None:
    planned(ledger, "job", total=4, shard_size=4)
    [item] = begin_all(ledger, US)
    ledger.jobs.checkpoint(item.lease, Progress(2, 4, {"evaluated": 1, "of no label": 1}))
    ledger.jobs.checkpoint(item.lease, Progress(3, 4, {"evaluated": 3}))
    ledger.jobs.release(item.lease)

    [again] = begin_all(ledger, US)
    assert again.progress == Progress(3, 0, {"evaluated": 3})
    ledger.jobs.checkpoint(again.lease, Progress(4, 4, {"evaluated": 4}))
    ledger.jobs.finish(again.lease)

    job = ledger.jobs.get("job")
    assert (job.state, job.done, job.counts["evaluated"]) == ("succeeded", 4, 4)
    assert job.counts["of no label"] == 0, "the second checkpoint has none"


def test_queues_have_lanes_of_their_own(ledger: Ledger) -> None:
    ledger.workers.beat(worker(US, lanes=1))
    ledger.workers.beat(worker(OTHER, lanes=2, queue=DELETE[1]))
    for number in range(3):
        ledger.jobs.create(f"ingest {number}", *INGEST)
        ledger.jobs.create(f"delete {number}", *DELETE)

    leased = [lease.queue for lease in ledger.jobs.dispatch()]

    assert sorted(leased) == [DELETE[1], DELETE[1], INGEST[1]]
    assert ledger.jobs.dispatch() == []
    ledger.workers.beat(worker(US, lanes=2))
    assert [lease.queue for lease in ledger.jobs.dispatch()] == [INGEST[1]]


def test_a_queue_that_no_live_worker_serves_waits(ledger: Ledger) -> None:
    ledger.jobs.create("job", *DELETE)
    ledger.workers.beat(worker(US, lanes=2))
    assert ledger.jobs.dispatch() == []

    ledger.workers.beat(worker(OTHER, lanes=1, queue=DELETE[1]))
    assert [lease.worker for lease in ledger.jobs.dispatch()] == [OTHER]


def test_a_quarantined_item_has_the_lanes_of_its_worker_to_itself(ledger: Ledger) -> None:
    planned(ledger, "job", total=64, shard_size=64)
    [item] = begin_all(ledger, US)
    ledger.jobs.checkpoint(item.lease, Progress(0, 8))
    ledger.jobs.reclaim(alone=OTHER)
    ledger.jobs.create("innocent", *INGEST)
    ledger.jobs.create("deletion", *DELETE)
    ledger.workers.beat(worker(US, lanes=4))
    ledger.workers.beat(worker(OTHER, lanes=4, queue=DELETE[1]))

    assert sorted(lease.job for lease in ledger.jobs.dispatch()) == ["deletion", "job"]
    ledger.jobs.create("another", *INGEST)
    ledger.jobs.create("another deletion", *DELETE)
    assert [lease.job for lease in ledger.jobs.dispatch()] == ["another deletion"]


def test_a_quarantined_item_waits_for_its_own_queue_only(ledger: Ledger) -> None:
    ledger.workers.beat(worker(US, lanes=4))
    ledger.workers.beat(worker(OTHER, lanes=4, queue=DELETE[1]))
    planned(ledger, "job", total=64, shard_size=64)
    [item] = begin_all(ledger, US)
    ledger.jobs.checkpoint(item.lease, Progress(0, 8))
    ledger.jobs.transition("job", "pause")
    ledger.jobs.release(item.lease, crashed=True)
    for job in (("innocent", *INGEST), ("deletion", *DELETE)):
        ledger.jobs.create(*job)
    innocent = next(lease for lease in ledger.jobs.dispatch() if lease.job == "innocent")
    ledger.jobs.transition("job", "resume")
    assert ledger.jobs.dispatch() == []

    ledger.jobs.finish(innocent)

    assert [lease.job for lease in ledger.jobs.dispatch()] == ["job"]


def test_the_end_of_a_job_or_request_is_told(backend: Backend, ledger: Ledger) -> None:
    told = _listen(backend)
    for job in ("finished", "failed", "cancelled"):
        planned(ledger, job, total=1, shard_size=1)
        [item] = begin_all(ledger, US)
        if job == "finished":
            ledger.jobs.checkpoint(item.lease, Progress(1, 1, {"rejected": 1}))
            ledger.jobs.finish(item.lease)
        elif job == "failed":
            ledger.jobs.fail(job, BROKEN)
            ledger.jobs.release(item.lease)
        else:
            ledger.jobs.transition(job, "cancel")
            ledger.jobs.release(item.lease)
        assert next(told) == job
    for request in ("succeeded", "refused"):
        ledger.requests.create(request, "search")
    ledger.requests.succeed("succeeded")
    ledger.requests.fail("refused", BROKEN)
    assert next(told) == "succeeded succeeded search", "with its state, and what it was"
    assert next(told) == "refused failed search"
    assert [job.state for job in ledger.jobs.recent()] == [
        "cancelled", "failed", "completed_with_rejections"
    ]  # fmt: skip


def test_a_request_is_created_only_below_the_limits(backend: Backend, ledger: Ledger) -> None:
    create = partial(ledger.requests.create, operation="search", limits=Limits("queue", 2, 1))
    assert create("one", caller="ward") is None
    assert create("two", caller="ward") == "caller"
    assert create("three", caller="lab") is None
    backend.redis.lpush("queue", "message", "message")
    assert create("four", caller="office") == "queue"
    for refused in ("two", "four"):
        with pytest.raises(NotFound):
            ledger.requests.get(refused)


def test_who_hears_that_a_request_has_succeeded_need_not_ask() -> None:
    heard = RequestRecord.told("one", "succeeded search")
    assert heard == RequestRecord("one", "search", "succeeded", None)
    assert RequestRecord.told("one", "failed search") is None, "only the ledger knows why"
    assert RequestRecord.told("one", "") is None


def test_to_fail_a_job_that_is_unknown_or_final_does_nothing(ledger: Ledger) -> None:
    ledger.jobs.fail("nowhere", BROKEN)
    with pytest.raises(NotFound):
        ledger.jobs.get("nowhere")

    ledger.jobs.create("job", *INGEST)
    ledger.jobs.transition("job", "cancel")
    ledger.jobs.fail("job", BROKEN)
    assert ledger.jobs.get("job").state == "cancelled"


def test_finished_requests_are_known_until_they_are_forgotten(ledger: Ledger) -> None:
    for request in ("open", "claimed", "answered", "failed"):
        ledger.requests.create(request, "search")
    ledger.requests.claim("claimed", US)
    ledger.requests.succeed("answered")
    ledger.requests.fail("failed", BROKEN)
    assert sorted(ledger.requests.finished()) == ["answered", "failed"]

    ledger.requests.forget("answered")

    assert ledger.requests.finished() == ["failed"]
    with pytest.raises(NotFound):
        ledger.requests.get("answered")


def test_a_requeued_request_loses_no_attempt(ledger: Ledger) -> None:
    ledger.requests.create("one", "search")
    for _ in range(5):
        assert ledger.requests.claim("one", US) == Claim("search", epoch=0)
        ledger.requests.requeue("one", 0)
        assert ledger.requests.reclaim() == [("one", "search")]

    assert ledger.requests.claim("one", US)
    assert ledger.requests.reclaim(alone=OTHER) == [("one", "search")], "its first worker died"


def test_running_jobs_are_told_of_a_deletion(ledger: Ledger) -> None:
    ledger.workers.beat(worker(US, lanes=9))
    for job in ("ended", "ended with a batch on its way", "running"):
        planned(ledger, job, total=1, shard_size=1)
        [item] = begin_all(ledger, US)
        if job != "running":
            ledger.jobs.transition(job, "cancel")
        if job == "ended":
            ledger.jobs.release(item.lease)
    ledger.jobs.create("deletion", *DELETE)

    ledger.tombstones.notify_running_jobs("deletion")

    told = {job.id: ledger.tombstones.pending_deletions(job.id) for job in ledger.jobs.recent()}
    assert told == {
        "ended": [],
        "ended with a batch on its way": ["deletion"],
        "running": ["deletion"],
        "deletion": [],
    }


def test_a_deletion_is_released_when_no_running_job_must_know_it(ledger: Ledger) -> None:
    planned(ledger, "job", total=1, shard_size=1)
    [item] = begin_all(ledger, US)
    ledger.jobs.create("deletion", *DELETE)
    ledger.tombstones.notify_running_jobs("deletion")
    assert ledger.tombstones.released_deletions() == []

    ledger.jobs.transition("deletion", "cancel")
    assert ledger.tombstones.released_deletions() == [], "a job still refers to it"
    ledger.jobs.transition("job", "cancel")
    assert ledger.tombstones.released_deletions() == [], "a batch can still be on its way"
    ledger.jobs.release(item.lease)
    assert ledger.tombstones.released_deletions() == ["deletion"]

    ledger.tombstones.forget_deletion("deletion")
    assert ledger.tombstones.released_deletions() == []
    ledger.jobs.transition("job", "retry")
    assert ledger.tombstones.pending_deletions("job") == []


def test_a_deletion_that_still_runs_is_not_released(ledger: Ledger) -> None:
    ledger.jobs.create("deletion", *DELETE)
    ledger.tombstones.notify_running_jobs("deletion")
    assert ledger.tombstones.released_deletions() == []

    ledger.jobs.transition("deletion", "cancel")
    assert ledger.tombstones.released_deletions() == ["deletion"]


def test_tombstones_are_many_and_can_be_removed(ledger: Ledger) -> None:
    keys = [str(number) for number in range(5000)]
    ledger.tombstones.add(keys, "deletion")
    ledger.tombstones.remove(keys[1:])
    assert ledger.tombstones.contains(keys) == {"0"}


def test_a_tombstone_knows_the_last_deletion_that_added_it(ledger: Ledger) -> None:
    ledger.tombstones.add(["a", "b"], "first")
    ledger.tombstones.add(["b", "c"], "second")
    ledger.tombstones.remove(["c"])

    found = ledger.tombstones.deletions_of(["d", "c", "b", "a"])

    assert found == {"a": "first", "b": "second"}
    assert ledger.tombstones.deletions_of([]) == {}


def test_an_epoch_grows(ledger: Ledger) -> None:
    assert ledger.tombstones.epoch() == 0
    assert [ledger.tombstones.advance_epoch() for _ in range(2)] == [1, 2]
    assert ledger.tombstones.epoch() == 2


def test_workers_say_how_they_are(backend: Backend, ledger: Ledger) -> None:
    ledger.workers.beat(worker(US, lanes=2), metrics="counted 1")
    ledger.workers.beat(worker(US, lanes=2))
    ledger.workers.beat(worker(OTHER, lanes=1))

    assert ledger.workers.metrics() == [(US, "counted 1")]
    assert sorted(info.name for info in ledger.workers.alive()) == [US, OTHER]

    ledger.workers.leave(US)
    assert ledger.workers.metrics() == []
    assert ledger.workers.alive() == [worker(OTHER, lanes=1)]
    assert not [key for key in backend.redis.scan_iter() if key.endswith(US)]


def test_a_worker_without_heartbeats_has_no_metrics(backend: Backend) -> None:
    hasty = backend.ledger(heartbeat=0.01)
    hasty.workers.beat(worker(US, lanes=2), metrics="counted 1")
    until(lambda: not hasty.workers.metrics(), "the end of the heartbeat")


def test_what_a_newer_kindred_adds_is_ignored(backend: Backend, ledger: Ledger) -> None:
    ledger.jobs.create("job", *INGEST)
    ledger.requests.create("one", "search")
    ledger.workers.beat(worker(US, lanes=1))
    info = WorkerInfo.model_dump(worker(US, lanes=1), mode="json")
    for key in ("job:job", "request:one"):
        backend.redis.hset(f"{ledger.namespace}:{key}", "new", "field")
    text = WorkerInfo(**info).model_dump_json().replace("{", '{"new":"field",', 1)
    backend.redis.hset(f"{ledger.namespace}:workers:info", US, text)

    assert ledger.jobs.get("job").state == "planning"
    assert ledger.requests.get("one").state == "queued"
    assert ledger.workers.alive() == [worker(US, lanes=1)]
    [lease] = ledger.jobs.dispatch()
    assert ledger.jobs.begin(lease, US) is not None


def test_only_jobs_that_have_not_ended_are_open(backend: Backend, ledger: Ledger) -> None:
    """What walks them must not grow with all that ever were."""
    planned(ledger, "job", total=1, shard_size=1)
    [item] = begin_all(ledger, US)
    still_open = f"{ledger.namespace}:jobs:open"
    assert backend.redis.smembers(still_open) == {"job"}

    ledger.jobs.fail("job", BROKEN)
    ledger.jobs.release(item.lease)
    assert backend.redis.smembers(still_open) == set()
    ledger.jobs.transition("job", "retry")
    assert backend.redis.smembers(still_open) == {"job"}


def test_what_has_ended_leaves_no_item_behind(backend: Backend, ledger: Ledger) -> None:
    planned(ledger, "job", total=2, shard_size=1)
    for number in range(2):
        [item] = begin_all(ledger, US)
        ledger.jobs.checkpoint(item.lease, Progress(number + 1, number + 1, {"embedded": 1}))
        ledger.jobs.finish(item.lease)

    assert ledger.jobs.get("job").state == "succeeded"
    assert not backend.redis.keys(f"{ledger.namespace}:item:*")
    assert not backend.redis.exists(f"{ledger.namespace}:active:{INGEST[1]}")
    assert not backend.redis.exists(f"{ledger.namespace}:leases:{INGEST[1]}")


def test_a_job_that_is_stopped_for_good_leaves_no_item_behind(
    backend: Backend, ledger: Ledger
) -> None:
    planned(ledger, "job", total=1, shard_size=1)
    [item] = begin_all(ledger, US)
    ledger.jobs.checkpoint(item.lease, Progress(0, 1, {"embedded": 0}))
    ledger.jobs.release(item.lease)

    ledger.jobs.transition("job", "cancel")

    assert not backend.redis.keys(f"{ledger.namespace}:item:*")


def test_an_id_with_a_colon_is_unknown(ledger: Ledger, tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    planned(ledger, "job", total=1, shard_size=1)
    [item] = begin_all(ledger, US)
    ledger.jobs.checkpoint(item.lease, Progress(1, 1, {"state": 1}))
    for read in (
        lambda: ledger.jobs.get("job:counts"),
        lambda: Rejections(blobs, ledger.jobs).page("job:counts", 0, 1),
        lambda: ledger.jobs.transition("job:counts", "cancel"),
    ):
        with pytest.raises(NotFound):
            read()


def test_an_empty_redis_gets_our_schema(backend: Backend) -> None:
    ledgers = backend.ledgers()
    ledgers.check_schema()
    ledgers.check_schema()
    assert backend.redis.get("kindred:schema") == str(SCHEMA_VERSION)


@pytest.mark.parametrize("key", ["kindred:jobs", "kindred:tombstones"])
def test_the_schema_before_is_refused_with_what_to_do(backend: Backend, key: str) -> None:
    backend.redis.sadd(key, "any")
    with pytest.raises(
        SchemaMismatch, match=r"older Kindred \(schema 1; this one needs 2\).*Empty"
    ):
        backend.ledgers().check_schema()
    assert not backend.redis.exists("kindred:schema")


def test_a_newer_schema_is_refused_with_what_to_do(backend: Backend) -> None:
    backend.redis.set("kindred:schema", 7)
    with pytest.raises(
        SchemaMismatch, match=r"newer Kindred \(schema 7\); this one knows 2: upgrade"
    ):
        backend.ledgers().check_schema()
    assert backend.redis.get("kindred:schema") == "7"


def test_an_older_schema_is_migrated_where_that_is_known(backend: Backend) -> None:
    backend.redis.set("kindred:schema", 0)
    steps = {0: lambda redis: redis.set("a", 1), 1: lambda redis: redis.rename("a", "b")}
    check_schema(backend.redis, steps)
    assert backend.redis.get("b") == "1"
    assert backend.redis.get("kindred:schema") == str(SCHEMA_VERSION)


def test_final_states_stand_in_one_place() -> None:
    assert set(get_args(JobState)) >= FINAL_STATES
    assert set(get_args(RequestState)) & FINAL_STATES == {"succeeded", "failed"}
    header = source().partition("}")[0]
    assert set(re.findall(r"(\w+) = true", header)) == FINAL_STATES


def test_lua_names_no_key_but_by_its_namespace() -> None:
    lua = files("pipeline.ledger").joinpath("lua")
    for file in lua.iterdir():
        assert "kindred:" not in file.read_text("utf-8"), file.name
        assert file.read_text("utf-8").strip() in source(), f"{file.name} is not joined"


def _listen(backend: Backend) -> Iterator[str]:
    """The ids that are told from now on."""
    channel: Any = backend.redis.pubsub()
    channel.subscribe(f"kindred:{COLLECTION}:finished")
    until(lambda: channel.get_message(timeout=0.1), "the subscription")

    def told() -> Iterator[str]:
        while True:
            yield until(lambda: channel.get_message(timeout=0.1), "an end")["data"]

    return told()


# --- which encoder has a collection ------------------------------------------------------------

TWO = ENCODER.model_copy(update={"model": "acme/two", "weights_sha256": "cd" * 32})
MOVED = ENCODER.model_copy(update={"model": "/models/moved"})


def test_the_first_encoder_has_the_collection(ledger: Ledger) -> None:
    assert ledger.claim_encoder(US, ENCODER) is None
    assert ledger.claim_encoder(OTHER, TWO) == ENCODER
    assert ledger.claim_encoder(OTHER, MOVED) is None, "the same encoder, from elsewhere"


def test_an_encoder_has_its_collection_while_a_worker_with_it_opens_or_lives(
    ledger: Ledger,
) -> None:
    ledger.claim_encoder(US, ENCODER)
    ledger.claim_encoder(OTHER, ENCODER)
    ledger.workers.leave(US)
    assert ledger.claim_encoder("third", TWO) == ENCODER, "another one is opening"
    ledger.workers.beat(worker(OTHER, lanes=1))
    assert ledger.claim_encoder("third", TWO) == ENCODER, "another one lives"
    ledger.workers.leave(OTHER)
    assert ledger.claim_encoder("third", TWO) is None
    assert ledger.claim_encoder(US, ENCODER) == TWO


def test_a_killed_worker_loses_its_claim(backend: Backend) -> None:
    ledger = backend.ledger(heartbeat=0.002)
    ledger.claim_encoder(US, ENCODER)
    ledger.workers.beat(worker(US, lanes=1))
    until(lambda: not ledger.workers.alive(), "its heartbeat to be gone")
    assert ledger.claim_encoder(OTHER, TWO) is None


def test_a_worker_that_is_killed_before_its_first_heartbeat_loses_its_claim(
    backend: Backend,
) -> None:
    ledger = backend.ledger()
    ledger.claim_encoder(US, ENCODER)
    long_ago = time.time() - 61
    backend.redis.zadd(f"{ledger.namespace}:workers:opening", {US: long_ago})
    assert ledger.claim_encoder(OTHER, TWO) is None


def test_collections_have_their_own_encoders(backend: Backend) -> None:
    ledgers = backend.ledgers()
    assert ledgers.of("skin").claim_encoder(US, ENCODER) is None
    assert ledgers.of("lung").claim_encoder(OTHER, TWO) is None


# --- requests that a service keeps waiting -----------------------------------------------------


def test_a_request_is_given_up_after_a_few_tries_and_some_time(
    backend: Backend, ledger: Ledger
) -> None:
    """Not after as many tries in a moment, nor after the same time and one try."""
    ledger.requests.create("one", "search")
    for tries in range(1, 3 * MOST_REQUEUES):
        ledger.requests.claim("one", US)
        assert ledger.requests.requeue("one", 0)
        assert ledger.requests.reclaim() == [("one", "search")]
        if tries == 1:
            long_ago = time.time() - PATIENCE + 5
            backend.redis.hset(f"{ledger.namespace}:request:one", "requeued_at", long_ago)
    backend.redis.hset(f"{ledger.namespace}:request:one", "requeued_at", time.time() - PATIENCE)
    ledger.requests.claim("one", US)
    assert not ledger.requests.requeue("one", 0)
    assert ledger.requests.get("one").state == "running", "its worker fails it"


def test_a_request_is_not_given_up_after_one_long_try(backend: Backend, ledger: Ledger) -> None:
    ledger.requests.create("one", "search")
    key = f"{ledger.namespace}:request:one"
    backend.redis.hset(key, "requeued_at", time.time() - 10 * PATIENCE)
    for _ in range(MOST_REQUEUES):
        ledger.requests.claim("one", US)
        assert ledger.requests.requeue("one", 0)
        assert ledger.requests.reclaim() == [("one", "search")]
    ledger.requests.claim("one", US)
    assert not ledger.requests.requeue("one", 0)
