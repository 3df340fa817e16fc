"""Small made things that many tests share: drawn images and an untrained encoder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.sample import write_dataset, write_encoder
from tests.system import System

SHARED = Path(__file__).parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "story" in item.path.parts:
            item.add_marker("story")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT of 32 dimensions that takes a millisecond an image."""
    folder = tmp_path_factory.mktemp("encoder")
    write_encoder(folder, hidden=32, layers=2, heads=2, intermediate=64, image_size=32, patch=8)
    return folder


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 200 drawn images with the seed's columns."""
    folder = tmp_path_factory.mktemp("drawn")
    write_dataset(folder, rows=200)
    return folder


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    """A running system, shared by the tests of a module."""
    with System(tmp_path_factory.mktemp("system"), encoder) as running:
        yield running
