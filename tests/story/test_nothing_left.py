"""After a deletion, nothing on the disk, in Redis or in a backup holds what was deleted."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from tests.story.test_parity import run
from tests.system import System, contents, until

# In the pixels' metadata, in the values, and in a field that is deleted by.
EXIF, NAME, NUMBER = "PLANTED-EXIF-Meier", "PLANTED-NAME-Meier", "PLANTED-NUMBER-4711"
MARKS = (EXIF, NAME, NUMBER)


@pytest.fixture
def system(tmp_path: Path, encoder: Path) -> Iterator[System]:
    indexed = "image_id=keyword,patient_id=keyword,dx=keyword,patient_name=keyword"
    with System(tmp_path / "data", encoder, INDEXED_FIELDS=indexed) as running:
        yield running


def picture(number: int, comment: str = "") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    if comment:
        exif[270] = comment  # ImageDescription
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", exif=exif)
    return file.getvalue()


def dataset(folder: Path) -> Path:
    """Parquet, which is copied to be read: ten images of others, two of the patient."""
    rows: dict[str, list[Any]] = {
        "image": [{"bytes": picture(n, EXIF if n > 9 else ""), "path": None} for n in range(12)],
        "image_id": [f"I{n}" for n in range(12)],
        "patient_id": [NUMBER if n > 9 else f"other-{n}" for n in range(12)],
        "patient_name": [NAME if n > 9 else "someone else" for n in range(12)],
        "dx": ["nevus"] * 12,
    }
    folder.mkdir()
    features = datasets.Features(
        {
            "image": datasets.Image(),
            **{n: datasets.Value("string") for n in rows if n != "image"},
        }
    )
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train.parquet")
    return folder


def found_in(folder: Path) -> dict[str, list[str]]:
    """Mark → files that hold it, as it is or as JSON and UTF-16 write it."""
    found: dict[str, list[str]] = {}
    for file, data in contents(folder):
        for mark in MARKS:
            if mark.encode() in data or mark.encode("utf-16-le") in data:
                found.setdefault(mark, []).append(str(file.relative_to(folder)))
    return found


def found_in_redis(system: System) -> list[str]:
    client = system.client()
    dumps = {key: client.type(key) for key in client.scan_iter("*")}
    read = {
        "string": client.get, "hash": client.hgetall, "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1),
        "list": lambda key: client.lrange(key, 0, -1),
    }  # fmt: skip
    held = [key for key, kind in dumps.items() if any(m in str(read[kind](key)) for m in MARKS)]
    client.close()
    return held


@pytest.mark.parametrize("by", ["identifier", "filter"])
def test_nothing_is_left_of_a_patient(system: System, tmp_path: Path, by: str) -> None:
    assert system.ingest(dataset(tmp_path / "set"))["embedded"] == 12
    upload = system.http.post(
        "/v1/images",
        files=[("files", picture(20, EXIF)), ("files", b"PLANTED-NAME-Meier is no image")],
        data={
            "metadata": json.dumps(
                [
                    {"image_id": f"U{n}", "patient_id": NUMBER, "patient_name": NAME}
                    for n in range(2)
                ]
            )
        },
    ).json()
    assert system.finished(upload["id"])["embedded"] == 1
    # Searches whose request and whose answer name the patient.
    condition = {"must": [{"key": "patient_id", "match": {"value": NUMBER}}]}
    answered = system.search(image_id="I10", filter=condition)
    assert NAME in json.dumps(answered["results"])
    assert set(found_in(system.folder)) == set(MARKS)

    wanted = {"field": "patient_id", "value": NUMBER} if by == "identifier" else {
        "filter": condition
    }  # fmt: skip
    gone = system.http.post("/v1/deletions", json=wanted, headers={"Prefer": "wait=60"}).json()

    assert (gone["state"], gone["image_ids"]) == ("succeeded", ["I10", "I11", "U0"]), gone
    assert system.http.get(f"/v1/searches/{answered['id']}").status_code == 404
    if by == "filter":  # the file that was rejected is no image, so no filter finds it
        system.http.post(
            "/v1/deletions",
            json={"field": "patient_id", "value": NUMBER},
            headers={"Prefer": "wait=60"},
        ).raise_for_status()
    # What a worker closes beside its jobs, within seconds.
    until(lambda: not found_in(system.folder), f"the end of {found_in(system.folder)}", 30)
    assert found_in_redis(system) == []
    run(system, "backup", tmp_path / "backup")
    assert found_in(tmp_path / "backup") == {}
    assert system.count() == 10
    # It does not come back, and what lies about it in the meantime goes again.
    again = system.ingest(tmp_path / "set")
    assert (again["unchanged"], again["rejected"]) == (10, 2)
    until(lambda: not found_in(system.folder), f"the end of {found_in(system.folder)}", 30)
    assert (tmp_path / "set" / "train.parquet").exists(), "the source itself is not ours"
