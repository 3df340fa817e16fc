"""What is left lying by a process that was killed goes, and nothing that somebody may need."""

import os
import time
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from pipeline.base.blobs import Blobs
from pipeline.base.errors import BlobsUnavailable
from pipeline.ledger import Ledger
from pipeline.lifecycle.sweep import Sweep
from pipeline.lifecycle.tombstone_keys import tombstone_key
from pipeline.messages import UploadedFile, UploadManifest
from tests.memory_api import MemoryApi
from tests.memory_ledger import memory_ledgers
from tests.trees import picture
from workers.background import Reconciler

DAY = 86_400.0
OLD = ("parts/half", "requests/lost/request.json", "requests/lost/image-0", "uploads/torn/0")
KEPT = ("uploads/whole/0", "uploads/whole/manifest.json", "previews/ab/p.jpg", "deletions/d/w.json")


def nothing_deleted() -> Any:
    return MagicMock(
        **{
            "are_deleted.side_effect": lambda rows: [False] * len(rows),
            "store.purge_due": False,
        }
    )


def hourly(blobs: Blobs, deletions: Any, ledger: Ledger | None = None) -> Any:
    """A sweep that an hour precedes, whenever it is called."""
    ours = ledger or memory_ledgers().of("kindred")
    sweep = Sweep(blobs, deletions, ours, forgotten=4200, job_seconds=90 * DAY)

    def after_an_hour() -> None:
        ours.jobs._script.redis.delete(f"{ours.namespace}:workers:sweep")
        sweep()

    return after_an_hour


def test_it_goes_when_it_is_old_enough(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    for name in (*OLD, *KEPT):
        blobs.write(name, b'{"files": []}')
    sweep = hourly(blobs, nothing_deleted())

    sweep()
    assert all(blobs.exists(name) for name in (*OLD, *KEPT))

    days_ago = time.time() - 3 * 86_400
    for file in tmp_path.rglob("*"):
        os.utime(file, (days_ago, days_ago))
    sweep()
    assert [name for name in (*OLD, *KEPT) if blobs.exists(name)] == [*KEPT]
    sweep()


def test_a_write_that_is_killed_leaves_its_half_where_it_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(str(tmp_path))
    monkeypatch.setattr(os, "replace", MagicMock(side_effect=SystemExit))
    monkeypatch.setattr(Path, "unlink", MagicMock())  # a killed process comes to no end

    with pytest.raises(SystemExit):
        blobs.write("previews/ab/p.jpg", b"of a patient")

    [half] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert half.parent == tmp_path / "parts"


def test_a_request_is_forgotten_after_its_blobs_and_not_before() -> None:
    runtime: Any = MagicMock()
    runtime.ledger.jobs.reclaim.return_value = 0
    runtime.ledger.requests.reclaim.return_value = []
    runtime.ledger.requests.expired.return_value = ["one", "two"]
    runtime.context.blobs.delete.side_effect = [None, BlobsUnavailable("The disk does not answer.")]

    with pytest.raises(BlobsUnavailable):
        Reconciler(MagicMock(), runtime, pause=1)()

    runtime.ledger.requests.forget.assert_called_once_with("one")


def test_an_upload_that_finds_no_room_is_not_left_by_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = MemoryApi(tmp_path)
    write = Blobs.write

    def full(self: Blobs, name: str, data: bytes) -> None:
        if name.endswith("/1"):
            raise BlobsUnavailable("Nothing can be kept just now: No space left on device.")
        write(self, name, data)

    monkeypatch.setattr(Blobs, "write", full)

    answer = api.http.post("/v1/images", files=[("files", (n, picture())) for n in "ab"])

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert not list(api.blobs.walk("uploads"))
    assert api.ledger.jobs.recent() == []


def test_lists_of_uploads_say_nothing_of_what_was_deleted(tmp_path: Path) -> None:
    """Of an image that was uploaded twice, or whose file was rejected, the store knows no place."""
    blobs = Blobs(str(tmp_path))
    named = (
        {"image_id": "A", "dx": "nevus"},
        {"PatientID": "P"},
        {"image_id": "B", "dx": "nevus"},
        {},
    )
    files = tuple(
        UploadedFile(blob=f"uploads/J/{number}", sha256=f"{number}", metadata=metadata)
        for number, metadata in enumerate(named)
    )
    for file in files:
        blobs.write(file.blob, b"of a patient")
    blobs.write("uploads/J/manifest.json", UploadManifest(files=files).model_dump_json().encode())
    deleted = {tombstone_key("image_id", "A"), tombstone_key("PatientID", "P")}
    played: Any = nothing_deleted()
    played.are_deleted.side_effect = lambda rows: [not deleted.isdisjoint(marks) for marks in rows]

    for _ in range(2):
        hourly(blobs, played)()

    kept = UploadManifest.model_validate_json(blobs.read("uploads/J/manifest.json")).files
    named_still = [{"image_id": "A"}, {"image_id": "1"}, {"image_id": "B", "dx": "nevus"}, {}]
    assert [file.metadata for file in kept] == named_still
    assert [blobs.exists(file.blob) for file in kept] == [False, False, True, True]


@pytest.mark.parametrize(("images", "purges"), [(10, 2), (10_000_000, 1)])
def test_files_of_the_store_are_rewritten_each_hour_or_each_day_if_that_takes_long(
    tmp_path: Path, images: int, purges: int
) -> None:
    deletions = nothing_deleted()
    deletions.store.purge_due = True
    deletions.store.count.return_value = images
    sweep = hourly(Blobs(str(tmp_path)), deletions)

    sweep()
    sweep()

    assert deletions.store.purge.call_count == purges


def test_dicom_files_of_an_upload_that_failed_stay_a_day_for_a_retry(tmp_path: Path) -> None:
    """They name patients. Those of a job that runs stay, however long it takes."""
    blobs, ledger = Blobs(str(tmp_path)), memory_ledgers().of("kindred")
    for job in ("running", "cancelled"):
        ledger.jobs.create(job, "ingest", "ingest", "{}")
    ledger.jobs.transition("cancelled", "cancel")
    ledger.jobs.tidied("cancelled")
    jobs = ("running", "cancelled", "unknown")
    for job in jobs:
        blobs.write(f"dicom/{job}/of-a-patient.dcm", b"sealed")
    sweep = hourly(blobs, nothing_deleted(), ledger)

    sweep()
    assert all(blobs.names(f"dicom/{job}") for job in jobs)

    days_ago = time.time() - 3 * DAY
    for file in tmp_path.rglob("*.dcm"):
        os.utime(file, (days_ago, days_ago))
    sweep()
    assert [job for job in jobs if blobs.names(f"dicom/{job}")] == ["running"]
