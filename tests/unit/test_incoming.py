"""What is received one by one is in a batch or in a job, whoever dies in between."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from api import incoming as module
from api.incoming import PATIENCE, Batcher, Incoming, adopt, make_job
from api.services import Collection
from pipeline.base.blobs import incoming_folder, manifest_of, upload_folder
from pipeline.base.errors import BlobsUnavailable
from pipeline.messages import UploadManifest
from tests.memory_api import MemoryApi


def file_of(name: str) -> bytes:
    return Path(str(get_testdata_file(name, download=False))).read_bytes()


CT, FRAMES = file_of("CT_small.dcm"), file_of("emri_small.dcm")


@pytest.fixture
def api(tmp_path: Path) -> MemoryApi:
    return MemoryApi(tmp_path, incoming_free_mb=0)


@pytest.fixture
def collection(api: MemoryApi) -> Collection:
    return api.services.collection()


@pytest.fixture
def incoming(collection: Collection) -> Incoming:
    return Incoming(collection, "test")


@pytest.fixture
def look(collection: Collection) -> Callable[[], None]:
    return Batcher(lambda: [collection], "test").look


def manifest(collection: Collection, job: str) -> UploadManifest:
    return UploadManifest.model_validate_json(
        collection.blobs.read(manifest_of(upload_folder(job)))
    )


def batch_of(name: str) -> str:
    return name.split("/")[1]


def lapse(collection: Collection) -> None:
    """As if nobody had said anything of any batch for long."""
    redis = collection.ledger.incoming._script.redis
    key = collection.ledger.incoming._script.key("incoming")
    for batch in redis.zrange(key, 0, -1):
        redis.zadd(key, {batch: 0})


def test_objects_become_one_job_of_their_frames(
    collection: Collection, incoming: Incoming, look: Callable[[], None]
) -> None:
    names = [incoming.put(CT), incoming.put(FRAMES)]
    [batch] = {batch_of(name) for name in names}
    assert collection.ledger.incoming.count() == 2
    look()
    assert collection.ledger.jobs.unknown([batch]), "a batch that is being filled is no job yet"
    incoming.flush()
    look()
    files = manifest(collection, batch).files
    assert sorted(file.frame or 0 for file in files) == [0, *range(10)]
    assert {file.blob for file in files} == set(names)
    assert not any(file.name for file in files)
    assert collection.ledger.incoming.count() == 2  # until the job has ended
    collection.ledger.jobs.transition(batch, "cancel")
    assert collection.ledger.incoming.count() == 0
    collection.blobs.delete(incoming_folder(batch))  # as when its job is put away
    adopt(collection)
    assert not collection.blobs.names(incoming_folder())


def test_a_dead_receivers_objects_become_a_job(
    collection: Collection, incoming: Incoming, look: Callable[[], None]
) -> None:
    batch = batch_of(incoming.put(CT))
    lapse(collection)
    look()
    assert not collection.ledger.jobs.unknown([batch])
    # If it only slept, what it receives next goes elsewhere, and is not lost with that job.
    other = batch_of(incoming.put(CT))
    assert other != batch
    incoming.flush()
    look()
    assert not collection.ledger.jobs.unknown([other])
    assert len(manifest(collection, batch).files) == 1


@pytest.mark.parametrize("step", ["names", "write", "start_job", "delete", "forget"])
def test_a_kill_at_any_step_makes_one_job(
    step: str, collection: Collection, incoming: Incoming, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(incoming.put(CT))
    incoming.put(b"no DICOM at all")
    incoming.flush()
    ledger = collection.ledger.incoming
    owner = collection.blobs if step in ("names", "write", "delete") else ledger
    owner = type(collection) if step == "start_job" else owner
    token = ledger.claim("killed", PATIENCE) and "killed"
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, _killed)
        with pytest.raises(SystemExit):
            make_job(collection, batch, token or "")
    assert ledger.claim("next", PATIENCE) is None
    lapse(collection)
    assert ledger.claim("next", PATIENCE) == batch
    make_job(collection, batch, "next")
    listed = manifest(collection, batch).files
    assert [file.frame for file in listed if file.fault is None] == [0]
    assert len(listed) == 2
    assert len(collection.blobs.names(incoming_folder(batch))) == 1
    assert [job.id for job in collection.ledger.jobs.recent()] == [batch]
    assert ledger.unknown([batch]) == [batch]


def _killed(*_: object, **__: object) -> None:
    raise SystemExit


def test_whoever_lost_its_claim_makes_no_job(collection: Collection, incoming: Incoming) -> None:
    batch = batch_of(incoming.put(CT))
    incoming.flush()
    ledger = collection.ledger.incoming
    assert ledger.claim("slow", PATIENCE) == batch
    lapse(collection)
    assert ledger.claim("quick", PATIENCE) == batch
    make_job(collection, batch, "slow")
    assert collection.ledger.jobs.unknown([batch])
    make_job(collection, batch, "quick")
    assert not collection.ledger.jobs.unknown([batch])


def test_batches_that_redis_has_lost_are_adopted(
    collection: Collection, incoming: Incoming, look: Callable[[], None]
) -> None:
    batch = batch_of(incoming.put(CT))
    collection.ledger.incoming._script.redis.flushall()
    look()
    assert not collection.ledger.jobs.unknown([batch])


def test_an_object_that_came_too_late_is_deleted(
    collection: Collection, incoming: Incoming, look: Callable[[], None]
) -> None:
    batch = batch_of(incoming.put(CT))
    incoming.flush()
    look()
    late = f"{incoming_folder(batch)}/late"
    collection.blobs.write(late, CT)  # and the receiver was killed before it counted it
    adopt(collection)
    assert not collection.blobs.exists(late)
    assert len(collection.blobs.names(incoming_folder(batch))) == 1


def test_jobs_of_long_ago_are_not_made_again(
    collection: Collection, incoming: Incoming, look: Callable[[], None]
) -> None:
    batch = batch_of(incoming.put(CT))
    incoming.flush()
    look()
    collection.ledger.incoming._script.redis.flushall()
    collection.blobs.write(manifest_of(upload_folder(batch)), b'{"files": []}')  # `Uploads.forget`
    adopt(collection)
    look()
    assert collection.ledger.jobs.unknown([batch])
    assert not collection.blobs.names(incoming_folder())


def test_a_full_batch_is_followed_by_another(
    incoming: Incoming, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    batches = [batch_of(incoming.put(CT)) for _ in range(5)]
    assert [batches.count(batch) for batch in dict.fromkeys(batches)] == [2, 2, 1]


def test_nothing_is_taken_while_the_disk_or_the_queue_is_full(tmp_path: Path) -> None:
    api = MemoryApi(tmp_path, incoming_free_mb=10**9)
    assert Incoming(api.services.collection(), "test").full() == module.DISK
    api = MemoryApi(tmp_path, incoming_free_mb=0, incoming_backlog=1)
    collection = api.services.collection()
    incoming = Incoming(collection, "test")
    assert incoming.full() is None
    incoming.put(CT)
    assert Incoming(collection, "test").full() == module.BACKLOG


def test_what_cannot_be_written_is_not_accepted(
    collection: Collection, incoming: Incoming, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise BlobsUnavailable("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(collection.blobs, "write", full)
        with pytest.raises(BlobsUnavailable):
            incoming.put(CT)
    assert collection.ledger.incoming.count() == 0
