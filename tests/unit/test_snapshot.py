"""A collection's ledger as lines, and back into an empty Redis."""

import json

import pytest

from pipeline.backup.snapshot import Snapshots
from pipeline.base.errors import Conflict, SchemaMismatch
from tests.ledger_steps import INGEST, US, worker
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
        ledger.tombstones.add(["gone"], "deletion")
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
