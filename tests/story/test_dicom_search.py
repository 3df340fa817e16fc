"""Search by DICOM: a file, a frame, an original number, a series; the viewer's link; `/open`."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from cli import main
from pipeline.base.keys import KeyFile
from tests.system import System, contents

MARK = "PLANTED^NAME"
FILES = ("CT_small.dcm", "MR_small.dcm", "emri_small.dcm", "US1_J2KR.dcm", "JPEG2000.dcm")

pytestmark = pytest.mark.usefixtures("job")


def dataset(name: str) -> Dataset:
    return dcmread(str(get_testdata_file(name, download=False)))


def written(scan: Dataset) -> bytes:
    out = io.BytesIO()
    scan.save_as(out)
    return out.getvalue()


@pytest.fixture(scope="module")
def scans() -> dict[str, Dataset]:
    """Of each a study of its own, since some of the files share one; and a second MR series."""
    found = {name: dataset(name) for name in FILES}
    again = found["again"] = dataset("emri_small.dcm")
    again.PixelData = np.roll(again.pixel_array, 3, axis=1).tobytes()  # a head that has moved
    for number, scan in enumerate(found.values()):
        scan.PatientName, scan.PatientID = MARK, f"{MARK}-{number}"
        scan.StudyInstanceUID, scan.SeriesInstanceUID = generate_uid(), generate_uid()
        scan.SOPInstanceUID = scan.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        scan.AccessionNumber = f"ACC{number}"
    return found


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("system")
    viewer = "https://viewer.example/?StudyInstanceUIDs={study}&a={accession}"
    with System(folder, encoder, VIEWER_URL=viewer) as running:
        yield running


@pytest.fixture(scope="module")
def job(
    system: System, scans: dict[str, Dataset], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("scans")
    for name, scan in scans.items():
        (folder / name).write_bytes(written(scan))
    view = system.ingest(folder)
    # An ultrasound and a secondary capture wait for somebody to look at them.
    assert (view["embedded"], view["quarantined"]) == (22, 2), system.http.get(
        f"/v1/jobs/{view['id']}/rejections"
    ).text
    return view


def first(answer: dict[str, Any]) -> dict[str, Any]:
    assert answer["results"], answer
    hit: dict[str, Any] = answer["results"][0]
    return hit


def refused(system: System, data: bytes, query: str = "{}") -> dict[str, Any]:
    answer = system.http.post(
        "/v1/searches",
        files=[("image", data)],
        data={"query": query},
        headers={"Prefer": "wait=60"},
    )
    found: dict[str, Any] = answer.json()
    if answer.status_code == 200:  # what only a decoder finds out
        found = found["error"]
    assert found["status"] == 422, found
    return found


def test_a_file_finds_itself_by_its_middle_frame_or_the_one_that_is_named(
    system: System, scans: dict[str, Dataset]
) -> None:
    data = written(scans["emri_small.dcm"])
    middle, third = first(system.search([data])), first(system.search([data], frame=3))
    assert (middle["payload"]["frame"], third["payload"]["frame"]) == (5, 3)
    assert min(middle["score"], third["score"]) > 0.9999
    assert "frame" in str(refused(system, data, '{"frame": 11}')["errors"])


def test_nothing_of_the_file_stays(system: System, scans: dict[str, Dataset]) -> None:
    system.search([written(scans["CT_small.dcm"])])
    for path, data in contents(system.folder):
        assert MARK.encode() not in data, path
        assert "pictures" not in path.parts, path


def test_the_searched_image_is_known_by_its_bytes_and_by_its_uid(
    system: System, scans: dict[str, Dataset]
) -> None:
    scan = scans["CT_small.dcm"]
    own = first(system.search([written(scan)]))["image_id"]
    without = system.search([written(scan)], exclude_same_lesion=True, limit=50)["results"]
    assert own not in {hit["image_id"] for hit in without}
    changed = dcmread(io.BytesIO(written(scan)))
    changed.PatientName = "MARRIED^NAME"  # as an archive does
    without = system.search([written(changed)], exclude_same_lesion=True, limit=50)["results"]
    assert own not in {hit["image_id"] for hit in without}
    study = first(system.search([written(scan)]))["payload"]["study_id"]
    others = system.search([written(scan)], not_same="study_id", limit=50)["results"]
    assert study not in {hit["payload"]["study_id"] for hit in others}


def test_original_numbers_find_images_and_whole_series(
    system: System, scans: dict[str, Dataset]
) -> None:
    ct, mr = scans["CT_small.dcm"], scans["emri_small.dcm"]
    own = first(system.search(image_id=str(ct.SOPInstanceUID)))
    assert own["image_id"] == first(system.search([written(ct)]))["image_id"]
    image = system.http.get(f"/v1/images/{ct.SOPInstanceUID}").json()
    assert image["image_id"] == own["image_id"]
    assert system.http.get(f"/v1/images/{ct.SOPInstanceUID}/preview").status_code == 200

    whole = system.search(series=[str(mr.SeriesInstanceUID)], group_by="series_id")["results"]
    assert len({hit["payload"]["series_id"] for hit in whole}) == len(whole)
    assert whole[0]["score"] > 0.9999
    assert 1 <= whole[0]["payload"]["frame"] <= 10
    key = whole[0]["payload"]["series_id"]
    assert system.search(series=[key])["results"][0]["score"] > 0.9999
    # The other series of this head is found, and its own is not.
    other = first(system.search(study=[str(mr.StudyInstanceUID)], exclude_same_lesion=True))
    again = first(system.search([written(scans["again"])]))
    assert other["payload"]["series_id"] == again["payload"]["series_id"] != key
    assert first(system.search(accession=[mr.AccessionNumber]))["payload"]["series_id"] == key
    unknown = system.search(series=[str(generate_uid())])
    assert unknown["error"]["status"] == 404


def test_a_series_is_searched_by_its_files(system: System, scans: dict[str, Dataset]) -> None:
    files = [written(scans["emri_small.dcm"]), written(scans["MR_small.dcm"])]
    found = system.search(files, strategy="best_match", group_size=3)["results"]
    assert len(found[0]["others"]) == 2
    assert found[0]["own_score"] > 0.9999
    assert {hit["payload"]["modality"] for hit in found[:2]} == {"MR"}


@pytest.mark.parametrize("wrong", ["truncated", "report", "text"])
def test_a_bad_file_is_refused_with_its_reason(
    system: System, scans: dict[str, Dataset], wrong: str
) -> None:
    scan = dcmread(io.BytesIO(written(scans["CT_small.dcm"])))
    if wrong == "report":
        del scan.PixelData, scan.Rows
    data = written(scan)
    data = {"truncated": data[:-20_000], "text": b"DICM of a kind"}.get(wrong, data)
    assert refused(system, data)["detail"]


def test_the_command_line_searches_by_file_and_by_number(
    system: System,
    scans: dict[str, Dataset],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, url = tmp_path / "scan.dcm", f"http://127.0.0.1:{system.port}"
    file.write_bytes(written(scans["emri_small.dcm"]))
    uid = str(scans["emri_small.dcm"].SeriesInstanceUID)
    for options in (
        [str(file), "--frame", "3"],
        [str(file), "--whole"],
        ["--id", str(scans["CT_small.dcm"].SOPInstanceUID)],
        ["--series", uid],
        ["--study", str(scans["emri_small.dcm"].StudyInstanceUID)],
        ["--accession", "ACC2"],
    ):
        assert main.run(["search", *options, "--url", url, "--json"]) == 0, options
        assert first(json.loads(capsys.readouterr().out))["score"] > 0.9999, options


# --- the viewer's link ---------------------------------------------------------------------------


def test_an_admin_gets_the_viewers_link_and_nothing_else_has_the_number(
    system: System, scans: dict[str, Dataset]
) -> None:
    scan = scans["CT_small.dcm"]
    hit = first(system.search([written(scan)]))
    study = str(scan.StudyInstanceUID)
    assert hit["viewer"] == f"https://viewer.example/?StudyInstanceUIDs={study}&a=ACC0"
    image = system.http.get(f"/v1/images/{hit['image_id']}").json()
    assert image["viewer"] == hit["viewer"]
    grouped = system.search(image_id=hit["image_id"], group_by="series_id", group_size=2)
    assert all(study not in str(each["payload"]) for each in grouped["results"])
    assert "sealed" not in str(grouped) + str(image)
    lines = [json.loads(line) for line in audit(system).splitlines()]
    assert (
        hit["image_id"]
        in next(line for line in lines[::-1] if line["call"] == "POST /v1/searches")["reidentified"]
    )
    for path, data in contents(system.folder):
        assert study.encode() not in data, path


def test_nobody_can_ask_whether_there_is_a_seal(system: System) -> None:
    for key in ("source.sealed", 'source."sealed"'):
        condition = {"must_not": [{"is_empty": {"key": key}}]}
        answer = system.search(image_id=system.indexed()[0]["image_id"], filter=condition)
        assert answer["error"]["status"] == 422, answer


def test_a_frame_is_rendered_and_windowed(system: System, scans: dict[str, Dataset]) -> None:
    def rendered(name: str, **shown: Any) -> httpx.Response:
        form = {"files": [("image", written(scans[name]))], "data": {"shown": json.dumps(shown)}}
        return system.http.post("/v1/renderings", **form)  # type: ignore[arg-type]

    before = {*system.blobs.glob("requests/*")}
    usual = rendered("emri_small.dcm")
    assert usual.headers["Content-Type"] == "image/jpeg"
    assert (usual.headers["Kindred-Frame"], usual.headers["Kindred-Frames"]) == ("5", "10")
    centre, width = map(float, usual.headers["Kindred-Window"].split("/"))
    same = rendered("emri_small.dcm", frame=5, centre=centre, width=width)
    darker = rendered("emri_small.dcm", frame=5, centre=centre + width / 2, width=width)

    def mean(answer: httpx.Response) -> float:
        return float(np.asarray(Image.open(io.BytesIO(answer.content)).convert("L")).mean())

    assert mean(same) == pytest.approx(mean(usual), abs=2)
    assert mean(darker) < mean(usual) - 5
    assert rendered("emri_small.dcm", frame=11).status_code == 422
    assert "Kindred-Window" not in rendered("US1_J2KR.dcm").headers
    assert {*system.blobs.glob("requests/*")} == before, "a picture of a patient stays"
    bad = system.http.post("/v1/renderings", files=[("image", b"no picture")])
    assert bad.status_code == 422


# --- from the archive's own list -----------------------------------------------------------------


def followed(system: System, address: str, **headers: str) -> dict[str, list[str]]:
    answer = system.http.get(address, headers=headers, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return parse_qs(urlsplit(answer.headers["Location"]).query)


def test_a_study_is_opened_by_its_number_which_no_address_keeps(
    system: System, scans: dict[str, Dataset]
) -> None:
    scan = scans["emri_small.dcm"]
    uid, key = str(scan.StudyInstanceUID), first(system.search([written(scan)]))["payload"]
    assert followed(system, f"/open?study={uid}") == {"study": [key["study_id"]]}
    iid = f"/open?requestType=STUDY&studyUID={uid}&viewerType=x"
    assert followed(system, iid) == {"study": [key["study_id"]]}
    assert followed(system, f"/open?series={scan.SeriesInstanceUID}") == {
        "series": [key["series_id"]]
    }
    assert followed(system, "/open?accessionNumber=ACC2") == {"accession": [key["accession_id"]]}
    assert followed(system, "/open?study=Mueller") == {"open": ["unreadable"]}
    assert followed(system, "/open") == {"open": ["unreadable"]}
    for path, data in contents(system.folder):
        assert uid.encode() not in data, path


def test_only_the_role_that_may_re_identify_sees_that_there_is_a_viewer(
    system: System, scans: dict[str, Dataset]
) -> None:
    """The last test: from now on the system needs a key."""
    keys = KeyFile(system.folder / "keys.json")
    found = {}
    for role in ("search", "ingest", "admin"):
        bearer = {"Authorization": f"Bearer {keys.create(role, role)[1]}"}  # type: ignore[arg-type]
        answer = system.http.post(
            "/v1/searches",
            json={"image_id": str(scans["CT_small.dcm"].SOPInstanceUID)},
            headers={**bearer, "Prefer": "wait=60"},
        )
        found[role] = answer.json()
        polled = system.http.get(f"/v1/searches/{found[role]['id']}", headers=bearer)
        assert polled.json()["results"] == found[role]["results"]
        pages = system.http.get("/v1/images", headers=bearer)
        assert ("viewer" in pages.text, "sealed" in pages.text) == (role == "admin", False)
    assert "viewer" in first(found["admin"])
    assert "viewer" not in str(found["search"]) + str(found["ingest"])
    uid = str(scans["CT_small.dcm"].StudyInstanceUID)
    key = first(found["admin"])["payload"]["study_id"]
    assert followed(system, f"/open?study={uid}", **bearer) == {"study": [key]}
    [token] = followed(system, f"/open?study={uid}")["open"]
    assert followed(system, f"/open?study={uid}")["open"] != [token]  # it says nothing to strangers
    assert system.http.post("/v1/opened", json={"token": token}).status_code == 401
    opened = system.http.post("/v1/opened", json={"token": token}, headers=bearer)
    assert opened.json() == {"kind": "study", "keys": [key]}
    broken = system.http.post("/v1/opened", json={"token": token[:-2]}, headers=bearer)
    assert broken.status_code == 422


def audit(system: System) -> str:
    return (system.folder / "logs" / "audit.jsonl").read_text()
