"""What an ingest says it did, held against what it did: totals, names, and what stays as it was."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli import main, upload
from pipeline.base.identity import sha256
from tests.system import System, contents, until
from tests.trees import picture, pictures, tree


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("account"), encoder) as running:
        yield running


@pytest.fixture(scope="module")
def nameless(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("nameless"), encoder, KEEP_NAMES="0") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures with diagnoses, one without."""
    root = tmp_path / "folder"
    table = "file_name,dx,age\na.jpg,nv,40\nb.jpg,mel,50\n"
    tree({**pictures("a.jpg", "b.jpg", "c.jpg"), "metadata.csv": table})(root)
    return root


def counts(job: dict[str, Any]) -> dict[str, int]:
    return {name: count for name, count in job["counts"].items() if count}


def said(system: System, name: str, folder: Path) -> dict[str, Any]:
    """What the index says of a file of the folder, without our own facts."""
    wanted = {"must": [{"key": "source.dataset", "match": {"value": str(folder)}}]}
    answer = system.http.get("/v1/images", params={"filter": json.dumps(wanted), "limit": 100})
    found = [image["payload"] for image in answer.json()["images"]]
    [payload] = [one for one in found if one["source"]["name"] == name]
    return {field: value for field, value in payload.items() if field not in ("source", "image_id")}


def test_silence_erases_nothing_and_what_changes_is_counted_apart(
    system: System, folder: Path
) -> None:
    assert counts(system.ingest(folder)) == {"embedded": 3}
    (folder / "metadata.csv").unlink()

    assert counts(system.ingest(folder)) == {"unchanged": 3}
    assert said(system, "a.jpg", folder) == {"dx": "nv", "age": 40}

    (folder / "metadata.csv").write_text("file_name,dx,site\na.jpg,bcc,arm\n")
    assert counts(system.ingest(folder)) == {"updated": 1, "unchanged": 2}
    assert said(system, "a.jpg", folder) == {"dx": "bcc", "age": 40, "site": "arm"}
    assert said(system, "b.jpg", folder) == {"dx": "mel", "age": 50}

    job = system.http.post("/v1/jobs?replace_metadata=true", json={"dataset": str(folder)}).json()
    assert job["replace_metadata"]
    assert counts(system.finished(job["id"])) == {"updated": 2, "unchanged": 1}
    assert said(system, "a.jpg", folder) == {"dx": "bcc", "site": "arm"}
    assert said(system, "b.jpg", folder) == {}


def test_a_dry_run_says_what_a_real_one_does_and_stores_nothing(
    system: System, folder: Path
) -> None:
    (folder / "broken.jpg").write_bytes(picture()[:200])
    before = system.count()

    dry = system.http.post("/v1/jobs?dry_run=true", json={"dataset": str(folder)}).json()
    dry = system.finished(dry["id"])

    assert dry["dry_run"]
    assert system.count() == before
    assert counts(dry) == {"embedded": 3, "rejected": 1}
    real = system.ingest(folder)
    assert (counts(real), real["skipped"]) == (counts(dry), dry["skipped"])
    assert system.count() == before + 3


def test_a_dry_run_of_an_upload_leaves_its_names_only(system: System, tmp_path: Path) -> None:
    data = picture()
    described = json.dumps([{"dx": "Jane-Doe-4711"}, {}])
    send = [("files", ("a.jpg", data)), ("files", ("broken.jpg", picture()[:200]))]
    answer = system.http.post(
        "/v1/images?dry_run=true", files=send, data={"metadata": described}
    ).json()
    job = system.finished(answer["id"])
    files = system.blobs / "uploads" / job["id"]

    until(lambda: [path.name for path in files.iterdir()] == ["manifest.json"], "the end of files")

    assert counts(job) == {"embedded": 1, "rejected": 1}
    [rejection] = system.http.get(f"/v1/jobs/{job['id']}/rejections").json()["rejections"]
    assert rejection["name"] == "broken.jpg"
    assert "Jane-Doe-4711" not in (files / "manifest.json").read_text()
    assert sha256(data) not in {image["image_id"] for image in system.indexed()}


def test_names_of_rejected_and_skipped_files_outlive_the_job_and_metadata_do_not(
    system: System, folder: Path
) -> None:
    table = "file_name,dx,secret\na.jpg,nv,Jane-Doe-4711\nb.jpg,nv,Jane-Doe-4711\n"
    tree({"sub/broken.jpg": picture()[:200], "metadata.csv": table, "x.pdf": "%PDF-1.7"})(folder)
    dry = system.http.post("/v1/jobs?dry_run=true", json={"dataset": str(folder)}).json()
    job = system.finished(dry["id"])["id"]
    files = system.blobs / "jobs" / job

    until(lambda: not (files / "rows").exists(), "the end of the list of rows")

    [rejection] = system.http.get(f"/v1/jobs/{job}/rejections").json()["rejections"]
    assert rejection["name"] == "sub/broken.jpg"
    skipped = system.http.get(f"/v1/jobs/{job}/skipped?limit=1").json()
    assert skipped["skipped"] == [{"name": "metadata.csv", "kind": "metadata"}]
    rest = system.http.get(f"/v1/jobs/{job}/skipped", params={"cursor": skipped["cursor"]}).json()
    assert rest == {"skipped": [{"name": "x.pdf", "kind": "pdf"}], "cursor": None}
    kept = [path.read_text() for path in files.rglob("*") if path.is_file()]
    assert kept
    assert not any("Jane-Doe-4711" in text for text in kept)


def test_no_name_is_kept_where_none_is_wanted(nameless: System, folder: Path) -> None:
    tree({"Doe-Jane.jpg": None, "Doe-Jane-broken.jpg": picture()[:200], "Doe.pdf": "%PDF-1.7"})(
        folder
    )
    (folder / "metadata.csv").unlink()
    job = nameless.ingest(folder)
    send = [("files", ("Doe-June.jpg", picture())), ("files", ("Doe.pdf", b"%PDF-1.7"))]
    sent = nameless.http.post("/v1/images", files=send).json()
    assert counts(nameless.finished(sent["id"])) == {"embedded": 1, "rejected": 1}

    blobs = nameless.blobs
    until(lambda: not (blobs / "jobs" / job["id"] / "rows").exists(), "the end of the list")

    assert counts(job) == {"embedded": 4, "rejected": 1}
    assert job["skipped"] == {"pdf": 1}
    [rejection] = nameless.http.get(f"/v1/jobs/{job['id']}/rejections").json()["rejections"]
    assert rejection["name"] is None
    assert all("name" not in image["payload"]["source"] for image in nameless.indexed())
    assert not [path for path, data in contents(nameless.folder) if b"Doe-J" in data]


def test_an_identifier_in_a_sidecar_is_deleted_for_good(system: System, tmp_path: Path) -> None:
    root = tmp_path / "folder"
    sidecar = json.dumps({"meta": {"clinical": {"patient_id": 4711}}})
    tree({"a.jpg": None, "a.json": sidecar, "b.jpg": None})(root)
    assert counts(system.ingest(root)) == {"embedded": 2}

    wanted = {"field": "meta.clinical.patient_id", "value": "4711"}
    receipt = system.http.post("/v1/deletions", json=wanted, headers={"Prefer": "wait=60"}).json()

    assert receipt["count"] == 1
    assert counts(system.ingest(root)) == {"unchanged": 1, "rejected": 1}


def test_an_upload_of_many_requests_is_one_upload(
    system: System,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = "file_name,image_id\na.jpg,same-1\nb.jpg,other-1\nc.jpg,same-1\n"
    tree({**pictures("a.jpg", "b.jpg", "c.jpg"), "metadata.csv": table})(tmp_path / "up")
    monkeypatch.setattr(upload, "CHUNK_FILES", 1)
    monkeypatch.setenv("KINDRED_URL", f"http://127.0.0.1:{system.port}")

    assert main.run(["ingest", "--upload", str(tmp_path / "up"), "--json"]) == 3

    document = json.loads(capsys.readouterr().out)
    assert counts(document) == {"embedded": 2, "rejected": 1}
    assert len(document["jobs"]) == 3
    [job] = [job for job in document["jobs"] if job["rejected"]]
    [rejection] = system.http.get(f"/v1/jobs/{job['id']}/rejections").json()["rejections"]
    assert rejection["name"] in ("a.jpg", "c.jpg")
    assert "of this upload, has the same id and another picture" in rejection["reason"]


def test_a_person_reads_the_account_in_the_terminal_and_as_a_table(
    system: System,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree({"broken, it is.jpg": picture()[:200], "x.pdf": "%PDF-1.7"})(folder)
    monkeypatch.setenv("KINDRED_URL", f"http://127.0.0.1:{system.port}")

    assert main.run(["ingest", str(folder), "--strict"]) == 1
    told = capsys.readouterr()
    assert "4 = 3 embedded + 0 updated + 0 unchanged + 1 rejected" in told.out
    assert "skipped 2 files: 1 metadata, 1 pdf" in told.out
    assert "broken, it is.jpg: " in told.out
    assert "--strict" in told.err

    [job] = [j["id"] for j in system.http.get("/v1/jobs?limit=1").json()["jobs"]]
    table = folder / "rejected.csv"
    assert main.run(["jobs", job, "--rejections", "--csv", str(table)]) == 0
    with table.open(encoding="utf-8-sig", newline="") as lines:
        [row] = csv.DictReader(lines)
    assert row["name"] == "broken, it is.jpg"
    capsys.readouterr()
    assert main.run(["jobs", job, "--skipped"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "skipped: metadata.csv: metadata",
        "skipped: x.pdf: pdf",
    ]
    assert main.run(["jobs", "skipped", job, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["skipped"]) == 2
