"""Two encoders are compared before one is changed for the other: nothing stored changes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.sample import write_encoder
from pipeline.base.states import FINAL_STATES
from tests.system import System, until


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of encoders: `wide` is another, `truncated` has half of its weights."""
    folder = tmp_path_factory.mktemp("models")
    for name, hidden in (("wide", 48), ("truncated", 32)):
        write_encoder(
            folder / name,
            hidden=hidden,
            layers=2,
            heads=2,
            intermediate=64,
            image_size=32,
            patch=8,
            seed=5,
        )
    weights = folder / "truncated" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    return folder


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, encoder: Path, drawn: Path, models: Path
) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("comparison")
    with System(folder, encoder, MODELS=str(models)) as running:
        running.ingest(drawn)
        yield running


def start(system: System, *models: str, **wanted: Any) -> str:
    body = {"label": "dx", "group": "lesion_id", "models": [{"model": m} for m in models]}
    answer = system.http.post("/v1/comparisons", json={**body, **wanted})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def ended(system: System, comparison: str) -> dict[str, Any]:
    def end() -> dict[str, Any] | None:
        view = system.http.get(f"/v1/comparisons/{comparison}").raise_for_status().json()
        return view if view["state"] in FINAL_STATES else None

    found: dict[str, Any] = until(end, "the end of the comparison")
    return found


def test_encoders_are_compared_on_the_same_images_and_the_collection_stays(
    system: System, models: Path
) -> None:
    before = system.http.get("/v1/collection").json()
    wide = str(models / "wide")

    done = ended(system, start(system, "collection", wide))

    assert done["state"] == "succeeded", done
    report = done["report"]
    assert [m["encoder"]["dimensions"] for m in report["models"]] == [32, 48]
    assert [m["images_per_second"] is None for m in report["models"]] == [True, False]
    assert all(m["untrained"] for m in report["models"])
    (pair,) = report["pairs"]
    first, other = (m["ranking"]["macro"]["map_at_10"]["value"] for m in report["models"])
    change = pair["macro"]["map_at_10"]
    assert change["value"] == pytest.approx(other - first)
    assert change["low"] <= change["value"] <= change["high"]
    assert 0 < change["p"] <= 1
    assert any("previews" in note for note in report["notes"])
    assert system.http.get("/v1/collection").json() == before
    listed = system.http.get("/v1/comparisons").json()["comparisons"]
    assert done["id"] in [one["id"] for one in listed]
    assert done["id"] not in [
        one["id"] for one in system.http.get("/v1/evaluations").json()["evaluations"]
    ]


def test_an_encoder_does_not_differ_from_itself(system: System, encoder: Path) -> None:
    spelled = [
        {"model": str(encoder)},
        {"model": "collection", "pooling": "mean"},
        {"model": "collection", "pooling": "cls"},
        {"model": "collection", "preprocessing": "crop"},
    ]
    done = ended(system, start(system, models=spelled))

    report = done["report"]
    same, cls, crop = report["pairs"]
    assert same["other"] == "collection,pooling=mean"
    for change in (*same["overall"].values(), *same["macro"].values()):
        assert change == {"value": 0, "low": 0, "high": 0, "p": 1}
    for other in (cls, crop):
        assert any(change["value"] for change in other["overall"].values())
    assert report["models"][2]["encoder"]["pooling"] == "cls"
    assert "crop=32x32" in report["models"][3]["encoder"]["preprocessing"]


def test_an_encoder_that_cannot_be_loaded_is_named(system: System, models: Path) -> None:
    broken = str(models / "truncated")
    done = ended(system, start(system, "collection", broken))

    assert done["state"] == "failed"
    assert f"{broken} cannot be compared." in done["error"]["detail"]

    done = ended(system, start(system, "collection", str(models / "nowhere")))
    assert "nowhere cannot be compared. There is no folder" in done["error"]["detail"]
    assert system.http.get("/readyz").status_code == 200


@pytest.mark.parametrize("model", ["/etc", "../x", "~/model", "{models}/../elsewhere"])
def test_a_path_that_no_setting_allows_is_refused(system: System, models: Path, model: str) -> None:
    named = [{"model": "collection"}, {"model": model.format(models=models)}]
    body = {"label": "dx", "group": "lesion_id", "models": named}

    answer = system.http.post("/v1/comparisons", json=body)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == "models.1"


def test_the_command_prints_what_differs(system: System, models: Path) -> None:
    wide = models / "wide"
    command = ["evaluate", "--model", "collection", "--model", f"{wide},pooling=cls"]
    url = f"http://127.0.0.1:{system.port}"

    found = CliRunner().invoke(
        app, [*command, "--label", "dx", "--group", "lesion_id", "--url", url]
    )

    assert found.exit_code == 0, found.output
    for word in ("collection", "untrained", "images/s", "mAP@10", "less collection", "previews"):
        assert word in " ".join(found.output.split())
