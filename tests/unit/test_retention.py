"""Jobs that ended long ago are forgotten with all that is theirs, by one worker at a time."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from pipeline.base.blobs import Blobs
from pipeline.base.errors import BlobsUnavailable, Conflict, InvalidQuery, NotFound
from pipeline.base.identity import point_id
from pipeline.ledger import Ledger, Progress
from pipeline.lifecycle.deletion import Deletions
from pipeline.lifecycle.quarantine import Quarantine
from pipeline.lifecycle.rejections import RejectedRows
from pipeline.lifecycle.sweep import Sweep
from pipeline.lifecycle.tombstone_keys import keys_of_images
from pipeline.messages import Rejection, UploadedFile, UploadManifest
from tests.ledger_steps import INGEST, US, begin_all, planned, work, worker
from tests.memory_api import MemoryApi
from tests.unit.conftest import Backend

DAY = 86_400.0


class Store:
    """Holds the images of these files."""

    purge_due = False

    def __init__(self) -> None:
        self.files: dict[UUID, str] = {}

    def retrieve(self, ids: list[UUID]) -> dict[UUID, Any]:
        return {
            i: SimpleNamespace(payload={"source": {"blob": self.files[i]}})
            for i in ids
            if i in self.files
        }


class Reads(Blobs):
    """Counts what is read of uploads."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.read_uploads: list[str] = []

    def read(self, name: str) -> bytes:
        if name.startswith("uploads/"):
            self.read_uploads.append(name.split("/")[1])
        return super().read(name)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def blobs(tmp_path: Path) -> Reads:
    return Reads(str(tmp_path))


@pytest.fixture
def deletions(store: Store, blobs: Blobs, ledger: Ledger) -> Deletions:
    played: Any = store
    nothing: Any = None
    quarantine = Quarantine(blobs, ledger.withheld)
    return Deletions(played, blobs, ledger.tombstones, nothing, quarantine)


@pytest.fixture
def sweep(blobs: Blobs, deletions: Deletions, ledger: Ledger) -> Sweep:
    return Sweep(blobs, deletions, ledger, forgotten=4200, job_seconds=90 * DAY)


@pytest.fixture
def an_hour_later(backend: Backend, ledger: Ledger, sweep: Sweep) -> Callable[[], None]:
    def swept() -> None:
        backend.redis.delete(f"{ledger.namespace}:workers:sweep")
        sweep()

    return swept


def ended(ledger: Ledger, blobs: Blobs, job: str, rejected: int = 1) -> None:
    planned(ledger, job, total=8, shard_size=8)
    [item] = begin_all(ledger, US)
    rows = [Rejection(image_id=f"row {n}", row=n, reason="broken") for n in range(rejected)]
    part = RejectedRows(blobs, item.lease).write(rows)
    counts = {"embedded": 8 - rejected, "rejected": rejected}
    ledger.jobs.checkpoint(item.lease, Progress(8, 8, counts), part)
    ledger.jobs.finish(item.lease)
    ledger.jobs.tidied(job)


def make_older(backend: Backend, ledger: Ledger, job: str, days: float) -> None:
    at = time.time() - days * DAY
    backend.redis.hset(f"{ledger.namespace}:job:{job}", "finished_at", at)
    backend.redis.zadd(f"{ledger.namespace}:jobs:finished", {job: at})


def keys_of(backend: Backend, job: str) -> list[str]:
    named = [k for k in backend.redis.keys("*") if job in k]
    for key in backend.redis.keys("*"):
        kind = backend.redis.type(key)
        if kind == "zset" and backend.redis.zscore(key, job) is not None:
            named.append(key)
        if kind == "set" and backend.redis.sismember(key, job):
            named.append(key)
    return named


def test_a_job_that_ended_long_ago_is_forgotten_with_all_that_is_its_own(
    backend: Backend, ledger: Ledger, blobs: Blobs, an_hour_later: Callable[[], None]
) -> None:
    for job in ("ancient", "recent"):
        ended(ledger, blobs, job)
        blobs.write(f"jobs/{job}/index.json", b"{}")
    make_older(backend, ledger, "ancient", 91)
    make_older(backend, ledger, "recent", 89)

    an_hour_later()

    with pytest.raises(NotFound, match="ended so long ago that it was forgotten"):
        ledger.jobs.get("ancient")
    assert keys_of(backend, "ancient") == []
    assert not [*blobs.walk("jobs/ancient")]
    assert [job.id for job in ledger.jobs.recent()] == ["recent"]
    assert [job.id for job in ledger.jobs.page(9, None, ["completed_with_rejections"])[0]] == [
        "recent"
    ]
    assert len([*blobs.walk("jobs/recent")]) == 2


def test_a_job_that_is_retried_is_not_forgotten_nor_is_one_to_be_put_away(
    backend: Backend, ledger: Ledger, blobs: Blobs, an_hour_later: Callable[[], None]
) -> None:
    for job in ("retried", "untidy"):
        ended(ledger, blobs, job)
        make_older(backend, ledger, job, 91)
    backend.redis.sadd(f"{ledger.namespace}:jobs:ended", "untidy")
    ledger.jobs.transition("retried", "retry")

    an_hour_later()
    assert ledger.jobs.get("retried").state == "planning"
    assert ledger.jobs.get("untidy").final

    ledger.jobs.transition("retried", "cancel")
    ledger.jobs.tidied("retried")
    an_hour_later()
    assert ledger.jobs.get("retried").state == "cancelled", "it ended just now"


@pytest.mark.parametrize("days", [0, 1])
def test_days_are_as_set_and_none_is_for_ever(
    backend: Backend, ledger: Ledger, blobs: Blobs, deletions: Deletions, days: int
) -> None:
    ended(ledger, blobs, "job")
    make_older(backend, ledger, "job", 2)

    Sweep(blobs, deletions, ledger, forgotten=4200, job_seconds=days * DAY)()

    assert len(ledger.jobs.recent()) == (0 if days else 1)


def test_a_sweep_that_is_killed_while_it_forgets_is_finished_by_the_next(
    backend: Backend,
    ledger: Ledger,
    blobs: Blobs,
    an_hour_later: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended(ledger, blobs, "job")
    make_older(backend, ledger, "job", 91)
    with monkeypatch.context() as patch:
        patch.setattr(Blobs, "delete", lambda *_: (_ for _ in ()).throw(BlobsUnavailable("away")))
        with pytest.raises(BlobsUnavailable):
            an_hour_later()
    with pytest.raises(NotFound):
        ledger.jobs.transition("job", "retry")
    assert [*blobs.walk("jobs/job")]

    an_hour_later()

    assert not [*blobs.walk("jobs/job")]
    assert keys_of(backend, "job") == []


def test_a_job_that_an_older_worker_ended_is_found_and_forgotten(
    backend: Backend, ledger: Ledger, blobs: Blobs, an_hour_later: Callable[[], None]
) -> None:
    """It is in no index."""
    for job in ("job", "again"):
        ended(ledger, blobs, job)
        make_older(backend, ledger, job, 91)
    backend.redis.zrem(f"{ledger.namespace}:jobs:finished", "job")
    backend.redis.zrem(f"{ledger.namespace}:jobs:completed_with_rejections", "job")
    ledger.jobs.transition("again", "retry")
    backend.redis.zadd(f"{ledger.namespace}:jobs:finished", {"again": 1})  # by an older api

    an_hour_later()

    assert [job.id for job in ledger.jobs.recent()] == ["again"]
    assert ledger.jobs.get("again").state == "planning"
    assert not backend.redis.zcard(f"{ledger.namespace}:jobs:finished")


def test_one_worker_sweeps_at_a_time(
    backend: Backend, ledger: Ledger, blobs: Blobs, deletions: Deletions, tmp_path: Path
) -> None:
    swept: list[str] = []

    def sweeper(name: str) -> Sweep:
        made = Sweep(blobs, deletions, ledger, forgotten=4200)
        object.__setattr__(made, "_half_written", lambda: swept.append(name))
        return made

    one, other = sweeper("one"), sweeper("other")
    one()
    other()
    one()
    assert swept == ["one"], "the hour is not over"
    ttl = backend.redis.ttl(f"{ledger.namespace}:workers:sweep")
    assert 0 < ttl <= 3600, "if it is killed, the next one sweeps in an hour at the latest"

    backend.redis.delete(f"{ledger.namespace}:workers:sweep")
    other()
    assert swept == ["one", "other"]


def upload(blobs: Blobs, job: str, *ids: str) -> None:
    files = tuple(
        UploadedFile(blob=f"uploads/{job}/{n}", sha256=f"{n}", metadata={"image_id": i, "dx": "x"})
        for n, i in enumerate(ids)
    )
    for file in files:
        blobs.write(str(file.blob), b"of a patient")
    manifest = UploadManifest(files=files).model_dump_json().encode()
    blobs.write(f"uploads/{job}/manifest.json", manifest)


def test_of_a_forgotten_upload_only_files_that_the_index_names_stay(
    backend: Backend,
    ledger: Ledger,
    blobs: Blobs,
    store: Store,
    an_hour_later: Callable[[], None],
    tmp_path: Path,
) -> None:
    for job, ids in (("some", ("A", "B", "C")), ("none", ("D",))):
        ended(ledger, blobs, job)
        upload(blobs, job, *ids)
    store.files = {point_id("A"): "uploads/some/0", point_id("B"): "uploads/other/7"}
    for job in ("some", "none"):
        make_older(backend, ledger, job, 91)

    an_hour_later()
    days_ago = time.time() - 3 * DAY
    for file in tmp_path.rglob("*"):
        os.utime(file, (days_ago, days_ago))
    an_hour_later()  # what stays is not taken for an incomplete upload

    assert sorted(blobs.walk("uploads")) == ["uploads/some/0", "uploads/some/manifest.json"]
    assert b"dx" not in blobs.read("uploads/some/manifest.json")
    assert keys_of(backend, "some") == keys_of(backend, "none") == []
    assert not backend.redis.hlen(f"{ledger.namespace}:uploads:mentions")


def test_a_deletion_reads_the_lists_that_mention_what_it_deleted_and_no_other(
    ledger: Ledger, blobs: Reads, sweep: Sweep, deletions: Deletions
) -> None:
    for number in range(50):
        upload(blobs, f"U{number}", f"I{number}", f"J{number}")
    sweep()
    assert len(blobs.read_uploads) == 50, "each of them once"
    blobs.read_uploads.clear()

    for image_id in ("I7", "J31"):
        ledger.tombstones.add(keys_of_images([image_id]), "deletion")
        sweep.uploads.forget_deleted()

    assert blobs.read_uploads == ["U7", "U31"]
    assert sorted(set(map(str, range(50))) - {"7"}) == sorted(
        name.split("/")[1][1:] for name in blobs.walk("uploads") if name.endswith("/0")
    )
    blobs.read_uploads.clear()
    sweep.uploads.forget_deleted()
    sweep.uploads.find_others()
    Sweep(blobs, deletions, ledger, forgotten=4200).uploads.find_others()
    assert blobs.read_uploads == [], "nothing has changed"


def test_an_upload_whose_job_was_never_recorded_is_deleted(
    ledger: Ledger, blobs: Reads, sweep: Sweep, tmp_path: Path
) -> None:
    """Redis went away after its files were stored: the caller was told 503, and sent it again."""
    ledger.jobs.create("accepted", *INGEST)
    upload(blobs, "accepted", "A")
    upload(blobs, "refused", "B")

    sweep.uploads.find_others()
    assert blobs.exists("uploads/refused/0"), "its job can still come"

    days_ago = time.time() - 3 * DAY
    for file in tmp_path.rglob("*"):
        os.utime(file, (days_ago, days_ago))
    sweep.uploads.find_others()
    assert {name.split("/")[1] for name in blobs.walk("uploads")} == {"accepted"}


def test_a_deletion_reads_the_list_of_an_upload_that_runs(
    ledger: Ledger, blobs: Reads, sweep: Sweep
) -> None:
    ledger.jobs.create("U", *INGEST)
    upload(blobs, "U", "A", "B")
    ledger.tombstones.add(keys_of_images(["A"]), "deletion")

    sweep.uploads.forget_deleted()
    assert [*blobs.walk("uploads")].count("uploads/U/0") == 0

    ledger.tombstones.add(keys_of_images(["B"]), "another")
    sweep.uploads.forget_deleted()
    assert [*blobs.walk("uploads")] == ["uploads/U/manifest.json"]


def test_a_tombstone_that_comes_while_a_list_is_compared_is_not_missed(
    ledger: Ledger, blobs: Reads, sweep: Sweep, deletions: Deletions, monkeypatch: Any
) -> None:
    """A deletion that goes through what is known at the worst moment: after the comparison."""
    upload(blobs, "U", "A")
    compare = Deletions.are_deleted

    def meanwhile(self: Deletions, rows: Any) -> list[bool]:
        found = compare(self, rows)
        monkeypatch.setattr(Deletions, "are_deleted", compare)
        ledger.tombstones.add(keys_of_images(["A"]), "deletion")
        sweep.uploads.forget_deleted()
        return found

    monkeypatch.setattr(Deletions, "are_deleted", meanwhile)
    sweep.uploads.add("uploads/U")

    assert not blobs.exists("uploads/U/0")


def test_a_deletion_whose_request_is_gone_is_pending_no_more(
    ledger: Ledger, blobs: Blobs, an_hour_later: Callable[[], None]
) -> None:
    ledger.jobs.create("ingest", *INGEST)
    for deletion in ("with a filter", "of an image"):
        ledger.tombstones.notify_running_jobs(deletion)
    blobs.write("deletions/with a filter/request.json", b"{}")

    an_hour_later()

    assert ledger.tombstones.pending_deletions("ingest") == ["with a filter"]


@pytest.mark.parametrize("state", ["succeeded", "cancelled"])
def test_a_receipt_outlives_its_job(tmp_path: Path, state: str) -> None:
    api = MemoryApi(tmp_path)
    ledger, deletion = api.ledger, str(uuid4())
    nothing: Any = None
    played: Any = Store()
    quarantine = Quarantine(api.blobs, ledger.withheld)
    deletions = Deletions(played, api.blobs, ledger.tombstones, nothing, quarantine)
    deletions.receipts.write_plan(deletion, [])
    deletions.receipts.write_page(deletion, "000000", ["A", "B"])
    ledger.workers.beat(worker(US, lanes=1, queue="deletion"))
    ledger.jobs.create(deletion, "delete", "deletion", "")
    if state == "cancelled":
        ledger.jobs.transition(deletion, "cancel")
    for lease in ledger.jobs.dispatch():
        ledger.jobs.begin(lease, US)
        ledger.jobs.planned(lease, 2, 2)
    for item in work(ledger):
        ledger.jobs.checkpoint(item.lease, Progress(2, 2, {"deleted": 2}))
        ledger.jobs.finish(item.lease)
    ledger.jobs.tidied(deletion)
    before = api.http.get(f"/v1/deletions/{deletion}").json()
    assert before["state"] == state
    redis = ledger.jobs._script.redis
    redis.zadd(f"{ledger.namespace}:jobs:finished", {deletion: 1})

    Sweep(api.blobs, deletions, ledger, forgotten=4200, job_seconds=DAY)()

    assert api.http.get(f"/v1/jobs/{deletion}").status_code == 404
    assert api.http.get(f"/v1/deletions/{deletion}").json() == before
    assert api.http.post(f"/v1/deletions/{deletion}/lift").json()["image_ids"] == ["A", "B"]


def test_a_forgotten_job_is_unknown_to_the_api_in_plain_words(tmp_path: Path) -> None:
    api = MemoryApi(tmp_path)
    api.ledger.jobs.create("job", *INGEST)
    api.ledger.jobs.transition("job", "cancel")
    api.ledger.jobs.tidied("job")
    api.ledger.retention.forget_jobs(-1, 10)

    for answer in (
        *(
            api.http.get(f"/v1/jobs/job{part}")
            for part in ("", "/rejections", "/skipped", "/events")
        ),
        api.http.post("/v1/jobs/job/retry"),
    ):
        assert answer.status_code == 404
        assert "ended so long ago that it was forgotten" in answer.json()["detail"]
    assert api.http.get("/v1/jobs").json()["jobs"] == []


def test_jobs_in_some_states_come_page_by_page_in_their_order(ledger: Ledger) -> None:
    wanted = []
    for number in range(30):
        job = f"job {number:02}"
        ledger.jobs.create(job, *INGEST)
        if number % 3:
            ledger.jobs.transition(job, "cancel")
        if number % 5 == 0 and number % 3 == 0:
            ledger.jobs.transition(job, "pause")
        if number % 3 or number % 5 == 0:
            wanted.append(job)

    found: list[str] = []
    cursor = None
    while True:
        page, cursor = ledger.jobs.page(4, cursor, ["cancelled", "paused"])
        found += [job.id for job in page]
        if cursor is None:
            break

    assert found == wanted[::-1]
    with pytest.raises(InvalidQuery):
        ledger.jobs.page(4, "nonsense", ["cancelled"])
    with pytest.raises(Conflict):
        ledger.jobs.transition(found[0], "pause")
