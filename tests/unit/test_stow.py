"""STOW-RS as PS3.18 10.5 has it: what is stored, what fails and why, and how that is said."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from api.incoming import Incoming
from api.routes import stow
from api.stored import JSON, XML
from pipeline.base.errors import BlobsUnavailable
from pipeline.base.related import MediaType, Parts
from tests.memory_api import MemoryApi

STUDIES = "/dicom-web/studies"


def read(name: str) -> Dataset:
    return dcmread(str(get_testdata_file(name, download=False)))


def encoded(dataset: Dataset) -> bytes:
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


@pytest.fixture(scope="module")
def ct() -> Dataset:
    return read("CT_small.dcm")


@pytest.fixture
def api(tmp_path: Path) -> MemoryApi:
    return MemoryApi(tmp_path, incoming_free_mb=0)


def body(files: Sequence[bytes], kind: str = "application/dicom") -> bytes:
    made = (f"--B\r\nContent-Type: {kind}\r\n\r\n".encode() + data + b"\r\n" for data in files)
    return b"".join(made) + b"--B--\r\n"


def post(api: MemoryApi, files: Sequence[bytes], path: str = STUDIES, **headers: str) -> Any:
    kind = 'multipart/related; type="application/dicom"; boundary=B'
    return api.http.post(path, content=body(files), headers={"Content-Type": kind, **headers})


def reasons(answer: Any) -> list[int]:
    failed = answer.json().get("00081198", {}).get("Value", [])
    return [item["00081197"]["Value"][0] for item in failed]


def stored(answer: Any) -> list[str]:
    found = answer.json().get("00081199", {}).get("Value", [])
    return [item["00081155"]["Value"][0] for item in found]


def received(api: MemoryApi) -> int:
    return api.ledger.incoming.count()


# --- what becomes of instances -------------------------------------------------------------------


def test_200_says_that_all_were_stored(api: MemoryApi, ct: Dataset) -> None:
    answer = post(api, [encoded(ct), encoded(read("MR_small.dcm"))])
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == JSON
    assert stored(answer)[0] == ct.SOPInstanceUID and len(stored(answer)) == 2
    assert "00081198" not in answer.json()
    assert received(api) == 2


def test_202_says_which_failed_and_why(api: MemoryApi, ct: Dataset) -> None:
    report = read("reportsi.dcm")
    answer = post(api, [encoded(ct), encoded(report), b"no DICOM at all"])
    assert answer.status_code == 202, answer.text
    assert stored(answer) == [ct.SOPInstanceUID]
    [failed] = answer.json()["00081198"]["Value"]
    assert failed["00081150"]["Value"] == [report.SOPClassUID]
    assert failed["00081155"]["Value"] == [report.SOPInstanceUID]
    assert failed["00081197"] == {"vr": "US", "Value": [0x0122]}
    [other] = answer.json()["0008119A"]["Value"]
    assert other == {"00081197": {"vr": "US", "Value": [0xC000]}}
    assert received(api) == 1


def test_409_says_that_none_was_stored(api: MemoryApi) -> None:
    answer = post(api, [b"no DICOM at all"])
    assert answer.status_code == 409
    assert answer.headers["Content-Type"] == JSON
    assert "00081199" not in answer.json()
    assert received(api) == 0


def test_instances_of_another_study_fail(api: MemoryApi, ct: Dataset) -> None:
    others = read("MR_small.dcm")
    answer = post(api, [encoded(ct), encoded(others)], f"{STUDIES}/{ct.StudyInstanceUID}")
    assert answer.status_code == 202
    assert stored(answer) == [ct.SOPInstanceUID]
    assert reasons(answer) == [0xA901]
    assert post(api, [encoded(ct)], f"{STUDIES}/1.2.3").status_code == 409


def test_a_single_instance_needs_no_parts(api: MemoryApi, ct: Dataset) -> None:
    kind = {"Content-Type": "application/dicom"}
    answer = api.http.post(STUDIES, content=encoded(ct), headers=kind)
    assert answer.status_code == 200
    assert stored(answer) == [ct.SOPInstanceUID]


def test_a_truncated_instance_fails(api: MemoryApi, ct: Dataset) -> None:
    assert post(api, [encoded(ct)[:400]]).status_code == 409


def test_a_part_of_another_kind_fails(api: MemoryApi, ct: Dataset) -> None:
    kind = 'multipart/related; type="application/dicom"; boundary=B'
    sent = body([encoded(ct)], "text/plain")
    answer = api.http.post(STUDIES, content=sent, headers={"Content-Type": kind})
    assert answer.status_code == 409


def test_a_part_that_is_too_large_fails_and_the_others_do_not(
    api: MemoryApi, ct: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stow, "MAX_FILE", len(encoded(ct)))
    answer = post(api, [encoded(ct), encoded(ct) + bytes(100)])
    assert answer.status_code == 202
    assert answer.json()["0008119A"]["Value"] == [{"00081197": {"vr": "US", "Value": [0xA700]}}]


# --- how it is said ------------------------------------------------------------------------------


def test_the_answer_can_be_xml(api: MemoryApi, ct: Dataset) -> None:
    answer = post(api, [encoded(ct), encoded(read("reportsi.dcm"))], Accept=XML)
    assert answer.headers["Content-Type"] == XML
    root = ElementTree.fromstring(answer.content)  # noqa: S314 - our own
    path = "DicomAttribute[@keyword='FailedSOPSequence']/Item/DicomAttribute[@tag='00081197']/Value"
    assert [each.text for each in root.findall(path)] == ["290"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", JSON),
        (JSON, JSON),
        ("application/json", JSON),
        ("text/html, application/dicom+xml;q=0.9", XML),
        ("text/html", None),
    ],
)
def test_the_answer_has_a_kind_that_was_asked_for(
    api: MemoryApi, ct: Dataset, accept: str, kind: str | None
) -> None:
    answer = post(api, [encoded(ct)], Accept=accept)
    assert answer.status_code == (406 if kind is None else 200)
    assert kind is None or answer.headers["Content-Type"] == kind


@pytest.mark.parametrize(
    ("kind", "sent", "status"),
    [
        ("multipart/form-data; boundary=B", body([b"x"]), 415),
        ("text/plain", b"x", 415),
        ('multipart/related; type="application/dicom+json"; boundary=B', body([b"x"]), 415),
        ('multipart/related; type="application/dicom"', body([b"x"]), 400),
        ("multipart/related; boundary=B", b"", 400),
        ("multipart/related; boundary=B", b"--B--\r\n", 400),
        ("multipart/related; boundary=B", b"nothing of the kind", 400),
        ("multipart/related; boundary=B", body([b"x"])[:-9], 400),
    ],
)
def test_a_body_that_is_none_is_refused(
    api: MemoryApi, kind: str, sent: bytes, status: int
) -> None:
    answer = api.http.post(STUDIES, content=sent, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert received(api) == 0


def test_a_request_has_a_limit_of_its_own(tmp_path: Path, ct: Dataset) -> None:
    api = MemoryApi(tmp_path, max_upload_mb=1, stow_mb=2, incoming_free_mb=0)
    files = [encoded(ct)] * 40
    assert 1_000_000 < sum(map(len, files)) < 2_000_000
    assert post(api, files).status_code == 200
    assert post(api, [*files, *files]).status_code == 413


# --- when nothing can be taken -------------------------------------------------------------------


def test_503_says_when_to_come_again(tmp_path: Path, ct: Dataset) -> None:
    api = MemoryApi(tmp_path, incoming_free_mb=10**9)
    answer = post(api, [encoded(ct)])
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert received(api) == 0


def test_what_was_stored_before_the_disk_was_full_is_said(
    api: MemoryApi, ct: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, room = Incoming.put, [1]

    def full(self: Incoming, data: bytes) -> str:
        if not room:
            raise BlobsUnavailable("No space left on device")
        room.pop()
        return put(self, data)

    monkeypatch.setattr(Incoming, "put", full)
    answer = post(api, [encoded(ct), encoded(read("MR_small.dcm"))])
    assert answer.status_code == 202
    assert stored(answer) == [ct.SOPInstanceUID]
    assert reasons(answer) == [0xA700]
    assert post(api, [encoded(ct)]).status_code == 503


def test_no_uid_is_in_a_log(api: MemoryApi, ct: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        post(api, [encoded(ct), b"x"], f"{STUDIES}/{ct.StudyInstanceUID}")
    ours = [each.getMessage() for each in caplog.records if not each.name.startswith("httpx")]
    assert str(ct.StudyInstanceUID) not in str(ours)
    audit = Path(api.settings.audit_file).read_text()
    assert '"call": "POST /dicom-web/studies/{study}"' in audit
    assert str(ct.StudyInstanceUID) not in audit


# --- parts, as they come -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
def test_parts_are_the_same_however_they_are_cut(size: int) -> None:
    sent = [b"", b"\r\n--", b"\r\n--B", b"--B\r\n" * 3, bytes(range(256)) * 9]
    whole = b"\r\n" + body(sent[:1] + [each.replace(b"--B", b"--C") for each in sent[1:]])

    reading = Parts("B", 10_000)
    cut = [whole[start : start + size] for start in range(0, len(whole), size)]
    found = [part.data for piece in cut for part in reading.feed(piece)]
    reading.close()
    assert found == [each.replace(b"--B", b"--C") for each in sent]


def test_a_media_type_is_read_in_any_case() -> None:
    kind = MediaType.of('Multipart/Related; TYPE="application/dicom"; Boundary="a b"')
    assert kind.name == "multipart/related"
    assert kind.parameters == {"type": "application/dicom", "boundary": "a b"}
    assert MediaType.of("").name == ""
