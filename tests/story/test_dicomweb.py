"""From a real archive, Orthanc, by QIDO-RS and WADO-RS: all of it, and through faults."""

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from tests.orthanc import Orthanc, orthanc
from tests.system import System, contents, kill, until

PASSWORD = "a-secret-of-the-archive"
CT, FRAMES = 24, 10
ALL = CT + FRAMES


def read(name: str) -> Dataset:
    return dcmread(str(get_testdata_file(name, download=False)))


def encoded(dataset: Dataset) -> bytes:
    out = BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def instances() -> Iterator[Dataset]:
    """Two studies of CT, one of several frames, and a report."""
    drawn = random.Random(5)
    for year in (2024, 2025):
        study, series = generate_uid(), generate_uid()
        for _ in range(CT // 2):
            made = read("CT_small.dcm")
            made.StudyInstanceUID, made.SeriesInstanceUID = study, series
            made.StudyDate, made.PatientName = f"{year}0131", "SMITH^ANNA"
            made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            made.PixelData = drawn.randbytes(len(made.PixelData))
            yield made
    yield read("emri_small.dcm")
    yield read("reportsi.dcm")


@pytest.fixture(scope="module")
def files() -> list[Dataset]:
    return list(instances())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, files: list[Dataset]) -> Iterator[Orthanc]:
    users = {"AuthenticationEnabled": True, "RegisteredUsers": {"kindred": PASSWORD}}
    with orthanc(tmp_path_factory.mktemp("orthanc"), ("kindred", PASSWORD), **users) as archive:
        archive.upload(map(encoded, files))
        yield archive


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, encoder: Path, archive: Orthanc
) -> Iterator[System]:
    known = f'{{"127.0.0.1:{archive.http.base_url.port}": "kindred:{PASSWORD}"}}'
    folder = tmp_path_factory.mktemp("from-archive")
    settings = {"SOURCES": "/,dicomweb:127.0.0.1", "DICOMWEB_AUTH": known, "BATCH_SIZE": "4"}
    with System(folder, encoder, **settings) as system:
        yield system


def submit(system: System, archive: Orthanc, **more: Any) -> str:
    body = {"kind": "dicomweb", "url": archive.dicom_web, "rate": 500, **more}
    answer = system.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_all_images_of_an_archive_are_ingested(
    system: System, archive: Orthanc, files: list[Dataset]
) -> None:
    url = archive.dicom_web.replace("http://", "dicomweb://")
    command = [sys.executable, "-P", "-m", "cli", "ingest", url, "--rate", "500"]
    url_of_api = ["--url", f"http://127.0.0.1:{system.port}"]
    done = subprocess.run(
        [*command, *url_of_api], env=system.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert f"{ALL} = {ALL} embedded" in done.stdout
    assert "skipped 1 files: 1 dicom sr" in done.stdout
    payloads = [image["payload"] for image in system.indexed()]
    assert Counter(each["modality"] for each in payloads) == {"CT": CT, "MR": FRAMES}
    assert {each["source"]["kind"] for each in payloads} == {"dicomweb"}
    # They are the same images as those that are sent as files.
    parts = [("files", (f"{n}.dcm", encoded(each))) for n, each in enumerate(files[:-1])]
    sent = system.finished(system.http.post("/v1/images", files=parts).json()["id"])
    assert sent["unchanged"] == ALL


def test_nothing_of_a_patient_nor_of_a_user_is_at_rest(
    system: System, archive: Orthanc, files: list[Dataset]
) -> None:
    assert system.finished(submit(system, archive))["unchanged"] == ALL
    marks = {str(each.SOPInstanceUID) for each in files} | {"SMITH", PASSWORD}
    marks |= {str(each.StudyInstanceUID) for each in files}
    with system.client() as redis:
        redis.save()
    until(lambda: not list(system.blobs.rglob("rows")), "the end of the list of images")
    for path, data in contents(system.folder):
        for mark in marks:
            assert mark.encode() not in data, (path, mark)


def test_modality_and_date_choose(system: System, archive: Orthanc) -> None:
    assert system.finished(submit(system, archive, modality=["MR"]))["total"] == FRAMES
    of_2025 = system.finished(submit(system, archive, modality=["CT"], date="20250101-"))
    assert of_2025["total"] == CT // 2
    nothing = system.finished(submit(system, archive, date="19000101"))
    assert nothing["state"] == "failed"
    assert "nothing that fits" in nothing["error"]["detail"]


def test_an_archive_that_ends_in_the_middle_is_waited_for(system: System, archive: Orthanc) -> None:
    job = submit(system, archive, rate=8)
    until(lambda: 4 <= sum(system.job(job)["counts"].values()) < ALL, "some rows")
    kill(archive.process)
    until(lambda: "archive" in str(system.job(job)["notice"]), "a notice")
    archive.process.start()
    archive.wait()
    ended = system.finished(job)
    assert (ended["state"], ended["total"], ended["unchanged"]) == ("succeeded", ALL, ALL)


def test_a_worker_that_is_killed_goes_on_at_its_row(system: System, archive: Orthanc) -> None:
    job = submit(system, archive, rate=8)
    until(lambda: 4 <= sum(system.job(job)["counts"].values()) < ALL, "some rows")
    kill(system.worker)
    system.restart_worker()
    ended = system.finished(job)
    assert (ended["state"], ended["total"], ended["unchanged"]) == ("succeeded", ALL, ALL)


def test_an_instance_that_is_gone_costs_its_own_rows(
    system: System, archive: Orthanc, files: list[Dataset]
) -> None:
    job = submit(system, archive, rate=4, modality=["CT"])
    until(lambda: system.job(job)["state"] == "running", "a plan")
    found = archive.http.post(
        "/tools/find", json={"Level": "Instance", "Query": {"Modality": "CT"}}
    )
    *_, last = found.json()
    data = archive.http.get(f"/instances/{last}/file").content
    archive.http.delete(f"/instances/{last}").raise_for_status()
    ended = system.finished(job)
    archive.upload([data])
    assert (ended["unchanged"], ended["rejected"]) == (CT - 1, 1)
    [rejection] = system.http.get(f"/v1/jobs/{job}/rejections").json()["rejections"]
    assert rejection["reason"] == "the archive does not have it any more"
    assert rejection["name"] is None


def test_outside_of_its_hours_a_job_waits(system: System, archive: Orthanc) -> None:
    hour = datetime.now().astimezone().hour
    job = submit(system, archive, hours=f"{(hour + 2) % 24}-{(hour + 3) % 24}")
    until(lambda: "hours" in str(system.job(job)["notice"]), "a notice")
    system.http.post(f"/v1/jobs/{job}/cancel").raise_for_status()


def test_an_archive_that_is_not_named_is_refused(system: System, archive: Orthanc) -> None:
    for url in ("http://localhost:1/dicom-web", "http://169.254.169.254/latest"):
        answer = system.http.post("/v1/jobs", json={"kind": "dicomweb", "url": url})
        assert answer.status_code == 422
        assert "KINDRED_SOURCES" in answer.json()["detail"]
