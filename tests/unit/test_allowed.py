"""What may be ingested: nothing but what KINDRED_SOURCES names, wherever links and files point."""

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Features, Image
from datasets.exceptions import DatasetGenerationError
from PIL import Image as Pillow

from api.services import Collection
from cli.sample import write_dataset
from pipeline.base.blobs import Blobs
from pipeline.base.errors import SourceError, SourceNotAllowed
from pipeline.base.settings import Settings
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.base import Opening, Reader
from pipeline.sources.dataset import DatasetSource
from pipeline.sources.registry import plan_source
from tests.unit.test_access import Api


@pytest.fixture
def inside(tmp_path) -> Path:
    """Where sources may lie; beside it lies `outside`, where they may not."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


@pytest.fixture
def outside(inside) -> Path:
    write_dataset(inside.parent / "outside", rows=3)
    return inside.parent / "outside"


def opened(inside: Path, dataset: Path | str) -> Reader:
    allowed = AllowedSources.of((str(inside), "hub:*"))
    source = DatasetSource(dataset=str(dataset))
    blobs = Blobs(str(inside.parent / "b"))
    return plan_source(source, Opening(blobs, allowed, job="job"))


@pytest.mark.parametrize(
    ("setting", "dataset", "allowed"),
    [
        ("hub:*", "marmal88/skin_cancer", True),
        ("hub:*", "mnist", True),
        ("hub:marmal88/*", "marmal88/skin_cancer", True),
        ("hub:marmal88/*", "other/skin_cancer", False),
        ("hub:marmal88/skin_cancer", "marmal88/skin_cancer2", False),
        ("/srv/images", "marmal88/skin_cancer", False),
        ("", "mnist", False),
        ("/srv/images", "/srv/images", True),
        ("/srv/images", "/srv/images/a/b.parquet", True),
        ("/srv/images/", "/srv/images/a", True),
        ("/srv/images", "/srv/images2", False),
        ("/srv/images", "/srv/images/../secret", False),
        ("/srv/images", "/srv", False),
        ("hub:*", "/srv/images", False),
        ("/srv/images , /mnt/pacs,hub:*", "/mnt/pacs/1", True),
        ("/", "/anywhere", True),
        *(
            ("/,hub:*", dataset, False)
            for dataset in (
                "http://10.0.0.7/x", "https://elsewhere.example/x.parquet", "s3://bucket/x",
                "hf://datasets/org/name", "file:///etc", "zip://a::/etc/b.zip", "org/name@main",
                "../secret", "org/../name", "~/images", "./images", "a/b/c", "", " ", "//x/..",
                "org/na\x00me", "/srv/\x00", "/srv/../etc", "-org/name",
            )
        ),
    ],
)  # fmt: skip
def test_names_and_folders(setting, dataset, allowed):
    sources = AllowedSources.of(Settings(sources=setting).sources)
    if allowed:
        sources.check(dataset)
        return
    with pytest.raises(SourceNotAllowed) as refused:
        sources.check(dataset)
    assert not dataset.strip() or dataset not in str(refused.value)


def test_what_is_allowed_can_be_opened(inside):
    write_dataset(inside, rows=3)
    assert len(opened(inside, inside)) == 3


def test_a_folder_that_is_allowed_by_a_link_is_allowed(inside, tmp_path):
    write_dataset(inside, rows=3)
    (tmp_path / "link").symlink_to(inside)
    assert len(opened(tmp_path / "link", inside)) == 3


def test_a_linked_folder_leads_nowhere_else(inside, outside):
    (inside / "link").symlink_to(outside)
    with pytest.raises(SourceNotAllowed, match="KINDRED_SOURCES"):
        opened(inside, inside / "link")


def test_a_linked_file_leads_nowhere_else(inside, outside):
    (inside / "train.parquet").symlink_to(next(outside.glob("*.parquet")))
    assert not [row.data for row in opened(inside, inside).read(0, 1) if row.data]
    with pytest.raises(SourceNotAllowed):
        opened(inside, inside / "train.parquet")


@pytest.mark.parametrize("files", ["../outside/*.parquet", "{outside}/*.parquet"])
def test_a_folder_cannot_say_that_its_files_lie_elsewhere(inside, outside, files):
    """`datasets` takes the places of files from the head of a README.md."""
    write_dataset(inside, rows=3)
    place = files.format(outside=outside)
    head = f"configs:\n- config_name: default\n  data_files: {place}\n"
    (inside / "README.md").write_text(f"---\n{head}---\n")
    with pytest.raises(SourceNotAllowed):
        opened(inside, inside)


def test_a_cell_cannot_name_a_file_elsewhere(inside, outside):
    (inside / "rows").mkdir()
    for place in (outside, inside):
        Pillow.new("RGB", (8, 8)).save(place / "x.png")
    cells = [{"image": {"bytes": None, "path": str(p / "x.png")}} for p in (outside, inside)]
    schema = Features({"image": Image()}).arrow_schema
    pq.write_table(pa.Table.from_pylist(cells, schema), inside / "rows" / "train.parquet")

    refused, taken = opened(inside, inside / "rows").read(0, 2)

    assert not refused.data
    assert taken.data == (inside / "x.png").read_bytes()


@pytest.mark.parametrize("name", ["imagefolder", "parquet", "scans"])
def test_a_name_of_the_hub_is_no_folder_of_ours(inside, outside, monkeypatch, name):
    """`datasets` looks first into the folder that the worker stands in."""
    write_dataset(outside / "scans", rows=3)
    monkeypatch.chdir(outside)
    with pytest.raises(SourceError, match="outside of the hub"):
        opened(inside, name)


@pytest.mark.parametrize(
    ("dataset", "file", "allowed"),
    [
        ("org/name", "hf://datasets/org/name@abc/train.parquet", True),
        ("org/name", "zip://a.png::hf://datasets/org/name@abc/x.zip", True),
        ("name", "hf://datasets/org/name@abc/train.parquet", True),
        ("name", "hf://datasets/elsewhere/name@abc/train.parquet", False),
        ("org/name", "https://elsewhere.example/train.parquet", False),
        ("org/name", "hf://buckets/org/name/train.parquet", False),
        ("org/name", "/etc/train.parquet", False),
        ("org/name", "zip://a.png::/etc/x.zip", False),
    ],
)
def test_files_of_the_hub_lie_on_the_hub(dataset, file, allowed):
    sources = AllowedSources.of(("hub:org/*", "hub:name"))
    if allowed:
        sources.check_file(dataset, file)
        return
    with pytest.raises(SourceNotAllowed):
        sources.check_file(dataset, file)


@pytest.mark.parametrize("file", ["https://10.0.0.7/x.parquet", "hf://datasets/a/b@c/x", "x.png"])
def test_files_of_a_folder_are_no_addresses_even_where_all_folders_are_allowed(file):
    sources = AllowedSources.of(("/",))
    sources.check_file("/srv/images", "zip://a.png::/srv/images/x.zip")
    with pytest.raises(SourceNotAllowed):
        sources.check_file("/srv/images", file)


@pytest.mark.parametrize("kind", [ValueError, DatasetGenerationError])
def test_what_the_library_quotes_of_a_row_is_not_passed_on(inside, monkeypatch, kind):
    class Torn:
        config = SimpleNamespace(data_files=None)

        def download_and_prepare(self):
            raise kind("invalid value 'Jane' in column 1 of Jane.csv")

    monkeypatch.setattr("datasets.load_dataset_builder", lambda *_, **__: Torn())
    with pytest.raises(SourceError) as failed:
        opened(inside, "org/name")
    assert "Jane" not in str(failed.value)


def test_the_api_refuses_before_it_accepts(tmp_path, monkeypatch):
    accepted = []
    monkeypatch.setattr(Collection, "start_job", lambda self, *job: accepted.append(job))
    api = Api(tmp_path, sources="/srv/images")

    for dataset in ("/etc", "marmal88/skin_cancer", "http://10.0.0.7/x"):
        answer = api.http.post("/v1/jobs", json={"dataset": dataset})
        assert answer.status_code == 422
        assert answer.json()["type"].endswith("source-not-allowed")
        assert dataset not in answer.text
    assert not accepted
