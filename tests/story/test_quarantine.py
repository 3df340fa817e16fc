"""Images that may show a patient's name: nobody finds one before an admin has looked at it."""

import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from tests import burned_in
from tests.story.test_backup import restore
from tests.story.test_parity import run
from tests.system import System, contents, kill, until

NAME = "MUSTERMANN ERIKA 12.08.1964"
MASK = {"left": 0, "top": 0, "width": burned_in.WIDTH, "height": burned_in.BAND}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("quarantine")
    with System(folder / "data", encoder, BATCH_SIZE="2", DICOM_OCR="off") as system:
        yield system


def files(seed: int) -> dict[str, bytes]:
    """One that nobody suspects, an ultrasound, a secondary capture, and one that says YES."""
    clean, named = burned_in.scan(seed), burned_in.scan(seed + 1, NAME)
    return {
        "clean.dcm": burned_in.dicom(clean, PatientID=f"P{seed}"),
        "us.dcm": burned_in.dicom(named, burned_in.ULTRASOUND, "US", PatientID=f"P{seed}"),
        "sc.dcm": burned_in.dicom(burned_in.scan(seed + 2, NAME), burned_in.SECONDARY, "OT"),
        "yes.dcm": burned_in.dicom(burned_in.scan(seed + 3, NAME), BurnedInAnnotation="YES"),
    }


def stored(folder: Path, seed: int) -> Path:
    folder.mkdir()
    for name, data in files(seed).items():
        (folder / name).write_bytes(data)
    return folder


def waiting(system: System) -> list[dict[str, Any]]:
    """All that waits, page by page."""
    images: list[dict[str, Any]] = []
    cursor: int | None = 0
    while cursor is not None:
        params = {"limit": 2, "cursor": cursor}
        page = system.http.get("/v1/quarantine", params=params).raise_for_status().json()
        images, cursor = images + page["images"], page["cursor"]
    assert page["count"] == len(images)
    return images


def post(system: System, path: str, body: Any = None, status: int = 200) -> Any:
    answer = system.http.post(f"/v1/quarantine/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def counts(view: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = view["counts"]
    assert sum(found.values()) == view["total"], view
    return found


def modality(image: dict[str, Any]) -> str:
    return str(image["metadata"]["modality"])


def folders(system: System) -> list[Path]:
    return [path for path in (system.blobs / "quarantine").rglob("*") if path.is_file()]


def test_what_is_suspect_waits_and_leaves_by_release_mask_or_refusal(
    system: System, tmp_path: Path
) -> None:
    before = system.count()
    folder = stored(tmp_path / "scans", 10)

    job = system.ingest(folder)

    assert counts(job) == {"embedded": 1, "quarantined": 3}
    assert (job["quarantined"], job["state"]) == (3, "succeeded")
    images = waiting(system)
    assert sorted(map(modality, images)) == ["CT", "OT", "US"]
    assert len({image["reason"] for image in images}) == 3
    assert system.count() == before + 1
    assert {image["image_id"] for image in images}.isdisjoint(
        image["image_id"] for image in system.indexed()
    )
    # What an admin sees is the whole picture, and what would be embedded.
    us, sc, yes = (next(i for i in images if modality(i) == m) for m in ("US", "OT", "CT"))
    answer = system.http.get(us["picture_url"])
    assert answer.headers["Cache-Control"] == "no-store"
    seen = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert seen.shape == (burned_in.HEIGHT, burned_in.WIDTH)
    assert seen[: burned_in.BAND].max() == 255
    assert system.http.get(us["preview_url"]).headers["Content-Type"] == "image/jpeg"

    assert counts(system.ingest(folder)) == {"unchanged": 1, "quarantined": 3}
    assert len(waiting(system)) == 3

    released = system.finished(post(system, "release", {"image_ids": [yes["image_id"]]}, 202)["id"])
    assert counts(released) == {"embedded": 1}
    path = f"{quote(us['image_id'], safe='')}/release"
    masked = system.finished(post(system, path, {"rectangles": [MASK]}, 202)["id"])
    assert counts(masked) == {"embedded": 1}
    assert post(system, "refuse", {"image_ids": [sc["image_id"]]}) == {"count": 1}

    assert waiting(system) == []
    assert folders(system) == []
    found = {image["image_id"]: image["payload"] for image in system.indexed()}
    assert found[us["image_id"]]["source"]["sha256"] == us["sha256"]
    assert found[us["image_id"]]["source"]["masked"] == 1
    assert found[us["image_id"]]["source"]["kind"] == "dataset"
    assert "blob" not in found[us["image_id"]]["source"]
    assert found[us["image_id"]]["patient_id"] == us["metadata"]["patient_id"]
    preview = system.http.get(f"/v1/images/{us['image_id']}/preview").content
    shown = np.asarray(Image.open(io.BytesIO(preview)).convert("L"))
    assert shown[: burned_in.BAND - 2].max() < 16

    again = system.ingest(folder)
    assert counts(again) == {"unchanged": 3, "rejected": 1}
    [rejected] = system.http.get(f"/v1/jobs/{again['id']}/rejections").json()["rejections"]
    assert rejected["image_id"] == sc["image_id"]
    assert "quarantine allow" in rejected["reason"]
    assert post(system, "allow", {"image_ids": [sc["image_id"]]}) == {"count": 1}
    assert counts(system.ingest(folder)) == {"unchanged": 3, "quarantined": 1}
    post(system, "refuse", {"image_ids": [sc["image_id"]]})


def test_a_dry_run_and_an_upload_count_the_same_and_a_dry_run_stores_nothing(
    system: System,
) -> None:
    parts = [("files", (name, data)) for name, data in files(20).items()]
    answer = system.http.post("/v1/images?dry_run=true", files=parts).raise_for_status()
    assert counts(system.finished(answer.json()["id"])) == {"embedded": 1, "quarantined": 3}
    assert waiting(system) == []

    answer = system.http.post("/v1/images", files=parts).raise_for_status()
    assert counts(system.finished(answer.json()["id"])) == {"embedded": 1, "quarantined": 3}
    images = waiting(system)
    assert {image["source"]["kind"] for image in images} == {"upload"}
    assert post(system, "refuse", {"image_ids": [i["image_id"] for i in images]}) == {"count": 3}
    metrics = system.http.get("/metrics").text
    assert f'kindred_quarantined_images{{collection="{system.collection}"}} 0.0' in metrics


@pytest.mark.parametrize("by", ["patient", "filter", "image"])
def test_a_deletion_takes_what_waits(system: System, tmp_path: Path, by: str) -> None:
    folder = stored(tmp_path / "scans", {"patient": 30, "filter": 40, "image": 50}[by])
    assert counts(system.ingest(folder))["quarantined"] == 3
    [us] = [image for image in waiting(system) if modality(image) == "US"]
    patient = us["metadata"]["patient_id"]
    indexed = [i for i in system.indexed() if i["payload"].get("patient_id") == patient]
    assert len(indexed) == 1
    condition = {"must": [{"key": "patient_id", "match": {"value": patient}}]}
    wanted: dict[str, Any] = {
        "patient": {"field": "patient_id", "value": patient},
        "filter": {"filter": condition},
        "image": {"image_ids": [us["image_id"]]},
    }[by]
    expected = {us["image_id"]} | ({indexed[0]["image_id"]} if by != "image" else set())

    headers = {"Prefer": "wait=60"}
    done = system.http.post("/v1/deletions", json=wanted, headers=headers).json()

    assert (done["state"], set(done["image_ids"])) == ("succeeded", expected), done
    assert done["deleted"] == len(expected)
    left = waiting(system)
    assert sorted(map(modality, left)) == ["CT", "OT"]
    assert len(folders(system)) == 3 * 2
    assert system.http.get(us["picture_url"]).status_code == 404
    again = counts(system.ingest(folder))
    assert again["quarantined"] == 2
    assert again["rejected"] == len(expected)
    post(system, "refuse", {"image_ids": [image["image_id"] for image in left]})


def test_what_cannot_be_done_is_said(system: System, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    data = burned_in.dicom(burned_in.scan(60), burned_in.ULTRASOUND, "US")
    (tmp_path / "scans" / "us.dcm").write_bytes(data)
    system.ingest(tmp_path / "scans")
    [image] = waiting(system)
    name = image["image_id"]

    def refused(path: str, body: Any) -> int:
        return int(system.http.post(f"/v1/quarantine/{path}", json=body).status_code)

    beside = {"left": burned_in.WIDTH, "top": 0, "width": 5, "height": 5}
    assert refused(f"{name}/release", {"rectangles": [beside]}) == 422
    assert refused("release", {"image_ids": [name, name]}) == 422
    assert refused("release", {"image_ids": [name, "unknown"]}) == 404
    assert refused("refuse", {"image_ids": ["unknown"]}) == 404
    assert [each["releasing"] for each in waiting(system)] == [None]
    # While it is being released, nobody else decides about it.
    system.worker.send(signal.SIGSTOP)
    try:
        job = post(system, "release", {"image_ids": [name]}, 202)["id"]
        assert [each["releasing"] for each in waiting(system)] == [job]
        assert refused("release", {"image_ids": [name]}) == 409
        assert refused(f"{name}/refuse", None) == 409
    finally:
        system.worker.send(signal.SIGCONT)
    assert counts(system.finished(job)) == {"embedded": 1}
    until(lambda: waiting(system) == [], "an empty quarantine")


def test_the_audit_log_says_who_saw_and_who_decided(system: System) -> None:
    lines = [
        json.loads(line) for line in (system.folder / "logs/audit.jsonl").read_text().splitlines()
    ]
    calls = {line["call"] for line in lines}
    assert "GET /v1/quarantine/{image_id}/picture" in calls
    released = [line for line in lines if line["call"] == "POST /v1/quarantine/release"]
    assert all(line["images"] for line in released if line["status"] == 202)
    assert any(line.get("job") for line in released)
    assert any(line["call"] == "GET /v1/quarantine" and line.get("shown") for line in lines), (
        "what a list has shown"
    )


def test_no_name_lies_anywhere_but_in_what_waits(system: System) -> None:
    """The names of files' headers are in no blob, log or backup of ours, nor in Redis."""
    for path, data in contents(system.folder):
        assert burned_in.PATIENT.encode() not in data, path


def test_a_backup_has_what_waits_and_what_was_refused(
    system: System, encoder: Path, tmp_path: Path
) -> None:
    folder = stored(tmp_path / "scans", 70)
    system.ingest(folder)
    us, sc, yes = (next(i for i in waiting(system) if modality(i) == m) for m in ("US", "OT", "CT"))
    assert us["image_id"] in run(system, "quarantine")
    run(system, "quarantine", "refuse", sc["image_id"], "--yes")
    run(system, "backup", tmp_path / "copy")
    picture = system.http.get(us["picture_url"]).content
    run(system, "quarantine", "show", us["image_id"], "--picture", tmp_path / "us.png")
    assert (tmp_path / "us.png").read_bytes() == picture
    for image in (us, yes):
        system.http.post(f"/v1/quarantine/{image['image_id']}/refuse").raise_for_status()

    done = restore(tmp_path / "copy", DATA=str(tmp_path / "data"), COLLECTION=system.collection)
    assert done.returncode == 0, done.stderr
    ours = {"COLLECTION": system.collection, "DICOM_OCR": "all"}
    with System(tmp_path / "data", encoder, embedded=True, **ours) as other:
        assert {i["image_id"] for i in waiting(other)} == {us["image_id"], yes["image_id"]}
        assert other.http.get(us["picture_url"]).content == picture
        again = other.ingest(folder)
        assert counts(again) == {"unchanged": 1, "quarantined": 2, "rejected": 1}
        rectangle = "0,0,{width},{height}".format(**MASK)
        told = run(other, "quarantine", "mask", us["image_id"], "--rectangle", rectangle, "--json")
        [job] = json.loads(told)["jobs"]
        assert counts(other.finished(job["id"])) == {"embedded": 1}
        run(other, "quarantine", "allow", sc["image_id"])
        assert counts(other.ingest(folder)) == {"unchanged": 2, "quarantined": 2}
        _finds_text(other, tmp_path)


def _finds_text(system: System, tmp_path: Path) -> None:
    """Nobody suspects these files: only what is read in their pixels."""
    burned_in.need_tesseract()
    (tmp_path / "more").mkdir()
    for name, text in (("plain", ""), ("named", NAME)):
        data = burned_in.dicom(burned_in.scan(80, text), PatientID="P80")
        (tmp_path / "more" / f"{name}.dcm").write_bytes(data)

    assert counts(system.ingest(tmp_path / "more")) == {"embedded": 1, "quarantined": 1}

    [image] = [i for i in waiting(system) if "found" in i["reason"]]
    found = image["rectangles"]
    assert found, "where the text is"
    assert all(each["top"] + each["height"] <= burned_in.BAND + 8 for each in found)
    assert counts(system.ingest(tmp_path / "more")) == {"unchanged": 1, "quarantined": 1}


def test_a_killed_worker_loses_nothing_on_either_way(system: System, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for seed in range(48):
        data = burned_in.dicom(burned_in.scan(100 + seed), burned_in.ULTRASOUND, "US")
        (tmp_path / "scans" / f"{seed}.dcm").write_bytes(data)
    before = system.count()

    job = system.submit(tmp_path / "scans")["id"]
    _kill_twice(system, job, "quarantined")
    assert counts(system.finished(job)) == {"quarantined": 48}
    images = waiting(system)
    assert len({image["image_id"] for image in images}) == 48
    assert len(folders(system)) == 48 * 3
    assert (system.count(), system.job(job)["state"]) == (before, "succeeded")

    ids = [image["image_id"] for image in images]
    job = post(system, "release", {"image_ids": ids, "rectangles": [MASK]}, 202)["id"]
    _kill_twice(system, job, "embedded")
    assert counts(system.finished(job)) == {"embedded": 48}
    until(lambda: waiting(system) == [], "an empty quarantine")
    assert system.count() == before + 48
    until(lambda: folders(system) == [], "no blob left")


def _kill_twice(system: System, job: str, outcome: str) -> None:
    for _ in range(2):
        seen = system.job(job)[outcome]
        until(
            lambda seen=seen: system.job(job)[outcome] > seen or system.job(job)["final"],
            "more progress",
        )
        kill(system.worker)
        system.worker.start()
    system.wait_ready()
