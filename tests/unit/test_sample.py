"""The made data set and encoder stand in for the real ones wherever those cannot be had."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli import sample
from pipeline.images.picture import Picture, decode

COLUMNS = ["image", "image_id", "lesion_id", "dx", "dx_type", "age", "sex", "localization"]
ROWS = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made") / "data"
    sample.write_dataset(made, ROWS)
    return made


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    listed: list[dict[str, Any]] = pq.read_table(folder).to_pylist()
    return listed


def test_datasets_reads_it_as_it_reads_the_real_one(folder: Path, tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    made = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path))
    assert made.column_names == COLUMNS
    assert len(made) == ROWS
    assert isinstance(made.features["image"], datasets.Image)
    assert made.features["age"].dtype == "float64"
    assert made[0]["image"].size[0] > 100


def test_every_image_is_usable_and_they_vary(rows: list[dict[str, Any]]) -> None:
    decoded = [decode(row["image"]["bytes"], 1_000_000) for row in rows]
    sizes = {(one.width, one.height) for one in decoded if isinstance(one, Picture)}
    assert all(isinstance(one, Picture) for one in decoded)
    assert len(sizes) > 2
    assert len({row["image"]["bytes"] for row in rows}) == ROWS
    assert len({row["dx"] for row in rows}) > 3


def test_it_says_that_it_is_drawn(rows: list[dict[str, Any]]) -> None:
    assert all(row["image_id"].startswith("DRAWN_") for row in rows)
    assert len({row["image_id"] for row in rows}) == ROWS


def test_some_lesions_were_photographed_twice(rows: list[dict[str, Any]]) -> None:
    pictures = Counter(row["lesion_id"] for row in rows)
    assert Counter(pictures.values()) == {1: 25, 2: 7} | {1: ROWS - 2 * 7}
    by_lesion = {row["lesion_id"]: (row["dx"], row["age"], row["sex"]) for row in rows}
    assert all(by_lesion[row["lesion_id"]] == (row["dx"], row["age"], row["sex"]) for row in rows)


def test_the_same_seed_draws_the_same(folder: Path, tmp_path: Path) -> None:
    sample.write_dataset(tmp_path / "again", 5)
    sample.write_dataset(tmp_path / "other", 5, seed=1)
    import pyarrow.parquet as pq

    first = pq.read_table(folder).slice(0, 5).to_pylist()
    assert pq.read_table(tmp_path / "again").to_pylist() == first
    assert pq.read_table(tmp_path / "other").to_pylist() != first


def test_lesions_of_one_diagnosis_look_alike() -> None:
    """More than those of others do, on average: else the neighbours of a demo make no sense."""
    looks = {look.dx: look for look in sample._LOOKS}

    def drawn(dx: str, lesion: int) -> np.ndarray:
        patient, view = np.random.default_rng(lesion), np.random.default_rng(lesion + 1000)
        image = sample._draw(looks[dx], patient, view, (75, 56))
        centre = np.asarray(image)[20:36, 28:46].reshape(-1, 3)
        return centre.mean(axis=0)

    colours = {dx: np.stack([drawn(dx, lesion) for lesion in range(12)]) for dx in looks}
    centres = {dx: colour.mean(axis=0) for dx, colour in colours.items()}
    nearest = [
        min(centres, key=lambda other: float(np.linalg.norm(centres[other] - colour))) == dx
        for dx in looks
        for colour in colours[dx]
    ]
    assert np.mean(nearest) > 2 / len(looks)


def test_the_stand_in_has_the_files_of_the_models_page(tmp_path: Path) -> None:
    sample.write_encoder(
        tmp_path, hidden=32, layers=1, heads=2, intermediate=32, image_size=32, patch=8
    )
    files = {file.name for file in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= files
    assert "Untrained" in (tmp_path / "README.md").read_text()


def test_the_stand_in_is_the_same_each_time_and_leaves_chance_alone(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    sizes = {
        "hidden": 32,
        "layers": 1,
        "heads": 2,
        "intermediate": 32,
        "image_size": 32,
        "patch": 8,
    }
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    for name in ("one", "two"):
        sample.write_encoder(tmp_path / name, **sizes)
    assert torch.equal(torch.rand(1), expected)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
