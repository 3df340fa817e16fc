"""A collection's ledger as lines, and back into an empty Redis."""

import base64
import json
from typing import Any

import pytest
import redis

from pipeline.backup.snapshot import Snapshots
from pipeline.base.errors import Conflict, SchemaMismatch
from pipeline.ledger import Ledger, Progress
from tests.ledger_steps import INGEST, OTHER, US, begin_all, planned, work, worker
from tests.unit.conftest import Backend

pytestmark = [
    pytest.mark.story,
    pytest.mark.parametrize("_backend", ["redis"], indirect=True),
]


@pytest.fixture
def lines(backend: Backend) -> list[str]:
    """Of the collection `skin`, which has a neighbour; Redis is empty again."""
    ledgers = backend.ledgers()
    ledgers.check_schema()
    for name in ("skin", "skin-2"):
        ledger = ledgers.of(name)
        ledger.register()
        ledger.workers.beat(worker(US, lanes=1), metrics="counted 1")
        ledger.jobs.create(f"job of {name}", *INGEST)
        ledger.requests.create("one", "search")
        ledger.requests.claim("one", US)
        ledger.requests.succeed("one")
        ledger.tombstones.add(["gone"], "deletion")
        ledger.pseudonyms.get()
        ledger.pseudonyms.rotate()
    ledgers.sessions.open("key")
    snapshots = Snapshots(backend.url, "kindred:skin")
    found = [*snapshots.lines()]
    snapshots.close()
    backend.redis.flushall()
    return found


def test_a_snapshot_holds_one_collection_and_no_worker(lines: list[str]) -> None:
    entries = [json.loads(line) for line in lines]
    keys = {entry["key"] for entry in entries[1:]}

    assert entries[0] == {"schema": 2}
    assert all(key.startswith("kindred:skin:") for key in keys)
    assert not any("workers" in key for key in keys)
    assert {"kindred:skin:tombstones", "kindred:skin:job:job of skin"} <= keys


def test_a_restored_redis_has_schema_collection_and_jobs(
    backend: Backend, lines: list[str]
) -> None:
    snapshots = Snapshots(backend.url, "kindred:skin")
    assert snapshots.restore(lines) == len(lines)

    ledgers = backend.ledgers()
    ledgers.check_schema()
    assert ledgers.names() == ["skin"]
    ledger = ledgers.of("skin")
    assert [job.id for job in ledger.jobs.recent()] == ["job of skin"]
    assert ledger.tombstones.contains(["gone"]) == {"gone"}
    assert 0 < backend.redis.ttl("kindred:skin:request:one") <= 600 + 3600
    assert backend.redis.get("kindred:schema") == "2"
    with pytest.raises(Conflict):
        snapshots.restore(lines)
    snapshots.close()


def test_a_backup_carries_the_keys_of_pseudonyms(backend: Backend, lines: list[str]) -> None:
    """Else a patient's new images would not belong to the old ones, and could not be deleted."""
    ledger = backend.ledgers().of("skin")
    drawn = ledger.pseudonyms.get()  # by a worker that has started too soon
    snapshots = Snapshots(backend.url, "kindred:skin")
    snapshots.restore(lines)
    snapshots.close()

    restored = ledger.pseudonyms.get()

    assert len(restored.keys) == 2
    assert not set(restored.keys) & set(drawn.keys)
    held = next(json.loads(line) for line in lines if "kindred:skin:pseudonyms" in line)
    assert base64.b64decode(held["value"]).find(restored.keys[0][:20]) > 0


def test_a_collection_is_restored_beside_another(backend: Backend, lines: list[str]) -> None:
    ledgers = backend.ledgers()
    ledgers.check_schema()
    ledgers.of("lung").jobs.create("job", *INGEST)
    ledgers.of("lung").register()

    snapshots = Snapshots(backend.url, "kindred:skin")
    snapshots.restore(lines)
    snapshots.close()

    assert ledgers.names() == ["lung", "skin"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ({"schema": 1}, SchemaMismatch),
        ({"schema": 3}, SchemaMismatch),
        ({"key": "kindred:jobs", "ttl": 0, "value": ""}, Conflict),
        ({"key": "kindred:skin-2:jobs", "ttl": 0, "value": ""}, Conflict),
    ],
)
def test_a_foreign_backup_is_refused(
    backend: Backend, line: dict[str, object], error: type[Exception]
) -> None:
    snapshots = Snapshots(backend.url, "kindred:skin")
    with pytest.raises(error):
        snapshots.restore([json.dumps(line)])
    snapshots.close()
    assert backend.redis.dbsize() == 0


def test_nothing_is_restored_into_a_redis_of_another_schema(
    backend: Backend, lines: list[str]
) -> None:
    backend.redis.zadd("kindred:jobs", {"job": 1})
    snapshots = Snapshots(backend.url, "kindred:skin")
    with pytest.raises(SchemaMismatch):
        snapshots.restore(lines)
    snapshots.close()
    assert backend.redis.keys() == ["kindred:jobs"]


def finish(ledger: Ledger, job: str, rejected: int = 0) -> None:
    """Whatever is out is done, until this job has ended."""
    ledger.workers.beat(worker(US, lanes=1))
    for _ in range(10):
        for item in work(ledger):
            if item.lease.item == 0:
                ledger.jobs.planned(item.lease, total=8, shard_size=4)
                continue
            rows = item.stop - item.start
            counts = {"embedded": rows - rejected, "rejected": rejected}
            ledger.jobs.checkpoint(item.lease, Progress(item.stop, item.stop, counts))
            ledger.jobs.finish(item.lease)
    assert ledger.jobs.get(job).final


def ended(ledger: Ledger, job: str) -> None:
    ledger.jobs.create(job, *INGEST)
    finish(ledger, job, rejected=1)
    ledger.jobs.tidied(job)


def test_jobs_that_end_or_begin_anew_while_a_snapshot_is_read_are_in_it_once_and_whole(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As each page is read, what is done to the jobs is the worst for what was read before."""
    ledgers = backend.ledgers()
    ledgers.check_schema()
    ledger = ledgers.of("skin")
    ledger.workers.beat(worker(US, lanes=1))
    for job in ("retried", "ended again", "forgotten", "steady"):
        ended(ledger, job)
    planned(ledger, "half", total=8, shard_size=4)
    [item] = begin_all(ledger, US)
    ledger.jobs.checkpoint(item.lease, Progress(2, 4, {"embedded": 2}))

    def meanwhile() -> None:
        for job in ("retried", "ended again"):
            ledger.jobs.transition(job, "retry")
        ledger.jobs.transition("retried", "pause")
        ledger.jobs.checkpoint(item.lease, Progress(3, 4, {"embedded": 2, "rejected": 1}))
        ledger.jobs.release(item.lease)
        ledger.jobs.transition("half", "pause")
        finish(ledger, "ended again", rejected=0)
        ended(ledger, "new and ended")
        ledger.retention.forget_jobs(0, 1)  # the one that ended first
        ledger.jobs.create("new", *INGEST)
        ledger.jobs.transition("half", "resume")
        begin_all(ledger, US)

    pages: list[str] = []
    read = Snapshots._page

    def interrupted(self: Snapshots, command: str, *args: Any) -> Any:
        if command == "dump_open":
            meanwhile()
        pages.append(command)
        return read(self, command, *args)

    monkeypatch.setattr("pipeline.backup.snapshot.PAGE", 1)
    monkeypatch.setattr(Snapshots, "_page", interrupted)
    snapshots = Snapshots(backend.url, "kindred:skin")
    lines = [*snapshots.lines()]
    assert pages == ["dump_ended"] * 5 + ["dump_open"]
    now = {job.id: (job.state, job.counts) for job in ledger.jobs.recent()}
    assert now["half"] == ("running", {"embedded": 2, "rejected": 1})
    backend.redis.flushall()
    assert snapshots.restore(lines) == len(lines)
    snapshots.close()

    found = {job.id: (job.state, job.counts) for job in ledger.jobs.recent()}
    was_forgotten = found.keys() - now.keys()
    assert {job: found[job] for job in now} == now
    assert len(was_forgotten) <= 1, "it will be forgotten again"
    assert ledger.retention.forget_jobs(-1, 100) >= 2, "those that ended are known as such"
    ledger.jobs.transition("retried", "resume")
    for job in ("half", "retried", "new"):
        ledger.jobs.reclaim(alone=OTHER)
        finish(ledger, job)
        done = ledger.jobs.get(job)
        assert done.total == done.done == 8, job
    assert not backend.redis.keys("kindred:skin:item:*")


def test_large_keys_are_in_pages_and_whole_again(backend: Backend) -> None:
    ledgers = backend.ledgers()
    ledgers.check_schema()
    ledger = ledgers.of("skin")
    keys = [f"{number:032x}" for number in range(3500)]
    ledger.tombstones.add(keys, "deletion")
    ledger.jobs.create("job", *INGEST)
    claims = {f"{number:032x}": f"- {number} a b" for number in range(3500)}
    ledger.jobs.claim_ids("job", claims)
    backend.redis.hset("kindred:skin:job:job:rejections", mapping=dict.fromkeys(range(3500), "{}"))

    snapshots = Snapshots(backend.url, "kindred:skin")
    lines = [*snapshots.lines()]
    backend.redis.flushall()
    snapshots.restore(lines)
    snapshots.close()

    assert max(map(len, lines)) < 200_000
    assert ledger.tombstones.contains(keys) == set(keys)
    assert set(ledger.tombstones.deletions_of(keys).values()) == {"deletion"}
    assert ledger.jobs.claim_ids("job", dict.fromkeys(claims, "other")) == [*claims.values()]
    assert backend.redis.ttl("kindred:skin:claims:job") > 0
    assert backend.redis.hlen("kindred:skin:job:job:rejections") == 3500


def test_the_lines_of_an_older_backup_are_restored(backend: Backend) -> None:
    """It has one line for each key, whatever its size, and no index."""
    ledgers = backend.ledgers()
    ledgers.check_schema()
    ledger = ledgers.of("skin")
    ledger.jobs.create("job", *INGEST)
    ledger.jobs.transition("job", "cancel")
    lines = [json.dumps({"schema": 2})]
    with redis.Redis.from_url(backend.url) as client:
        for key in client.keys("kindred:skin:*"):
            if b"finished" not in key and b"cancelled" not in key:
                value = base64.b64encode(client.dump(key)).decode()
                lines.append(json.dumps({"key": key.decode(), "ttl": 0, "value": value}))
    backend.redis.flushall()

    snapshots = Snapshots(backend.url, "kindred:skin")
    snapshots.restore(lines)
    snapshots.close()

    assert [job.id for job in ledger.jobs.page(10, None, ["cancelled"])[0]] == ["job"]
    assert ledger.jobs.ended() == ["job"]
