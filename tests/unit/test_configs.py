"""Data sets of several configurations, as the head of their README.md says: one is chosen by name.

What such a head says wrongly harms nothing.
"""

from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import SourceError, SourceNotAllowed
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.card import config_folder, read_card
from pipeline.sources.selection import Selection
from pipeline.sources.tabular.opening import open_tabular
from tests.unit.test_tabular import metadata_in, parquet, picture, refusal, rows_in, table

TWO = """
configs:
- config_name: clinical
  data_dir: clinical
- config_name: dermoscopic
  data_files: dermoscopic/*.parquet
"""

BROKEN = (
    "Note: see: [the list",
    "configs: 7",
    "configs: [7, {data_dir: x}, {config_name: null}]",
    "configs: {config_name: {a: b}}",
    "- a list",
    "text",
    "dataset_info: {features: 7, config_name: []}",
    "dataset_info: [7, {features: [7, {dtype: {class_label: 7}}, {name: x, dtype: []}]}]",
    "a: &a [*a, *a]",
    "[" * 3000,
    "\ufffd: \x07",
    "configs:\n- config_name: default\n  data_files: gone/*.parquet",
    "configs:\n- config_name: default\n  data_dir: gone",
)


def describe(folder: Path, head: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(f"---\n{head.strip()}\n---\n# Set\n")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    parquet(tmp_path / "clinical" / "train-00000-of-00001.parquet", table(1, 0))
    parquet(tmp_path / "clinical" / "test-00000-of-00001.parquet", table(1, 1))
    parquet(tmp_path / "dermoscopic" / "a.parquet", table(1, 2))
    describe(tmp_path, TWO)
    return tmp_path


@pytest.mark.parametrize(
    ("config", "split", "read", "prefix"),
    [
        ("clinical", None, 0, "clinical/train"),
        ("clinical", "test", 1, "clinical/test"),
        ("dermoscopic", None, 2, "dermoscopic/train"),
    ],
)
def test_a_configuration_is_read_by_its_name(
    two: Path, config: str, split: str | None, read: int, prefix: str
) -> None:
    """Rows of two configurations are two images, whatever their places."""
    [row] = rows_in(two, config=config, split=split)
    assert (row.data, row.image_id) == (picture(read), f"{two}/{prefix}#0")


def test_several_are_listed_where_none_is_named(two: Path) -> None:
    assert "with --config: clinical, dermoscopic" in refusal(two)
    assert "its configurations are clinical, dermoscopic" in refusal(two, config="clinicl")


@pytest.mark.parametrize("mark", ["config_name: default", "config_name: b\n  default: true"])
def test_one_may_be_meant_where_none_is_named(tmp_path: Path, mark: str) -> None:
    """Its rows are called as if it were the only one."""
    parquet(tmp_path / "one.parquet", table(1, 1))
    parquet(tmp_path / "two.parquet", table(1, 2))
    others = "configs:\n- config_name: a\n  data_files: one.parquet"
    describe(tmp_path, f"{others}\n- {mark}\n  data_files: two.parquet")
    [row] = rows_in(tmp_path)
    assert (row.data, row.image_id) == (picture(2), f"{tmp_path}/train#0")
    assert rows_in(tmp_path, config=mark.split()[1]) == [row]


def test_a_configuration_where_there_is_none_is_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", table(1))
    assert "no configuration x; it has none" in refusal(tmp_path, config="x")
    describe(tmp_path, BROKEN[0])
    assert "is not YAML" in refusal(tmp_path, config="x")


@pytest.mark.parametrize("head", BROKEN)
def test_a_head_that_says_nothing_harms_nothing(tmp_path: Path, head: str) -> None:
    parquet(tmp_path / "a.parquet", table(1, dx=["x"]))
    describe(tmp_path, head)
    (tmp_path / "dataset_infos.json").write_text('{"default": {"splits": 7}}')
    assert metadata_in(tmp_path) == [{"dx": "x"}]
    assert config_folder(tmp_path, None) == tmp_path


def test_a_configuration_whose_files_are_gone_is_named(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", table(1))
    describe(tmp_path, "configs:\n- config_name: one\n  data_files: gone/*.parquet")
    assert "no Parquet or Arrow file in configuration one of" in refusal(tmp_path, config="one")


@pytest.mark.parametrize(
    ("files", "split", "read"),
    [
        ("one.parquet", None, [0]),
        ("['*.parquet']", None, [0, 1]),
        ("'**'", None, [0, 2, 1]),
        ("sub/**", None, [2]),
        ("'**/three.parquet'", None, [2]),
        ("[two.parquet, one.parquet]", None, [1, 0]),
        ("{train: one.parquet, test: t*.parquet}", None, [0]),
        ("{train: one.parquet, test: t*.parquet}", "test", [1]),
        ("{train: one.parquet, test: t*.parquet}", "all", [0, 1]),
        ("[{split: a, path: one.parquet}]", None, [0]),
        ("[{split: a, path: one.parquet}, {split: b, path: [sub/three.parquet]}]", "b", [2]),
        ("{root}/one.parquet", None, [0]),
    ],
)
def test_patterns_of_files_are_those_of_the_hub(
    tmp_path: Path, files: str, split: str | None, read: list[int]
) -> None:
    for number, name in enumerate(("one", "two", "sub/three")):
        parquet(tmp_path / f"{name}.parquet", table(1, number))
    found = files.replace("{root}", str(tmp_path))
    describe(tmp_path, f"configs:\n- config_name: default\n  data_files: {found}")
    assert [row.data for row in rows_in(tmp_path, split=split)] == [picture(n) for n in read]


def test_splits_of_a_head_are_listed(tmp_path: Path) -> None:
    parquet(tmp_path / "one.parquet", table(1))
    files = "{a: one.parquet, b: one.parquet}"
    describe(tmp_path, f"configs:\n- config_name: default\n  data_files: {files}")
    assert "no split train; its splits are a, b" in refusal(tmp_path)


@pytest.mark.parametrize(
    "place", ["data_files: ../outside/*.parquet", "data_dir: ../outside", "data_dir: /etc",
              "data_files: https://elsewhere.example/x.parquet", "data_files: zip://a::b.zip"],
)  # fmt: skip
def test_no_head_leads_elsewhere(tmp_path: Path, place: str) -> None:
    parquet(tmp_path / "outside" / "a.parquet", table(1))
    parquet(tmp_path / "set" / "a.parquet", table(1))
    describe(tmp_path / "set", f"configs:\n- config_name: default\n  {place}")
    with pytest.raises(SourceNotAllowed):
        rows_in(tmp_path / "set")


@pytest.mark.parametrize(
    "names", ["{'0': nevus, '1': melanoma}", "[nevus, melanoma]", "{1: melanoma, 0: nevus}"]
)
def test_names_of_classes_may_stand_in_the_head(tmp_path: Path, names: str) -> None:
    parquet(tmp_path / "a.parquet", table(2, dx=[1, 0]))
    label = f"{{name: dx, dtype: {{class_label: {{names: {names}}}}}}}"
    describe(
        tmp_path, f"dataset_info:\n  features:\n  - {label}\n  - {{name: image, dtype: image}}"
    )
    assert metadata_in(tmp_path) == [{"dx": "melanoma"}, {"dx": "nevus"}]


# --- for folders of pictures ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "folder"),
    [
        ("data_dir: clinical", "clinical"),
        ("data_files: clinical/*.jpg", "clinical"),
        ("data_files: clinical/2024/**", "clinical/2024"),
        ("data_files: [clinical/a.jpg, other/b.jpg]", ""),
        ("data_files: '*.jpg'", ""),
        ("default: true", ""),
    ],
)
def test_the_folder_of_a_configuration_is_known(tmp_path: Path, place: str, folder: str) -> None:
    describe(tmp_path, f"configs:\n- config_name: one\n  {place}")
    assert config_folder(tmp_path, "one") == tmp_path / folder


def test_without_configurations_it_is_the_folder_itself(tmp_path: Path) -> None:
    assert config_folder(tmp_path, None) == tmp_path
    with pytest.raises(SourceError, match="leave out --config"):
        config_folder(tmp_path, "one")


@pytest.mark.parametrize("head", ["\ufeff---\n{}---\n", "---\r\n{}\r\n---\r\n", "---\n{}\n---"])
def test_a_head_may_be_written_anywhere(tmp_path: Path, head: str) -> None:
    said: Any = head.replace("{}", "configs: [{config_name: a, data_dir: b}]\n")
    (tmp_path / "README.md").write_text(said, newline="")
    assert list(read_card(tmp_path).configs) == ["a"]


def test_the_list_is_short(tmp_path: Path) -> None:
    names = "\n".join(f"- config_name: c{n} {'x' * 100}" for n in range(100))
    describe(tmp_path, f"configs:\n{names}")
    with pytest.raises(SourceError, match="and 80 more") as refused:
        open_tabular(Selection(str(tmp_path)), AllowedSources.of(("/",)))
    assert len(str(refused.value)) < 2000
