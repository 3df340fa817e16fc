"""A backup of a running system, and the same answers on an empty machine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import workers.restore
from cli.backup import _renew_tombstones
from pipeline.backup import archive
from pipeline.backup.manifest import LEDGER, MANIFEST, file_sha256
from pipeline.backup.snapshot import Snapshots
from pipeline.base.errors import Conflict
from pipeline.base.settings import Settings
from pipeline.ledger.ledger import namespace_of
from tests.story.test_parity import kindred, run
from tests.system import PATIENCE, WAIT, System, until
from workers.restore import refuse_half_a_restore


def restore(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    ours = {k: v for k, v in os.environ.items() if not k.startswith("KINDRED_")}
    return subprocess.run(
        [sys.executable, "-m", "cli", "restore", str(folder)],
        env={**ours, **{f"KINDRED_{name}": value for name, value in settings.items()}},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory, encoder: Path, drawn: Path) -> dict[str, Any]:
    """A backup taken while a job runs, and what the system answered then."""
    folder = tmp_path_factory.mktemp("backup")
    with System(folder / "data", encoder, BATCH_SIZE="1", LANES="1") as system:
        first = system.ingest(drawn, limit=120)
        delete(system, "DRAWN_000007")
        running = system.submit(drawn)
        until(lambda: system.job(running["id"])["embedded"] > 5, "a job in the middle")
        manifest = kindred(system, "backup", folder / "copy")
        delete(system, "DRAWN_000008")
        _as_if_deleted_meanwhile(system, folder / "copy")
        system.finished(running["id"])
        answers = {
            "search": system.search(image_id="DRAWN_000011", ids=ids(120), limit=10)["results"],
            "preview": system.http.get("/v1/images/DRAWN_000011/preview").content,
            "job": system.job(first["id"]),
        }
    collection = {"COLLECTION": system.collection}
    return {
        "folder": folder / "copy", "manifest": manifest, "running": running,
        "collection": collection, **answers,
    }  # fmt: skip


def delete(system: System, image_id: str) -> None:
    wanted = {"image_ids": [image_id]}
    system.http.post("/v1/deletions", json=wanted, headers=WAIT).raise_for_status()


def _as_if_deleted_meanwhile(system: System, copy: Path) -> None:
    """After its image was read, and before the marks of what was deleted were."""
    snapshots = Snapshots(system.environment["KINDRED_REDIS_URL"], namespace_of(system.collection))
    now = [line.encode() for line in snapshots.lines()]
    _renew_tombstones(copy / LEDGER, now)
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["files"][LEDGER] = file_sha256(copy / LEDGER)
    (copy / MANIFEST).write_text(json.dumps(manifest))


def ids(count: int) -> list[str]:
    return [f"DRAWN_{row:06}" for row in range(count)]


def test_a_backup_on_an_empty_machine_gives_the_same_answers(
    taken: dict[str, Any], encoder: Path, drawn: Path, tmp_path: Path
) -> None:
    done = restore(taken["folder"], DATA=str(tmp_path), **taken["collection"])
    assert done.returncode == 0, done.stderr
    assert taken["manifest"]["images"] >= 119
    assert taken["manifest"]["blobs"] >= taken["manifest"]["images"]

    with System(tmp_path, encoder, embedded=True, **taken["collection"]) as system:
        found = system.search(image_id="DRAWN_000011", ids=ids(120), limit=10)["results"]
        assert found == taken["search"]
        assert system.http.get(found[0]["preview_url"]).content == taken["preview"]
        assert system.job(taken["job"]["id"]) == taken["job"]
        # The job that was running goes on from where the backup met it, and closes its account.
        job = system.finished(taken["running"]["id"])
        assert job["total"] == job["embedded"] + job["unchanged"] + job["rejected"] == 200
        assert job["rejected"] >= 1  # the tombstones came along
        assert system.count() == 198
        # One was in the backup, and deleted before that was at its end.
        assert b"DRAWN_000008" in (taken["folder"] / "payloads.jsonl").read_bytes()
        assert system.http.get("/v1/images/DRAWN_000008").status_code == 404
        assert system.http.get("/v1/images/DRAWN_000008/preview").status_code == 404


def test_a_damaged_backup_is_refused_before_anything_is_written(
    taken: dict[str, Any], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(taken["folder"], copy)
    with (copy / "vectors.npy").open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\x00\x01\x02")

    refused = restore(copy, DATA=str(tmp_path / "data"))

    assert refused.returncode == 1
    assert "vectors.npy is missing, or has changed since it was written" in refused.stderr
    assert not (tmp_path / "data/store").exists()
    (copy / "manifest.json").unlink()
    assert "contains no backup" in restore(copy, DATA=str(tmp_path / "data")).stderr


def test_a_restore_that_was_cut_off_is_not_taken_for_a_whole_one(
    taken: dict[str, Any], tmp_path: Path
) -> None:
    settings = Settings(data=tmp_path)

    def killed(*_: object) -> int:
        raise SystemExit  # as far as the data folder can tell

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(archive, "refuse_unless_empty", lambda *_: None)
        patch.setattr(archive, "restore_blobs", killed)
        workers.restore.restore(taken["folder"], settings)

    with pytest.raises(Conflict, match="restore again"):
        refuse_half_a_restore(settings)


def test_nothing_is_written_where_only_redis_is_in_use(
    taken: dict[str, Any], tmp_path: Path
) -> None:
    def in_use(_: Snapshots) -> None:
        raise Conflict("This Redis contains jobs already: restore into an empty one.")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Conflict, match="contains jobs"):
        patch.setattr(Snapshots, "refuse_unless_empty", in_use)
        workers.restore.restore(taken["folder"], Settings(data=tmp_path))

    assert not (tmp_path / "keys.json").exists()
    assert not (tmp_path / "blobs").exists()


def test_nothing_is_restored_over_what_is_there(
    taken: dict[str, Any], encoder: Path, drawn: Path, tmp_path: Path
) -> None:
    with System(tmp_path, encoder, embedded=True) as system:
        system.ingest(drawn, limit=3)

    refused = restore(taken["folder"], DATA=str(tmp_path))

    assert refused.returncode == 1
    assert "restore into an empty one" in refused.stderr


def test_a_backup_goes_into_an_empty_folder_only(
    taken: dict[str, Any], encoder: Path, tmp_path: Path
) -> None:
    before = json.loads((taken["folder"] / "manifest.json").read_text())
    with System(tmp_path, encoder) as system, pytest.raises(AssertionError, match="is not empty"):
        run(system, "backup", taken["folder"])
    assert json.loads((taken["folder"] / "manifest.json").read_text()) == before
