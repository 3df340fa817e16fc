"""DICOM files, from a folder and by upload, to similar images."""

from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from tests.system import System

FILES = ("CT_small.dcm", "MR_small.dcm", "emri_small.dcm")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in FILES:
        source = get_testdata_file(name, download=False)
        (folder / name).write_bytes(Path(str(source)).read_bytes())
    return folder


def test_a_folder_of_dicom_is_searchable(tmp_path: Path, encoder: Path, folder: Path) -> None:
    with System(tmp_path / "data", encoder) as system:
        view = system.ingest(folder)
        assert view["embedded"] == 12, system.http.get(f"/v1/jobs/{view['id']}/rejections").text
        images = system.indexed()
        frames = sorted(image["payload"].get("frame", 0) for image in images)
        assert frames == [0, 0, *range(1, 11)]
        assert {image["payload"]["modality"] for image in images} == {"CT", "MR"}
        assert system.ingest(folder)["unchanged"] == 12
        data = (folder / FILES[0]).read_bytes()
        [hit, *_] = system.search([data])["results"]
        assert hit["score"] > 0.999
        parts = [("files", (name, (folder / name).read_bytes())) for name in FILES]
        answer = system.http.post("/v1/images", files=parts)
        assert system.finished(answer.json()["id"])["unchanged"] == 12, answer.text
