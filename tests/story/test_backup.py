"""A backup of a running system, and the same answers on an empty machine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.story.test_parity import kindred, run
from tests.system import System, until


def restore(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    ours = {k: v for k, v in os.environ.items() if not k.startswith("KINDRED_")}
    return subprocess.run(
        [sys.executable, "-m", "cli", "restore", str(folder)],
        env={**ours, **{f"KINDRED_{name}": value for name, value in settings.items()}},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory, encoder: Path, drawn: Path) -> dict[str, Any]:
    """A backup taken while a job runs, and what the system answered then."""
    folder = tmp_path_factory.mktemp("backup")
    with System(folder / "data", encoder, BATCH_SIZE="1", LANES="1") as system:
        first = system.ingest(drawn, limit=120)
        system.http.post(
            "/v1/deletions", json={"image_ids": ["DRAWN_000007"]}, headers={"Prefer": "wait=30"}
        ).raise_for_status()
        running = system.submit(drawn)
        until(lambda: system.job(running["id"])["embedded"] > 5, "a job in the middle")
        manifest = kindred(system, "backup", folder / "copy")
        system.finished(running["id"])
        answers = {
            "search": system.search(image_id="DRAWN_000011", ids=ids(120), limit=10)["results"],
            "preview": system.http.get("/v1/images/DRAWN_000011/preview").content,
            "job": system.job(first["id"]),
        }
    return {"folder": folder / "copy", "manifest": manifest, "running": running, **answers}


def ids(count: int) -> list[str]:
    return [f"DRAWN_{row:06}" for row in range(count)]


def test_a_backup_on_an_empty_machine_gives_the_same_answers(
    taken: dict[str, Any], encoder: Path, drawn: Path, tmp_path: Path
) -> None:
    done = restore(taken["folder"], DATA=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert taken["manifest"]["images"] >= 119
    assert taken["manifest"]["blobs"] >= taken["manifest"]["images"]

    with System(tmp_path, encoder) as system:
        found = system.search(image_id="DRAWN_000011", ids=ids(120), limit=10)["results"]
        assert found == taken["search"]
        assert system.http.get(found[0]["preview_url"]).content == taken["preview"]
        assert system.job(taken["job"]["id"]) == taken["job"]
        # The job that was running goes on from where the backup met it, and closes its account.
        job = system.finished(taken["running"]["id"])
        assert job["total"] == job["embedded"] + job["unchanged"] + job["rejected"] == 200
        assert job["rejected"] == 1  # the tombstone came along
        assert system.count() == 199


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
    assert "vectors.npy is missing, or is not as it was written" in refused.stderr
    assert not (tmp_path / "data/store").exists()
    (copy / "manifest.json").unlink()
    assert "holds no backup" in restore(copy, DATA=str(tmp_path / "data")).stderr


def test_nothing_is_restored_over_what_is_there(
    taken: dict[str, Any], encoder: Path, drawn: Path, tmp_path: Path
) -> None:
    with System(tmp_path, encoder) as system:
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
