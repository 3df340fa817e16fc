"""Closeness as a department meets it: measured, said with each hit, void, and measured again."""

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from cli.sample import write_encoder
from tests.story.test_evaluation import ended, start
from tests.system import System, until

START = "DRAWN_000004"


def evaluated(system: System) -> dict[str, Any]:
    done = ended(system, start(system, group="lesion_id"))
    assert done["state"] == "succeeded", done
    return done


def known(system: System) -> Any:
    """What the collection says of its closeness."""
    return system.http.get("/v1/collection").raise_for_status().json().get("closeness")


def deleted(system: System, filter_: dict[str, Any]) -> None:
    job = system.http.post("/v1/deletions", json={"filter": filter_}).raise_for_status().json()
    path = f"/v1/deletions/{job['id']}"
    until(lambda: system.http.get(path).json()["state"] == "succeeded", "the deletion")


@pytest.fixture
def other_encoder(tmp_path: Path) -> Path:
    folder = tmp_path / "other"
    write_encoder(folder, hidden=32, layers=1, heads=2, intermediate=64, image_size=32, patch=8)
    return folder


def test_it_is_measured_said_and_void_when_the_collection_has_changed(
    tmp_path: Path, encoder: Path, other_encoder: Path, drawn: Path
) -> None:
    with System(tmp_path / "system", encoder) as system:
        system.ingest(drawn)
        assert known(system) is None
        refused = system.search(image_id=START, min_closeness=0.5)
        assert refused["state"] == "failed"
        assert "kindred evaluate" in refused["error"]["detail"]

        first = evaluated(system)
        assert first["report"]["calibration"][0]["label"] is None
        until(lambda: known(system), "the calibration")
        found = system.search(image_id=START, exclude_same_lesion=True, min_closeness=1.0)
        assert found["closeness"]["evaluation"] == first["id"] == known(system)["evaluation"]
        assert found["no_close_match"] is True
        assert {hit["close"] for hit in found["results"]} == {False}
        for hit in found["results"]:
            assert hit["closeness"]["low"] <= hit["closeness"]["share"] <= hit["closeness"]["high"]
            assert hit["closeness"]["label"] in (None, hit["payload"]["dx"])
        low = system.search(image_id=START, exclude_same_lesion=True, min_closeness=0.0)
        assert low["no_close_match"] is False
        archive = system.http.get("/v1/backup/blobs").raise_for_status().content
        with tarfile.open(fileobj=io.BytesIO(archive)) as blobs:
            assert "calibration/closeness.json" in blobs.getnames()

        deleted(system, {"must": [{"key": "sex", "match": {"value": "female"}}]})
        until(lambda: known(system).get("void") == "images", "that it is void")
        assert "closeness" not in system.search(image_id="DRAWN_000000")["results"][0]

        again = evaluated(system)
        until(lambda: known(system)["evaluation"] == again["id"], "the new calibration")
        assert "void" not in known(system)
        deleted(system, {"must_not": [{"key": "dx", "match": {"value": "none"}}]})
        until(lambda: known(system).get("void") == "images", "that it is void")
        assert system.count() == 0

    with System(tmp_path / "system", other_encoder) as system:
        assert known(system)["void"] == "encoder"
        assert system.search(vector=[1.0] * 32)["results"] == []
