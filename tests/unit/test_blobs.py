"""Blobs appear whole or not at all, and never outside their folder."""

import os
from pathlib import Path

import pytest

from pipeline.base.blobs import Blobs
from pipeline.base.errors import BlobsUnavailable


@pytest.fixture(params=["folder", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return Blobs(str(tmp_path) if request.param == "folder" else f"memory://{tmp_path}")


def test_what_is_written_is_read_and_what_is_deleted_is_gone(blobs: Blobs) -> None:
    blobs.write("a/b/one", b"1")
    blobs.write("a/b/one", b"2")
    assert blobs.read("a/b/one") == b"2"

    blobs.delete("a")
    blobs.delete("a")

    assert not blobs.exists("a/b/one")
    with pytest.raises(FileNotFoundError):
        blobs.read("a/b/one")


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/passwd", ""])
def test_no_name_leads_outside(blobs: Blobs, name: str) -> None:
    with pytest.raises(ValueError, match="not a blob name"):
        blobs.write(name, b"")


def test_a_write_that_fails_leaves_the_old_blob_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(str(tmp_path))
    blobs.write("kept", b"old")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(BlobsUnavailable, match="No space"):
        blobs.write("kept", b"new")

    assert blobs.read("kept") == b"old"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["kept"]


def test_a_disk_that_fails_is_no_row_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(str(tmp_path))
    blobs.write("kept", b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    for name in ("cat_file", "rm"):
        monkeypatch.setattr(blobs._fs, name, fail)
    with pytest.raises(BlobsUnavailable, match="Input/output"):
        blobs.read("kept")
    with pytest.raises(BlobsUnavailable):
        blobs.delete("kept")
