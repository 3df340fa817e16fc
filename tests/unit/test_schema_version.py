"""Data of another version is refused with what to do, before anything of it is touched."""

from pathlib import Path

import pytest

from pipeline.base.errors import SchemaMismatch
from pipeline.base.schema import SCHEMA_VERSION, check_folder


def test_a_new_folder_gets_the_version_and_is_known_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    check_folder(data)
    check_folder(data)
    assert (data / "schema").read_text() == f"{SCHEMA_VERSION}\n"


@pytest.mark.parametrize("left", ["store/kindred", "blobs/previews/ab", "blobs/uploads/job"])
def test_a_folder_of_before_there_were_versions_is_refused(tmp_path: Path, left: str) -> None:
    (tmp_path / left).mkdir(parents=True)
    with pytest.raises(SchemaMismatch, match=r"older Kindred \(schema 1.*ingest again"):
        check_folder(tmp_path)
    assert not (tmp_path / "schema").exists()


@pytest.mark.parametrize(
    ("found", "says"), [(SCHEMA_VERSION - 1, "older"), (SCHEMA_VERSION + 1, "upgrade it")]
)
def test_another_version_is_refused(tmp_path: Path, found: int, says: str) -> None:
    (tmp_path / "schema").write_text(f"{found}\n")
    with pytest.raises(SchemaMismatch, match=says):
        check_folder(tmp_path)
