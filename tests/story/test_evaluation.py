"""An evaluation as a user has it: started, followed, cancelled, printed, and kept in a backup."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli import main
from pipeline.base.states import FINAL_STATES
from tests.system import System, until


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, encoder: Path, drawn: Path
) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("evaluation"), encoder) as running:
        running.ingest(drawn)
        yield running


def start(system: System, **wanted: Any) -> str:
    answer = system.http.post("/v1/evaluations", json={"label": "dx", **wanted})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def ended(system: System, evaluation: str) -> dict[str, Any]:
    def end() -> dict[str, Any] | None:
        view = system.http.get(f"/v1/evaluations/{evaluation}").raise_for_status().json()
        return view if view["state"] in FINAL_STATES else None

    found: dict[str, Any] = until(end, "the end of the evaluation")
    return found


def test_it_runs_to_its_report(system: System) -> None:
    done = ended(system, start(system, group="lesion_id"))

    assert done["state"] == "succeeded", done
    assert done["total"] == 200 == sum(done["counts"].values())
    assert done["report"]["images"] == 200


def test_without_a_group_it_is_refused(system: System) -> None:
    done = ended(system, start(system))

    assert done["state"] == "failed"
    assert "lesion_id" in done["error"]["detail"]


def test_a_command_prints_it_and_a_report_names_no_image(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its histogram reads all previews."""
    url = ("--url", f"http://127.0.0.1:{system.port}")
    assert main.run(["evaluate", "--label", "dx", "--group", "lesion_id", *url]) == 0
    said = capsys.readouterr().out

    assert "200 of 200 images searched by" in said
    for ranking in ("embedding", "histogram", "chance", "constant"):
        assert f"{ranking}, macro" in said
    listed = system.http.get("/v1/evaluations").json()["evaluations"]
    reports = [system.http.get(f"/v1/evaluations/{one['id']}").json()["report"] for one in listed]
    done = [report for report in reports if report]
    assert not any("preview" in note for report in done for note in report["notes"])
    ids = {image["image_id"] for image in system.indexed()}
    assert not any(f'"{image_id}"' in json.dumps(done) for image_id in ids)


def test_the_numbers_are_those_of_the_exported_vectors(system: System) -> None:
    """By a brute force that knows nothing of how an evaluation works."""
    report = ended(system, start(system, group="lesion_id", near_duplicates="keep"))["report"]
    images: list[dict[str, Any]] = []
    cursor: str | None = None
    while cursor or not images:
        params = {"limit": "100", "vectors": "true"} | ({"cursor": cursor} if cursor else {})
        page = system.http.get("/v1/images", params=params).json()
        images, cursor = images + page["images"], page["cursor"]
    vectors = np.array([image["vector"] for image in images])
    labels, lesions = (
        np.array([image["payload"][field] for image in images]) for field in ("dx", "lesion_id")
    )

    cosines = vectors @ vectors.T
    cosines[lesions[:, None] == lesions] = -np.inf
    nearest = labels[np.argsort(-cosines, axis=1)[:, :10]]

    hits = nearest == labels[:, None]
    overall = report["rankings"][0]["overall"]
    for depth in (1, 5, 10):
        found = overall[f"precision_at_{depth}"]["value"]
        assert found == pytest.approx(hits[:, :depth].mean(), abs=0.002)  # equal scores


def test_a_cancelled_one_has_no_report_and_a_retry_has(system: System) -> None:
    evaluation = start(system, group="none")
    answer = system.http.post(f"/v1/jobs/{evaluation}/cancel")
    if answer.status_code == 409:  # it was quicker
        return
    assert ended(system, evaluation)["report"] is None

    system.http.post(f"/v1/jobs/{evaluation}/retry").raise_for_status()
    assert ended(system, evaluation)["report"]["evaluated"] == 200
