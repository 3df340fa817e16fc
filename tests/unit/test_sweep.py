"""What is left lying by a process that was killed goes, and nothing that somebody may need."""

import io
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from api.routes import uploads
from pipeline.base.blobs import Blobs
from pipeline.base.errors import BlobsUnavailable
from pipeline.base.settings import Settings
from pipeline.lifecycle.sweep import Sweep
from pipeline.lifecycle.tombstone_keys import tombstone_key
from pipeline.messages import IngestOptions, UploadedFile, UploadManifest
from tests.trees import picture
from workers.background import Reconciler

OLD = ("parts/half", "requests/lost/request.json", "requests/lost/image-0", "uploads/torn/0")
KEPT = ("uploads/whole/0", "uploads/whole/manifest.json", "previews/ab/p.jpg", "deletions/d/w.json")


def nothing_deleted() -> Any:
    return MagicMock(
        **{
            "are_deleted.side_effect": lambda rows: [False] * len(rows),
            "store.purge_due": False,
        }
    )


def test_it_goes_when_it_is_old_enough(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    for name in (*OLD, *KEPT):
        blobs.write(name, b'{"files": []}')
    sweep = Sweep(blobs, nothing_deleted(), forgotten=4200)

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
        Reconciler(MagicMock(), runtime)()

    runtime.ledger.requests.forget.assert_called_once_with("one")


def test_an_upload_that_finds_no_room_is_not_left_by_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(str(tmp_path))
    collection: Any = MagicMock(blobs=blobs)
    write = Blobs.write

    def full(self: Blobs, name: str, data: bytes) -> None:
        if name.endswith("/1"):
            raise BlobsUnavailable("Nothing can be kept just now: No space left on device.")
        write(self, name, data)

    monkeypatch.setattr(Blobs, "write", full)
    collection.services.settings = Settings(keep_names=True)
    files: Any = [SimpleNamespace(filename=name, file=io.BytesIO(picture())) for name in "ab"]

    with pytest.raises(BlobsUnavailable):
        uploads.upload(collection, IngestOptions(), MagicMock(), MagicMock(), files)

    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    collection.start_job.assert_not_called()


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
        Sweep(blobs, played, forgotten=4200)()

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
    sweep = Sweep(Blobs(str(tmp_path)), deletions, forgotten=4200)

    sweep()
    sweep()

    assert deletions.store.purge.call_count == purges
