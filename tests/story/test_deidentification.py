"""Of DICOM files nothing stays but what is allowed: marks are planted and looked for everywhere."""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.planted import (
    ACCESSION,
    PATIENT,
    ROOT,
    marked,
    marks_in,
    plain,
    planted,
    zipped,
)
from tests.story.test_parity import run
from tests.system import System, until

SR = "1.2.840.10008.5.1.4.1.1.88.22"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deidentification")


@pytest.fixture(scope="module")
def scans(place: Path) -> Path:
    """A patient's folder: five images in four files, and what is none."""
    root = place / "scans"
    folder = root / "QZ40001X" / "QZ40002X"
    folder.mkdir(parents=True)
    (folder / "QZ40003X.dcm").write_bytes(planted(1))
    (folder / "QZ40004X").write_bytes(planted(2, frames=2, StudyDate="20230102"))
    (folder / "QZ40005X.dcm").write_bytes(planted(3, SOPClassUID=SR))
    (folder / "QZ40006X.dcm").write_bytes(planted(4)[:3000])  # cut within its header
    (folder / "QZ40007X.dcm").write_bytes(b"")
    (folder / "QZ40008X.txt").write_text("a letter about QZ40009X")
    members = {"QZ40010X/QZ40011X.dcm": planted(5), "QZ40012X.dcm": planted(6, SOPClassUID=PDF)}
    (root / "QZ40013X.zip").write_bytes(zipped(members))
    other = {"PatientID": "else", "AccessionNumber": "other", "StudyInstanceUID": "1.2.3.4.5.9"}
    (root / "other.dcm").write_bytes(plain(7, **other))
    return root


@pytest.fixture(scope="module")
def system(place: Path, encoder: Path) -> Iterator[System]:
    temporary = place / "temporary"
    temporary.mkdir()
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(temporary)  # of the system's processes, which are searched as well
    try:
        running = System(place / "data", encoder)
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
    with running:
        yield running


def in_redis(system: System) -> set[bytes]:
    client = system.client()
    found: set[bytes] = set()
    for key in client.scan_iter("*"):
        read: Any = {
            "string": client.get, "hash": client.hgetall, "set": client.smembers,
            "zset": lambda name: client.zrange(name, 0, -1),
            "list": lambda name: client.lrange(name, 0, -1),
        }[client.type(key)]  # fmt: skip
        found |= marks_in(f"{key} {read(key)}".encode())
    client.close()
    return found


def in_backup(folder: Path) -> set[bytes]:
    """What Redis has dumped is in base64 there."""
    values = (
        json.loads(line).get("value") for line in (folder / "ledger.jsonl").read_text().splitlines()
    )
    return {mark for value in values if value for mark in marks_in(base64.b64decode(value))}


def everything_said_of(system: System, job: str) -> str:
    paths = ("", "/rejections", "/skipped", "/deidentification")
    return "".join(system.http.get(f"/v1/jobs/{job}{path}").text for path in paths)


def test_no_mark_is_left_anywhere(system: System, scans: Path, place: Path) -> None:
    view = system.ingest(scans)

    said = everything_said_of(system, view["id"])
    assert (view["total"], view["embedded"], view["rejected"]) == (7, 5, 2), said
    assert view["skipped"] == {"archive": 1, "dicom pdf": 1, "dicom sr": 1, "text": 1}
    assert marks_in(said.encode()) == set()
    # Uploads, a whole folder with its archive.
    files = [
        ("files", (f"QZ40020X/QZ4002{number}X.dcm", data))
        for number, data in enumerate((planted(1), planted(8), planted(9)[:2500]), 1)
    ]
    files.append(("files", ("QZ40024X.zip", zipped({"QZ40025X": planted(10)}))))
    sent = system.http.post("/v1/images", files=files)
    uploaded = system.finished(sent.json()["id"])
    counts = [uploaded[name] for name in ("embedded", "unchanged", "rejected")]
    assert counts == [2, 1, 1], everything_said_of(system, uploaded["id"])
    assert marks_in(everything_said_of(system, uploaded["id"]).encode()) == set()
    # Searches by such a file, and by the numbers that its patient is known by.
    [hit, *_] = system.search([planted(8)])["results"]
    assert hit["score"] > 0.999
    for field, value in (
        ("patient_id", PATIENT), ("accession_id", ACCESSION), ("study_id", f"{ROOT}.7"),
    ):  # fmt: skip
        condition = {"must": [{"key": field, "match": {"value": value}}]}
        assert system.facets(condition)["count"] == 6, field
        found = system.search(image_id=hit["image_id"], filter=condition)["results"]
        assert len(found) == 6, field
    assert system.search(image_id=f"{ROOT}.9.8")["results"]
    assert system.http.get(f"/v1/images/{ROOT}.9.8").json()["image_id"] == hit["image_id"]
    assert system.http.get(f"/v1/images/{ROOT}.9.8/preview").status_code == 200
    assert system.http.get(f"/v1/images/{ROOT}.9.404").status_code == 404
    # What a department's own table says is its own choice, and its key is not kept.
    images = system.indexed()
    payloads = json.dumps([image["payload"] for image in images])
    assert marks_in(payloads.encode()) == set()
    assert not any("name" in image["payload"]["source"] for image in images)
    assert marks_in(system.http.get("/metrics").content) == set()

    until(lambda: not marked(system.folder), f"the end of {marked(system.folder)}", 30)
    assert in_redis(system) == set()
    assert marked(place / "temporary") == {}
    # The same search for what may stay finds it, so it would have found the others.
    [one] = [each["payload"] for each in images if each["payload"].get("frame") == 2]
    kept = {"CR", "CHEST", "Siemens", one["patient_id"], one["study_id"], one["instance_id"]}
    stored = b"".join(path.read_bytes() for path in system.folder.rglob("*") if path.is_file())
    assert {value for value in kept if value.encode() not in stored} == set()
    assert (one["study_year"], one["age"], one["sex"]) == (2023, 67, "F")
    # A backup has no more.
    run(system, "backup", place / "backup")
    assert marked(place / "backup") == {}
    assert in_backup(place / "backup") == set()
    ledger = (place / "backup" / "ledger.jsonl").read_text()
    assert "kindred:kindred:pseudonyms" in ledger


def test_the_report_counts_what_was_kept_and_what_was_dropped(
    system: System, scans: Path, place: Path
) -> None:
    job = next(job for job in system.http.get("/v1/jobs").json()["jobs"] if job["dataset"])

    report = run(system, "deidentify-report", job["id"])

    assert "4 DICOM files with 5 frames became rows; 1 refused, 0 quarantined" in report
    found = system.http.get(f"/v1/jobs/{job['id']}/deidentification").json()
    assert found["skipped"] == {"dicom pdf": 1, "dicom sr": 1}
    assert (found["kept"]["PatientID"], found["kept"]["Modality"]) == (4, 4)
    assert found["dropped"]["PatientName"] == 3
    assert found["dropped"]["OverlayData"] == 6
    assert "PatientName" not in found["kept"]
    # An admin who has the folder finds a file by what the lists call it.
    files = run(system, "deidentify-report", job["id"], "--folder", scans)
    assert "QZ40001X/QZ40002X/QZ40006X.dcm" in files
    assert "QZ40013X.zip/QZ40012X.dcm" in files


def test_a_patient_is_deleted_by_the_original_number_after_the_key_was_rotated(
    system: System, scans: Path, place: Path
) -> None:
    before = system.count()
    assert "2, of which the newest" in run(system, "pseudonyms", "rotate", "--yes")
    # What is stored under the old key is told from new images, and is not embedded again.
    again = system.ingest(scans)
    assert (again["embedded"], again["updated"] + again["unchanged"]) == (0, 5)
    assert system.ingest(scans)["unchanged"] == 5
    assert system.count() == before
    (place / "later").mkdir()
    (place / "later" / "one.dcm").write_bytes(planted(20))
    assert system.ingest(place / "later")["embedded"] == 1

    wanted = {"field": "patient_id", "value": PATIENT}
    gone = system.http.post("/v1/deletions", json=wanted, headers={"Prefer": "wait=60"}).json()

    assert (gone["state"], gone["count"]) == ("succeeded", 7), gone
    assert system.count() == 1
    assert marks_in(json.dumps(gone).encode()) == set()
    # Nothing of the patient comes back, under any key.
    run(system, "pseudonyms", "rotate", "--yes")
    (place / "later" / "two.dcm").write_bytes(planted(21))
    late = system.ingest(place / "later")
    assert (late["embedded"], late["rejected"]) == (0, 2)
    until(lambda: not marked(system.folder), f"the end of {marked(system.folder)}", 30)
    assert in_redis(system) == set()


def test_an_image_is_deleted_by_its_uid(system: System, place: Path) -> None:
    folder = place / "by uid"
    folder.mkdir()
    other = {"PatientID": "P", "AccessionNumber": "A", "StudyInstanceUID": "1.2.3.4.5.6"}
    (folder / "one.dcm").write_bytes(plain(30, **other))
    (folder / "two.dcm").write_bytes(planted(31, frames=3, **other, SeriesInstanceUID="1.2.3.4.7"))
    assert system.ingest(folder)["embedded"] == 4
    before = system.count()
    one = system.http.delete(f"/v1/images/{ROOT}.9.30")
    assert (one.status_code, one.json()["count"]) == (200, 1)
    wanted = {"image_ids": [f"{ROOT}.9.31"]}
    all_frames = system.http.post("/v1/deletions", json=wanted, headers={"Prefer": "wait=60"})
    assert all_frames.json()["count"] == 3, all_frames.text
    assert system.count() == before - 4
    assert system.ingest(folder)["rejected"] == 4
    assert marks_in((system.folder / "logs" / "audit.jsonl").read_bytes()) == set()


def test_a_table_beside_says_the_diagnosis(system: System, place: Path) -> None:
    folder = place / "with table"
    folder.mkdir()
    for number, accession in ((40, "A-40"), (41, "A-41")):
        said = {"AccessionNumber": accession, "PatientID": f"P-{number}"}
        (folder / f"{number}.dcm").write_bytes(plain(number, **said))
    table = place / "diagnoses.csv"
    table.write_text("Accession Number;patient_id;dx\nA-40;P-40;nevus\nA-41;P-41;bcc\nA-42;P;x\n")

    view = system.ingest(folder, table=str(table))

    assert (view["embedded"], view["rejected"]) == (2, 1)
    told = system.http.get(f"/v1/jobs/{view['id']}/rejections").json()["rejections"]
    assert [each["reason"] for each in told] == [
        "diagnoses.csv, line 4, belongs to none of the DICOM files"
    ]
    found = system.http.get(f"/v1/images/{ROOT}.9.40").json()["payload"]
    assert found["dx"] == "nevus"
    assert "P-40" not in json.dumps(found)
    assert "A-40" not in json.dumps(found)
    # The same by upload, with the table read where it is.
    table.write_text("AccessionNumber,dx\nA-40,nevus\nA-41,bcc\n")
    out = run(system, "ingest", "--upload", folder, "--table", table)
    assert "2 = 0 embedded + 0 updated + 2 unchanged + 0 rejected" in out


def test_a_dicomdir_leads_nowhere_else(system: System, place: Path) -> None:
    from pydicom import Dataset

    from tests.planted import written

    disc = place / "disc"
    (disc / "IMAGES").mkdir(parents=True)
    (disc / "IMAGES" / "IM1").write_bytes(plain(50, PatientID="D", AccessionNumber="D"))
    (disc / "IMAGES" / "IM2").write_bytes(plain(51, PatientID="D", AccessionNumber="D"))
    (place / "outside.dcm").write_bytes(plain(52))
    (disc / "IMAGES" / "LINK").symlink_to(place / "outside.dcm")
    directory = Dataset()
    directory.SOPClassUID = "1.2.840.10008.1.3.10"
    directory.SOPInstanceUID = "1.2.3.4.5.50"
    paths = (["IMAGES", "IM1"], ["IMAGES", "LINK"], ["..", "outside.dcm"], ["IMAGES", "GONE"])
    directory.DirectoryRecordSequence = [_record(path) for path in paths]
    (disc / "DICOMDIR").write_bytes(written(directory))

    view = system.ingest(disc / "DICOMDIR")

    assert (view["embedded"], view["rejected"]) == (1, 3)
    told = system.http.get(f"/v1/jobs/{view['id']}/rejections").json()["rejections"]
    reasons = sorted(each["reason"].partition("it, and ")[2] for each in told)
    assert reasons == ["it is not in the DICOMDIR's folder"] * 2 + ["it is not there"]
    # A folder with one is walked as any folder.
    walked = system.ingest(disc)
    assert (walked["embedded"], walked["unchanged"]) == (2, 1)
    assert walked["skipped"] == {"dicom directory": 1}


def _record(path: list[str]) -> Any:
    from pydicom import Dataset

    record = Dataset()
    record.DirectoryRecordType = "IMAGE"
    record.ReferencedFileID = path
    return record


def test_originals_are_kept_only_if_asked_for(place: Path, encoder: Path) -> None:
    folder = place / "kept scans"
    folder.mkdir()
    (folder / "one.dcm").write_bytes(planted(60, frames=2))
    with System(place / "keeping", encoder, KEEP_DICOM="1") as system:
        assert system.ingest(folder)["embedded"] == 2
        sent = system.http.post("/v1/images", files=[("files", ("a.dcm", planted(61)))])
        assert system.finished(sent.json()["id"])["embedded"] == 1
        originals = [path for path in system.blobs.glob("originals/*/*") if path.is_file()]
        assert {path.read_bytes() for path in originals} == {planted(60, frames=2), planted(61)}
        run(system, "backup", place / "backup with originals")
        assert b"originals/" in (place / "backup with originals" / "blobs.tar").read_bytes()

        wanted = {"field": "patient_id", "value": PATIENT}
        system.http.post("/v1/deletions", json=wanted, headers={"Prefer": "wait=60"})

        assert system.count() == 0
        assert marked(system.folder) == {}
