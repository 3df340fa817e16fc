"""Small made things that many tests share: drawn images and an untrained encoder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.sample import write_dataset, write_encoder
from tests.system import System

SHARED = Path(__file__).parents[2] / "shared" / "data"


# What takes longest, and so begins first: a minute of work that begins when all else is done keeps
# everybody waiting. What is not named here follows in the order of its names.
LONGEST = (
    "test_folders",
    "test_parity",
    "test_up",
    "test_backup",
    "test_poison",
    "test_chaos",
    "test_faults",
    "test_object_store",
    "test_watch",
    "test_dicomweb",
    "test_quarantine",
    "test_dicom_search",
    "test_dimse",
    "test_deidentification",
    "test_dicom_samples",
    "test_store_index",
    "test_store",
    "test_fuzz",
    "browser",
    "test_access",
    "test_gpu_benchmark",
    "test_benchmarks",
    "story",
)


def pytest_configure(config: pytest.Config) -> None:
    # Else xdist begins with the files of the most tests.
    config.option.loadscopereorder = False


def pytest_xdist_auto_num_workers() -> int | None:
    """One more than there are cores: stories wait as often as they compute."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "story" in item.path.parts:
            item.add_marker("story")
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    names = {item.path.stem, *item.path.parts}
    return next((turn for turn, name in enumerate(LONGEST) if name in names), len(LONGEST))


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
