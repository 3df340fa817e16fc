"""STOW-RS from real clients: dicomweb-client, a chunked sender, and Orthanc."""

import http.client
import random
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from dicomweb_client import DICOMwebClient
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from tests.orthanc import orthanc
from tests.system import System, kill, until


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("stow")
    with System(folder, encoder, INCOMING_FREE_MB="0") as system:
        yield system


def read(name: str) -> Dataset:
    return dcmread(str(get_testdata_file(name, download=False)))


def copies(count: int) -> list[Dataset]:
    """Instances of one study, each with other pixels."""
    drawn, study, made = random.Random(count), generate_uid(), []
    for _ in range(count):
        dataset = read("CT_small.dcm")
        dataset.StudyInstanceUID = study
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.PixelData = drawn.randbytes(len(dataset.PixelData))
        made.append(dataset)
    return made


def encoded(dataset: Dataset) -> bytes:
    out = BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def grows(system: System, by: int) -> Any:
    """Waits until so many more images are indexed than when it was called."""
    before = system.count()
    return lambda: until(lambda: system.count() == before + by, f"{by} more images")


def test_dicomweb_client_stores(system: System) -> None:
    client, grown = DICOMwebClient(f"{system.http.base_url}/dicom-web"), grows(system, 3)
    files = copies(3)
    answer = client.store_instances(files)
    assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == [
        each.SOPInstanceUID for each in files
    ]
    grown()
    study = files[0].StudyInstanceUID
    mixed = client.store_instances([files[0], read("MR_small.dcm")], study)
    assert [item.FailureReason for item in mixed.FailedSOPSequence] == [0xA901]
    assert len(mixed.ReferencedSOPSequence) == 1


def test_a_chunked_request_is_taken_as_it_comes(system: System) -> None:
    grown, files = grows(system, 12), copies(12)
    drawn = random.Random(1)

    def body() -> Iterator[bytes]:
        for each in files:
            part = b"\r\n--edge\r\nContent-Type: application/dicom\r\n\r\n" + encoded(each)
            while part:
                size = drawn.randint(1, 9000)
                yield part[:size]
                part = part[size:]
        yield b"\r\n--edge--\r\n"

    connection = http.client.HTTPConnection("127.0.0.1", system.port, timeout=120)
    kind = "multipart/related; type=application/dicom; boundary=edge"
    connection.request(
        "POST", "/dicom-web/studies", body(), {"Content-Type": kind}, encode_chunked=True
    )
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()
    grown()


def test_what_was_said_to_be_stored_outlives_a_kill_of_the_api(system: System) -> None:
    grown = grows(system, 4)
    client = DICOMwebClient(f"{system.http.base_url}/dicom-web")
    assert len(client.store_instances(copies(4)).ReferencedSOPSequence) == 4
    kill(system.api)
    system.api.start()
    system.wait_ready()
    grown()


def test_orthanc_stores(system: System, tmp_path: Path) -> None:
    peer = {"Url": f"{system.http.base_url}/dicom-web/", "ChunkedTransfers": True}
    web = {"Enable": True, "Root": "/dicom-web/", "Servers": {"kindred": peer}}
    grown, files = grows(system, 5), copies(5)
    with orthanc(tmp_path / "orthanc", DicomWeb=web) as archive:
        ids = archive.upload(map(encoded, files))
        wanted = {"Resources": ids, "Synchronous": True}
        answer = archive.http.post("/dicom-web/servers/kindred/stow", json=wanted)
        assert answer.status_code == 200, answer.text
    grown()
    uids = [str(each.SOPInstanceUID) for each in files]
    assert not any(uid in system.logs() for uid in uids)
