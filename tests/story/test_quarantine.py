"""Images that may show a patient's name: nobody finds one before an admin has looked at it."""

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from pipeline.base.states import FINAL_STATES
from tests import burned_in
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
