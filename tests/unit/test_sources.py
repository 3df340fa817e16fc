"""Rows of hostile data sets and uploads: whatever can be taken of them is, and nothing raises."""

import errno
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets.exceptions import DatasetGenerationError
from PIL import Image

from pipeline.base.blobs import Blobs
from pipeline.base.errors import SourceError, SourceUnavailable
from pipeline.sources import registry
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.base import BAD_ID, Opening, Row
from pipeline.sources.dataset import DatasetSource
from pipeline.sources.metadata import clean
from pipeline.sources.registry import SourceCache, open_source, plan_source

ANYTHING = AllowedSources.of(("/", "hub:*"))
CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
IMAGE = {"_type": "Image"}


@pytest.fixture
def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "PNG")
    return out.getvalue()


class Folder:
    """A data set made of columns, read at once."""

    def __init__(self, path: Path, png: bytes) -> None:
        self.path, self.png = path, png
        self.allowed = AllowedSources.of((str(path / "data"),))

    def rows(
        self, columns: dict[str, Any], id_column: str | None = None, **features: Any
    ) -> list[Row]:
        (self.path / "data").mkdir()
        count = len(next(iter(columns.values())))
        image = [{"bytes": self.png, "path": "a.png"}] * count
        table = pa.table({"image": pa.array(image, CELL), **columns})
        known = {"info": {"features": {"image": IMAGE, **features}}}
        if not features.keys() >= columns.keys() - {"image"}:
            import datasets

            plain = [f for f in table.schema if f.name not in known["info"]["features"]]
            more = datasets.Features.from_arrow_schema(pa.schema(plain)).to_dict()
            known["info"]["features"] |= more
        metadata = {"huggingface": json.dumps(known)}
        pq.write_table(table.replace_schema_metadata(metadata), self.path / "data" / "t.parquet")
        return self.read("data", count, id_column)

    def opening(self, blobs: Blobs) -> Opening:
        return Opening(blobs, self.allowed, job="job")

    def read(self, name: str, count: int, id_column: str | None = None) -> list[Row]:
        source = DatasetSource(dataset=str(self.path / name), id_column=id_column)
        blobs = Blobs(str(self.path / "blobs"))
        return list(plan_source(source, self.opening(blobs)).read(0, count))


@pytest.fixture
def folder(tmp_path: Path, png: bytes) -> Iterator[Folder]:
    yield Folder(tmp_path, png)


def test_text_that_is_no_utf_8_costs_its_value_and_not_the_job(folder: Folder) -> None:
    offsets = pa.py_buffer(np.array([0, 2, 4], np.int32))
    broken = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"ok\xff\xfe")])
    rows = folder.rows({"name": broken})
    assert [row.metadata for row in rows] == [{"name": "ok"}, {}]
    assert [row.data for row in rows] == [folder.png] * 2


def test_times_that_python_cannot_hold_are_absent(folder: Folder) -> None:
    rows = folder.rows({"t": pa.array([2**62, 0], pa.timestamp("us"))})
    assert [row.metadata for row in rows] == [{}, {"t": "1970-01-01T00:00:00"}]


def test_a_time_in_a_zone_that_nobody_knows_costs_its_value_and_not_its_row(folder: Folder) -> None:
    rows = folder.rows({"t": pa.array([0, 1], pa.timestamp("us", tz="Mars/Olympus"))})
    assert [(row.data, row.metadata) for row in rows] == [(folder.png, {})] * 2


def test_a_class_without_a_name_is_absent(folder: Folder) -> None:
    label = {"_type": "ClassLabel", "names": ["nevus", "melanoma"]}
    rows = folder.rows({"dx": [1, -1, 7, None]}, dx=label)
    assert [row.metadata for row in rows] == [{"dx": "melanoma"}, {}, {}, {}]


def test_a_second_picture_is_neither_decoded_nor_kept(folder: Folder) -> None:
    mask = pa.array([{"bytes": b"broken", "path": "Doe-Jane.png"}], CELL)
    assert folder.rows({"mask": mask}, mask=IMAGE)[0].metadata == {}


def test_cells_name_no_file_outside_the_data_set(folder: Folder) -> None:
    (folder.path / "outside.png").write_bytes(folder.png)
    (folder.path / "data").mkdir()
    (folder.path / "data" / "inside.png").write_bytes(folder.png)
    (folder.path / "data" / "linked.png").symlink_to(folder.path / "outside.png")
    (folder.path / "data" / "endless").symlink_to("/dev/zero")
    outside = [str(folder.path / "outside.png"), "../outside.png", "/dev/zero", "endless", "a\0b"]
    paths = ["inside.png", str(folder.path / "data" / "inside.png"), "linked.png", *outside, None]
    cells = pa.array([{"bytes": None, "path": path} for path in paths], CELL)
    known = json.dumps({"info": {"features": {"image": IMAGE}}})
    table = pa.table({"image": cells}).replace_schema_metadata({"huggingface": known})
    pq.write_table(table, folder.path / "data" / "t.parquet")
    rows = folder.read("data/t.parquet", len(paths))
    assert [bool(row.data) for row in rows] == [True] * 2 + [False] * 7


def test_what_is_no_id_is_none(folder: Folder) -> None:
    numbers = folder.rows({"image_id": [17.0, float("nan"), None]})
    name = f"{folder.path}/data/train"
    assert [row.image_id for row in numbers] == ["17", f"{name}#1", f"{name}#2"]


def test_a_patient_s_number_is_its_text_in_a_column_with_gaps(folder: Folder) -> None:
    rows = folder.rows({"patient_id": [123.0, None, 0.5], "dose": [123.0, None, 0.5]})
    assert [row.metadata for row in rows] == [
        {"patient_id": "123", "dose": 123.0}, {}, {"patient_id": "0.5", "dose": 0.5}
    ]  # fmt: skip


def test_an_id_that_has_no_address_is_a_fault_of_its_row(folder: Folder) -> None:
    rows = folder.rows({"image_id": ["x" * 1001, ".", "..", "x" * 1000, ""]})
    assert [row.fault for row in rows] == [BAD_ID] * 3 + [None] * 2
    assert rows[3].image_id == "x" * 1000


@pytest.mark.parametrize("name", ["a\0b", "~nobody/x", "x" * 999, "/dev/null"])
def test_a_name_that_no_folder_can_have_is_a_source_that_is_not_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError):
        open_source(
            DatasetSource(dataset=name),
            Opening(Blobs(str(tmp_path)), ANYTHING),
        )


def test_a_parquet_too_deep_to_be_read_is_refused_as_a_source(folder: Folder) -> None:
    kind, value = pa.int64(), 1
    for _ in range(150):
        kind, value = pa.struct([("x", kind)]), {"x": value}
    (folder.path / "data").mkdir()
    pq.write_table(pa.table({"deep": pa.array([value], kind)}), folder.path / "data" / "t.parquet")
    with pytest.raises(SourceError, match="cannot be read"):
        folder.read("data", 1)


FULL = OSError(errno.ENOSPC, "No space left on device")
KEPT = OSError("Not enough disk space. Needed: 3 GB")  # as the library says it, before it begins
BARRED = PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("how", ["plain", "wrapped", "cleaning up"])
@pytest.mark.parametrize("fault", [FULL, KEPT, BARRED], ids=str)
def test_a_source_that_finds_no_room_is_away_and_can_be_opened_later(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, fault: OSError, how: str
) -> None:
    """A full disk is no fault of the source, so its job must not fail of it."""
    assert folder.rows({"age": [1, 2]})
    builder = prepared_by_the_library(folder.path / "data" / "t.parquet")
    monkeypatch.setattr("datasets.load_dataset_builder", lambda *_, **__: builder)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(folder.path / "hub"))
    source = DatasetSource(dataset="org/name")
    opening = Opening(Blobs(str(folder.path / "blobs")), ANYTHING, job="job")

    def full(*_: object, **__: object) -> None:
        if how == "plain":
            raise fault
        if how == "wrapped":
            raise DatasetGenerationError("An error occurred") from fault
        try:
            raise fault
        finally:
            raise AttributeError("of a writer that was never opened")

    with monkeypatch.context() as patched, pytest.raises(SourceUnavailable):
        patched.setattr(builder, "download_and_prepare", full)
        plan_source(source, opening)
    assert len(plan_source(source, opening)) == 2


def prepared_by_the_library(file: Path) -> Any:
    """Stands in for a builder of the hub, whose files are ready."""
    table = SimpleNamespace(cache_files=[{"filename": str(file)}])
    return SimpleNamespace(
        name="json",
        hash="0",
        config=SimpleNamespace(data_files=None, name="default"),
        builder_configs={},
        DEFAULT_CONFIG_NAME=None,
        info=SimpleNamespace(splits={"train": None}, features=None),
        download_and_prepare=lambda: None,
        as_dataset=lambda **_: table,
    )


def test_a_disk_that_fails_blames_no_row(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.path / "data").mkdir()
    (folder.path / "data" / "a.png").write_bytes(folder.png)
    source = DatasetSource(dataset=str(folder.path / "data"))
    reader = plan_source(source, folder.opening(Blobs(str(folder.path / "blobs"))))
    assert [row.data for row in reader.read(0, 1)] == [folder.png]
    read = Path.read_bytes

    def fail(number: int) -> None:
        def failing(path: Path) -> bytes:
            if path.suffix == ".png":
                raise OSError(number, os.strerror(number))
            return read(path)

        monkeypatch.setattr(Path, "read_bytes", failing)

    for number in (errno.EIO, errno.ESTALE, errno.EMFILE):
        fail(number)
        with pytest.raises(SourceUnavailable):
            list(reader.read(0, 1))
    fail(errno.EACCES)  # of the one file
    [row] = reader.read(0, 1)
    assert row.data == b""
    assert row.fault is not None
    assert "Permission denied" in row.fault.reason


def test_a_column_that_is_not_there_is_answered_with_some_that_are(folder: Folder) -> None:
    many = {f"{n} {'x' * 1000}": [n] for n in range(50)}
    with pytest.raises(SourceError, match="no column nowhere") as refused:
        folder.rows(many, id_column="nowhere")
    assert "and 31 more" in str(refused.value)
    assert len(str(refused.value)) < 2000


def test_a_source_has_another_version_when_its_rows_may_be_others(folder: Folder) -> None:
    (folder.path / "data").mkdir()
    versions = []
    for name in ("b.parquet", None, "a.parquet"):
        if name:
            pq.write_table(pa.table({"image": [folder.png]}), folder.path / "data" / name)
        file = folder.path / "data" / "b.parquet"
        os.utime(file, (len(versions), 0))  # as in another host's copy
        source = DatasetSource(dataset=str(folder.path / "data"))
        blobs = Blobs(str(folder.path / "blobs"))
        opened = plan_source(source, folder.opening(blobs))
        versions.append(opened.version)
    first, touched, more = versions
    assert first == touched != more


def test_a_source_that_is_prepared_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, waiting = threading.Event(), threading.Event()

    def opener(source: Any, _: Opening) -> Any:
        if source.dataset == "a/giant":
            waiting.set()
            assert prepared.wait(20)
        return SimpleNamespace(version="1", dataset=source.dataset)

    monkeypatch.setattr(registry, "plan_source", opener)
    cache = SourceCache(Opening(None, AllowedSources.of(())))  # type: ignore[arg-type]
    giant = threading.Thread(target=cache.plan, args=["giant", DatasetSource(dataset="a/giant")])
    giant.start()
    assert waiting.wait(20)
    small: Any = cache.plan("small", DatasetSource(dataset="a/small"))
    assert small.dataset == "a/small"
    prepared.set()
    giant.join()
    assert cache.get("small", DatasetSource(dataset="a/small"), "1") is small


def test_what_is_open_but_not_what_the_job_counted_is_opened_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that planned the job once has its old list of files."""
    monkeypatch.setattr(registry, "plan_source", lambda *_: SimpleNamespace(version="old"))
    monkeypatch.setattr(registry, "open_source", lambda *_: SimpleNamespace(version="new"))
    cache = SourceCache(Opening(None, AllowedSources.of(())))  # type: ignore[arg-type]
    source = DatasetSource(dataset="a/b")
    planned = cache.plan("job", source)

    assert cache.get("job", source, "old") is planned
    assert cache.get("job", source, "new").version == "new"
    assert cache.get("another", source, "new") is not cache.get("job", source, "new")


def test_numbers_beyond_the_store_stay_exact_as_text() -> None:
    assert clean({"a": 2**63 - 1, "b": 2**63, "c": 10**400}) == {
        "a": 2**63 - 1,
        "b": str(2**63),
        "c": str(10**400),
    }


def test_the_payload_s_own_name_is_given_away_once() -> None:
    assert clean({"source": 1, "source_": 2}) == {"source_": 2, "source__": 1}


def test_bars_of_progress_keep_the_lock_that_threads_would_delete_for_each_other() -> None:
    """In a process of its own: here another test may have made it."""
    told = subprocess.run(
        [sys.executable, "-c", _LOCKS], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert told.stdout.split() == ["True", "True"]


_LOCKS = """
import pipeline.sources.hub
from datasets.utils import tqdm as theirs
from tqdm.auto import tqdm
from tqdm.contrib.concurrent import ensure_lock

for bars in (theirs, tqdm):
    with ensure_lock(bars):
        pass
    print(bars._lock is not None)
"""
