"""An evaluation as a user has it: started, followed, cancelled, printed, and kept in a backup."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
