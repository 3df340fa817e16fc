"""Two hosts with data under one name: one plans a job, the other reads it.

A host is a folder, and it is mounted where the job looks. Both share the blobs.
"""

import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.base.blobs import Blobs, job_folder
from pipeline.base.errors import SourceChanged, SourceElsewhere, SourceError
from pipeline.images.kinds import HEAD
from pipeline.ledger import Lease, Progress, WorkItem
from pipeline.operations.ingest import CHANGING, REPLANS, _work
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.base import Opening, Reader, Row
from pipeline.sources.dataset import DatasetSource
from pipeline.sources.folder.catalogue import Catalogue
from pipeline.sources.folder.places import CHANGED, GONE
from pipeline.sources.folder.stamps import stamp_of, stamp_of_file
from pipeline.sources.registry import SourceCache

JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
JOB = "job"


def picture(number: int, size: int = 9000) -> bytes:
    """They differ in the middle alone."""
    return JPEG + str(number).encode().rjust(size // 2, b"x").ljust(size, b"x")


@dataclass
class Hosts:
    """`data` is where the job looks, on whichever host is there now."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def source(self) -> DatasetSource:
        return DatasetSource(dataset=str(self.data))

    def host(self) -> SourceCache:
        """A worker that has opened nothing yet."""
        blobs = Blobs(str(self.folder / "blobs"))
        return SourceCache(Opening(blobs, AllowedSources.of((str(self.data),))))

    def planned(self) -> Reader:
        return self.host().plan(JOB, self.source)

    def opened(self, version: str) -> Reader:
        return self.host().get(JOB, self.source, version)

    def write(self, files: dict[str, bytes], seconds: int = 0) -> None:
        """Replaces all files, each with this time."""
        shutil.rmtree(self.data, ignore_errors=True)
        for name, content in files.items():
            path = self.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (seconds, seconds))


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


def rows_of(reader: Reader) -> list[Row]:
    return list(reader.read(0, len(reader)))


FILES = {f"{n}.jpg": picture(n) for n in range(8)}


# --- pictures -------------------------------------------------------------------------------------


def test_a_copy_with_other_times_is_the_same(hosts: Hosts) -> None:
    hosts.write(FILES)
    version = hosts.planned().version
    hosts.write(FILES, seconds=1_000_000)
    reader = hosts.opened(version)
    assert reader.version == version
    assert [row.data for row in rows_of(reader)] == list(FILES.values())


def test_a_file_that_changed_is_rejected_by_name_and_costs_no_other(hosts: Hosts) -> None:
    """As long as before, and with the same time: its metadata may be another picture's."""
    hosts.write(FILES)
    reader = hosts.planned()
    hosts.write({**FILES, "3.jpg": picture(99)})
    for each in (reader, hosts.opened(reader.version)):
        rows = rows_of(each)
        assert [row.number for row in rows if row.fault is CHANGED] == [3]
        assert (rows[3].name, rows[3].data, rows[3].image_id) == ("3.jpg", b"", "#3")
        assert [row.fault for row in rows if row.number != 3] == [None] * 7
        assert [row.number for row in each.read(3, 4) if row.fault] == [3]  # most of this batch


def test_another_folder_under_the_name_is_planned_again(hosts: Hosts) -> None:
    hosts.write(FILES)
    version = hosts.planned().version
    hosts.write({name: picture(50 + n) for n, name in enumerate(FILES)})
    with pytest.raises(SourceChanged):
        list(hosts.opened(version).read(0, 2))


@pytest.mark.parametrize("size", [0, 1, HEAD - 1, HEAD, HEAD + 1, 3 * HEAD, 100_001])
def test_a_stamp_is_the_same_before_and_after_the_file_is_read(tmp_path: Path, size: int) -> None:
    data = bytes(n * n % 251 for n in range(size))
    (tmp_path / "x").write_bytes(data)
    with (tmp_path / "x").open("rb") as on_disk:
        for file in (on_disk, io.BytesIO(data)):
            assert stamp_of_file(file, file.read(HEAD), size) == stamp_of(data)
    assert stamp_of(data + b"x") != stamp_of(data)


def zipped(files: dict[str, bytes], time: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980 + time, 1, 1, 0, 0, 0)), content)
    return out.getvalue()


def tarred(files: dict[str, bytes], time: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), time
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_with_other_pictures_of_the_same_names_is_another(
    hosts: Hosts, pack: Callable[[dict[str, bytes], int], bytes]
) -> None:
    hosts.write({"a.pack": pack(FILES, 1)})
    version = hosts.planned().version
    hosts.write({"a.pack": pack(FILES, 1)}, seconds=5)
    assert [row.fault for row in rows_of(hosts.opened(version))] == [None] * 8
    hosts.write({"a.pack": pack({**FILES, "2.jpg": picture(98)}, 1 if pack is zipped else 2)})
    if pack is zipped:
        faults = [row.number for row in rows_of(hosts.opened(version)) if row.fault is CHANGED]
        assert faults == [2]
    else:  # made anew at another time
        with pytest.raises(SourceChanged):
            rows_of(hosts.opened(version))


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
@pytest.mark.parametrize("files", [FILES, {"t.parquet": None}], ids=["pictures", "parquet"])
def test_a_host_without_the_folder_gives_the_work_back(
    hosts: Hosts, left: str, files: dict[str, bytes]
) -> None:
    hosts.write({name: content or parquet(0) for name, content in files.items()})
    reader = hosts.planned()
    shutil.rmtree(hosts.data)
    if left == "an empty folder":
        hosts.data.mkdir()
    with pytest.raises(SourceElsewhere) as told:
        hosts.opened(reader.version)
    assert str(hosts.data) not in f"{told.value.title}{told.value}"
    if files is FILES:  # a share that is unmounted under a reader
        with pytest.raises(SourceElsewhere):
            rows_of(reader)
    else:
        assert reader.version == "changed"  # so that it is opened anew


def test_a_file_that_is_gone_from_a_folder_that_is_there_is_rejected(hosts: Hosts) -> None:
    hosts.write(FILES)
    reader = hosts.planned()
    (hosts.data / "0.jpg").unlink()
    assert [row.number for row in rows_of(reader) if row.fault is GONE] == [0]


# --- plans of other versions ----------------------------------------------------------------------


def test_a_plan_of_an_earlier_version_has_no_stamps_and_is_read(hosts: Hosts) -> None:
    hosts.write(FILES)
    version = hosts.planned().version
    blobs = Blobs(str(hosts.folder / "blobs"))
    blobs.delete(f"{job_folder(JOB)}/rows/stamps")
    hosts.write({**FILES, "3.jpg": picture(99)})
    assert [row.fault for row in rows_of(hosts.opened(version))] == [None] * 8


def test_an_earlier_version_reads_the_first_four_fields_of_a_row(hosts: Hosts) -> None:
    hosts.write(FILES)
    hosts.planned()
    blobs = Blobs(str(hosts.folder / "blobs"))
    [page] = [name for name in blobs.names(f"{job_folder(JOB)}/rows") if name.endswith(".json")]
    for name, place, said, fault, *_ in json.loads(blobs.read(page)):
        assert name in FILES
        assert (place, said, fault) == ([name], {}, None)


def test_a_plan_of_parquet_by_an_earlier_version_is_read(hosts: Hosts) -> None:
    hosts.write({"t.parquet": parquet(0)})
    version = hosts.planned().version
    Blobs(str(hosts.folder / "blobs")).delete(f"{job_folder(JOB)}/rows/plan.json")
    assert hosts.opened(version).version == version


def test_nothing_of_a_plan_stays_when_the_job_has_ended(hosts: Hosts) -> None:
    for files in (FILES, {"t.parquet": parquet(0)}):
        hosts.write(files)
        hosts.planned()
        blobs = Blobs(str(hosts.folder / "blobs"))
        catalogue = Catalogue.read(blobs, JOB)
        assert catalogue is not None
        catalogue.conclude(())
        assert list(blobs.walk(job_folder(JOB))) == [f"{job_folder(JOB)}/index.json"]


# --- parquet and arrow ----------------------------------------------------------------------------


def parquet(first: int, rows: int = 40) -> bytes:
    """Pictures of one size, stored as they are: the footer is the same for any of them."""
    out = io.BytesIO()
    images = [picture(n) for n in range(first, first + rows)]
    options: Any = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(pa.table({"image": images}), out, row_group_size=10, **options)
    return out.getvalue()


def arrow(first: int, rows: int = 40) -> bytes:
    out = io.BytesIO()
    made = pa.table({"image": [picture(n) for n in range(first, first + rows)]})
    with pa.ipc.new_file(out, made.schema) as writer:
        writer.write_table(made, max_chunksize=10)
    return out.getvalue()


@pytest.mark.parametrize("made", [parquet, arrow])
def test_files_of_one_name_size_and_end_with_other_pictures_are_noticed(
    hosts: Hosts, made: Callable[[int], bytes]
) -> None:
    one, other = made(100), made(300)
    assert len(one) == len(other)
    other = other[: -len(one) // 20] + one[-len(one) // 20 :]
    hosts.write({"t.data": one})
    version = hosts.planned().version
    hosts.write({"t.data": one}, seconds=9)
    assert hosts.opened(version).version == version
    hosts.write({"t.data": other})
    assert hosts.opened(version).version == "changed"


# --- the job --------------------------------------------------------------------------------------


class Jobs:
    def __init__(self) -> None:
        self.replans = 0

    def replan(self, _: Lease) -> int:
        self.replans += 1
        return self.replans


def test_a_job_whose_hosts_differ_is_planned_again_and_fails_in_the_end(hosts: Hosts) -> None:
    hosts.write(FILES)
    version = hosts.planned().version
    hosts.write({name: picture(50 + n) for n, name in enumerate(FILES)})
    jobs = Jobs()
    run = SimpleNamespace(run=lambda item, _, reader, __: rows_of(reader))
    context: Any = SimpleNamespace(
        sources=hosts.host(), ingest=run, ledger=SimpleNamespace(jobs=jobs)
    )
    request = f'{{"source": {hosts.source.model_dump_json()}}}'
    lease = Lease(job=JOB, item=1, token="1", queue="ingest", worker="w", operation="ingest")
    item = WorkItem(lease, "ingest", request, 0, 8, Progress(0, 0), 0, 0, version=version)
    for times in range(REPLANS):
        assert _work(context, item)
        assert jobs.replans == times + 1
    with pytest.raises(SourceError, match=CHANGING):
        _work(context, item)
