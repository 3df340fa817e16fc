"""Data sets of Parquet and Arrow files, whatever wrote them: read in place, and completely."""

import io
import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.base.blobs import Blobs
from pipeline.base.errors import SourceError, SourceNotAllowed, SourceUnavailable
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.base import Opening, Row
from pipeline.sources.dataset import DatasetSource
from pipeline.sources.registry import plan_source
from pipeline.sources.selection import Selection
from pipeline.sources.tabular.opening import open_tabular
from pipeline.sources.tabular.reader import TabularReader
from pipeline.sources.tabular.tables import Cursor
from tests.unprivileged import forbid, run

CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
IMAGE = {"_type": "Image"}
LABEL = {"_type": "ClassLabel", "names": ["nevus", "melanoma"]}


def picture(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (number % 256, number // 256, 7)).save(out, "PNG")
    return out.getvalue()


def cells(rows: int, start: int = 0) -> pa.Array:
    return pa.array([{"bytes": picture(n), "path": "a"} for n in range(start, start + rows)], CELL)


def table(rows: int = 2, start: int = 0, **columns: Any) -> pa.Table:
    return pa.table({"image": cells(rows, start), **columns})


def described(made: pa.Table, **features: Any) -> pa.Table:
    """As the `datasets` library writes it."""
    known = json.dumps({"info": {"features": {"image": IMAGE, **features}}})
    return made.replace_schema_metadata({"huggingface": known})


def parquet(path: Path, made: pa.Table, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, path, **options)
    return path


def opened(path: Path, **selected: Any) -> TabularReader:
    return open_tabular(Selection(str(path), **selected), AllowedSources.of((str(path),)))


def rows_in(path: Path, **selected: Any) -> list[Row]:
    reader = opened(path, **selected)
    return list(reader.read(0, len(reader)))


def metadata_in(path: Path, **selected: Any) -> list[Any]:
    return [row.metadata for row in rows_in(path, **selected)]


def refusal(path: Path, **selected: Any) -> str:
    with pytest.raises(SourceError) as refused:
        rows_in(path, **selected)
    return str(refused.value)


# --- one file ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A column as some program writes it, and what its two rows keep of it."""

    name: str
    column: Any
    kept: Sequence[Any]
    features: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


ABSENT = object()
ID = 12345678901234567  # a double would make it …68

KINDS = (
    Kind("whole decimals", pa.array([123, 124], pa.decimal128(38, 0)), [123, 124]),
    Kind("decimals", pa.array([Decimal("1.25"), Decimal("2")], pa.decimal128(9, 2)), [1.25, 2]),
    Kind("wide decimals", pa.array([Decimal(10**40), None], pa.decimal256(50)), ["1" + "0" * 40]),
    Kind("long whole numbers", pa.array([ID, None]), [ID]),
    Kind("large strings", pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
    Kind("string views", pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
    Kind("dictionaries", pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
    Kind("nulls", pa.nulls(2), []),
    Kind("maps", pa.array([[("k", 1)], [("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int64())),
         [{"k": 1}, [["k", 1], ["k", 2]]]),
    Kind("nested", pa.array([{"a": {"b": 1}}, {"a": {"b": None}}]), [{"a": {"b": 1}}, {"a": {}}]),
    Kind("decimals inside", pa.array([[{"x": Decimal("1.50")}], [{"x": Decimal("2.00")}]]),
         [[{"x": 1.5}], [{"x": 2}]]),
    Kind("maps inside", pa.array([[[("k", Decimal("1.0"))]], []],
                                 pa.list_(pa.map_(pa.string(), pa.decimal128(3, 1)))),
         [[{"k": 1}], []]),
    Kind("times", pa.array([0, 86_400], pa.timestamp("s")),
         ["1970-01-01T00:00:00", "1970-01-02T00:00:00"]),
    Kind("days", pa.array([0, 1], pa.date32()), ["1970-01-01", "1970-01-02"]),
    Kind("hours", pa.array([60, None], pa.time32("s")), ["00:01:00"]),
    Kind("half floats", pa.array([1.5, float("nan")], pa.float32()), [1.5]),
    Kind("flags", pa.array([True, False]), [True, False]),
    Kind("classes", pa.array([1, -1]), ["melanoma"], {"column": LABEL}),
    Kind("bytes", pa.array([b"a", b"b"]), []),
    Kind("another picture", cells(2), []),
    Kind("a list of pictures", pa.array([[{"bytes": b"x", "path": "Doe-Jane.png"}], []]), []),
    Kind("another file", pa.array([{"bytes": b"x", "path": "Doe-Jane.wav"}, None], CELL), [],
         {"column": {"_type": "Audio"}}),
)  # fmt: skip


def write_parquet(path: Path, made: pa.Table) -> None:
    pq.write_table(made, path.with_suffix(".parquet"))


def write_file(path: Path, made: pa.Table) -> None:
    with pa.ipc.new_file(path.with_suffix(".arrow"), made.schema) as writer:
        writer.write_table(made, 1)


def write_stream(path: Path, made: pa.Table) -> None:
    with pa.ipc.new_stream(path.with_suffix(".arrow"), made.schema) as writer:
        writer.write_table(made, 1)


@pytest.mark.parametrize("write", [write_parquet, write_file, write_stream])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_column_is_read_whatever_wrote_it(
    tmp_path: Path, kind: Kind, write: Callable[[Path, pa.Table], None]
) -> None:
    made = table(column=kind.column)
    write(tmp_path / "t", described(made, **kind.features) if kind.features else made)
    rows = rows_in(tmp_path)
    kept = [row.metadata.get("column", ABSENT) for row in rows]
    assert kept == [*kind.kept, ABSENT, ABSENT][:2]
    assert [row.data for row in rows] == [picture(0), picture(1)]


@pytest.mark.parametrize(
    "cell",
    [
        cells(2),
        pa.array([picture(0), picture(1)]),
        pa.array([picture(0), picture(1)], pa.large_binary()),
        pa.array([{"bytes": picture(n)} for n in (0, 1)]),
        pa.array([{"path": None, "bytes": picture(n), "width": 4} for n in (0, 1)]),
        pa.array([picture(0), picture(1)]).dictionary_encode(),
    ],
    ids=lambda cell: str(cell.type).replace("\n", ""),
)
@pytest.mark.parametrize("options", [{}, {"store_schema": False}, {"version": "1.0"}], ids=str)
def test_images_are_found_by_their_type(
    tmp_path: Path, cell: pa.Array, options: dict[str, Any]
) -> None:
    parquet(tmp_path / "t.parquet", pa.table({"dx": ["a", "b"], "scan": cell}), **options)
    rows = rows_in(tmp_path)
    assert [row.data for row in rows] == [picture(0), picture(1)]
    assert [row.metadata for row in rows] == [{"dx": "a"}, {"dx": "b"}]


def test_of_several_columns_of_bytes_the_images_are_those_that_are_some(tmp_path: Path) -> None:
    made = pa.table({"hash": [b"\1\2", b"\3"], "none": [None, b""], "scan": [picture(0)] * 2})
    parquet(tmp_path / "t.parquet", made)
    assert [row.data for row in rows_in(tmp_path)] == [picture(0)] * 2
    assert [row.data for row in rows_in(tmp_path, image_column="hash")] == [b"\1\2", b"\3"]


def test_a_column_of_paths_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.png").write_bytes(picture(0))
    parquet(tmp_path / "t.parquet", pa.table({"file": ["scans/a.png", "/etc/passwd"]}))
    assert [row.data for row in rows_in(tmp_path, image_column="file")] == [picture(0), b""]
    assert "no column of images; its columns are file." in refusal(tmp_path)


def test_two_columns_of_one_name_are_both_kept(tmp_path: Path) -> None:
    made = pa.Table.from_arrays([cells(1), pa.array([1]), pa.array([2])], ["image", "x", "x"])
    parquet(tmp_path / "t.parquet", made)
    assert metadata_in(tmp_path) == [{"x": 1, "x_": 2}]


def test_another_column_can_have_the_ids(tmp_path: Path) -> None:
    parquet(tmp_path / "t.parquet", table(image_id=["a", "b"], accession=[7, 8]))
    rows = rows_in(tmp_path, id_column="accession")
    assert [row.image_id for row in rows] == ["7", "8"]
    assert rows[0].metadata == {"image_id": "a", "accession": "7"}
    assert [row.image_id for row in rows_in(tmp_path)] == ["a", "b"]


def test_decimal_ids_keep_all_their_digits(tmp_path: Path) -> None:
    digits = 10**37 + 1
    parquet(tmp_path / "t.parquet", table(1, image_id=pa.array([digits], pa.decimal128(38))))
    assert rows_in(tmp_path)[0].image_id == str(digits)


def test_a_row_says_where_it_stands(tmp_path: Path) -> None:
    for shard in range(2):
        parquet(tmp_path / "data" / f"train-0000{shard}-of-00002.parquet", table())
    rows = rows_in(tmp_path)
    assert [row.name for row in rows] == ["a"] * 4  # as its picture's file was called
    assert [row.number for row in rows] == [0, 1, 2, 3]
    assert rows[3].image_id == f"{tmp_path}/train#3"


@pytest.mark.parametrize(
    "name", ["a[1].parquet", "*.parquet", "?.parquet", "a::b.parquet", "a\nb.parquet", "M\udcfc.pq"]
)
def test_an_odd_name_is_a_name(tmp_path: Path, name: str) -> None:
    parquet(tmp_path / "x" / "a1.parquet", table(1))
    (tmp_path / "x" / "a1.parquet").rename(tmp_path / "x" / name)
    parquet(tmp_path / "a1.parquet", table(5))
    [row] = rows_in(tmp_path / "x")
    assert row.data


# --- several files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ({"age": [40, 41]}, {"age": [42.5, None]},
         [{"age": 40.0}, {"age": 41.0}, {"age": 42.5}, {}]),
        ({"a_id": [ID, ID]}, {"a_id": [1.0, None]},
         [{"a_id": str(ID)}, {"a_id": str(ID)}, {"a_id": "1"}, {}]),
        ({"age": pa.nulls(2)}, {"age": [42, 43]}, [{}, {}, {"age": 42}, {"age": 43}]),
        ({"age": [None, None]}, {"age": ["x", "y"]}, [{}, {}, {"age": "x"}, {"age": "y"}]),
        ({"age": pa.array([None, None], pa.float64())}, {"age": ["x", "y"]},
         [{}, {}, {"age": "x"}, {"age": "y"}]),
        ({}, {"dx": ["a", "b"]}, [{}, {}, {"dx": "a"}, {"dx": "b"}]),
        ({"dx": ["a", "b"]}, {}, [{"dx": "a"}, {"dx": "b"}, {}, {}]),
        ({"x": [1, 2], "y": ["a", "b"]}, {"y": ["c", "d"], "x": [3, 4]},
         [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}, {"x": 3, "y": "c"}, {"x": 4, "y": "d"}]),
        ({"dx": pa.array(["a", "b"], pa.large_string())},
         {"dx": pa.array(["c"] * 2).dictionary_encode()},
         [{"dx": "a"}, {"dx": "b"}, {"dx": "c"}, {"dx": "c"}]),
        ({"x": [{"a": 1}, {"a": 2}]}, {"x": [{"b": "c"}, None]},
         [{"x": {"a": 1}}, {"x": {"a": 2}}, {"x": {"b": "c"}}, {}]),
    ],
)  # fmt: skip
def test_files_may_differ(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], kept: list[Any]
) -> None:
    parquet(tmp_path / "a.parquet", table(**first))
    parquet(tmp_path / "b.parquet", table(2, 2, **second))
    assert json.dumps(metadata_in(tmp_path), sort_keys=True) == json.dumps(kept, sort_keys=True)
    assert [row.data for row in rows_in(tmp_path)] == [picture(n) for n in range(4)]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([1, 2], ["a", "b"], "column x is int64 in a.parquet and string in sub/b.parquet"),
        ([True, False], [1, 2], "column x is bool in a.parquet and int64 in sub/b.parquet"),
        ([{"y": 1}] * 2, [{"y": "a"}] * 2, "column x.y is int64 in a.parquet and string in"),
        ([[1], [2]], ["a", "b"], "column x is list<"),
        (["a", "b"], [{"y": "a"}] * 2, "column x is string in a.parquet and struct<"),
    ],
)
def test_types_that_clash_are_named_with_their_column_and_files(
    tmp_path: Path, first: list[Any], second: list[Any], said: str
) -> None:
    parquet(tmp_path / "a.parquet", table(x=first))
    parquet(tmp_path / "sub" / "b.parquet", table(x=second))
    assert said in refusal(tmp_path)


def test_images_may_be_stored_in_two_ways(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", pa.table({"image": [picture(0)]}))
    parquet(tmp_path / "b.parquet", table(1, 1))
    parquet(tmp_path / "c.parquet", pa.table({"image": pa.nulls(1)}))
    parquet(tmp_path / "d.parquet", pa.table({"dx": ["x"]}))
    assert [row.data for row in rows_in(tmp_path)] == [picture(0), picture(1), b"", b""]


def test_a_file_without_rows_says_nothing_of_types(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", pa.table({"image": pa.nulls(0), "x": pa.array([], pa.int8())}))
    parquet(tmp_path / "b.parquet", table(x=["a", "b"]))
    parquet(tmp_path / "c.parquet", table(0, x=pa.array([], pa.date32())))
    assert metadata_in(tmp_path) == [{"x": "a"}, {"x": "b"}]


@pytest.mark.parametrize("made", [table(0), pa.table({"image": pa.nulls(0)}), pa.table({})])
def test_a_data_set_without_rows_is_one(tmp_path: Path, made: pa.Table) -> None:
    parquet(tmp_path / "a.parquet", made)
    assert rows_in(tmp_path) == []


def test_names_of_classes_count_for_files_that_do_not_say_them(tmp_path: Path) -> None:
    other = {"_type": "ClassLabel", "names": ["melanoma", "nevus"]}
    parquet(tmp_path / "a.parquet", described(table(dx=[0, 1]), dx=LABEL))
    parquet(tmp_path / "b.parquet", described(table(dx=[0, 1]), dx=other))
    parquet(tmp_path / "c.parquet", table(dx=[0, 1]))
    parquet(tmp_path / "d.parquet", table(dx=["x", "y"]))
    names = [metadata["dx"] for metadata in metadata_in(tmp_path)]
    assert names == ["nevus", "melanoma", "melanoma", "nevus", "nevus", "melanoma", "x", "y"]


# --- splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "split", "read"),
    [
        (["train-00000-of-00001", "test-00000-of-00001"], None, [0]),
        (["train-00000-of-00001", "test-00000-of-00001"], "test", [1]),
        (["train-00000-of-00001", "test-00000-of-00001"], "all", [1, 0]),
        (["train-00000-of-00001-0123456789abcdef", "test-00000-of-00001"], None, [0]),
        (["data/skin-train-00000-of-00001", "data/skin-test-00000-of-00001"], None, [0]),
        (["train/0", "val/0"], None, [0]),
        (["train/0", "val/0"], "validation", [1]),
        (["train/0", "val/0"], "val", [1]),
        (["test/0"], None, [0]),
        (["test"], None, [0]),
        (["train", "patch test"], None, [1, 0]),
        (["train", "patch test"], "train", [0]),
        (["clinic", "test"], None, [0, 1]),
        (["clinic", "evaluation 2024"], "train", [0, 1]),
        (["a_train", "a_test"], None, [1, 0]),
        (["data/one-00000-of-00001", "data/two-00000-of-00001"], None, [0, 1]),
        (["data/one-00000-of-00001", "data/two-00000-of-00001"], "two", [1]),
    ],
)
def test_a_split_is_read_where_every_file_names_one(
    tmp_path: Path, files: list[str], split: str | None, read: list[int]
) -> None:
    for number, name in enumerate(files):
        parquet(tmp_path / "test" / f"{name}.parquet", table(1, number))
    rows = rows_in(tmp_path / "test", split=split)
    assert [row.data for row in rows] == [picture(number) for number in read]


@pytest.mark.parametrize(
    ("files", "split", "said"),
    [
        (["test", "val"], None, "with --split: test, validation"),
        (["test", "val"], "train", "no split train; its splits are test, validation"),
        (["train", "val"], "tset", "no split tset; its splits are train, validation"),
        (["clinic"], "test", "no split test; it has none"),
    ],
)
def test_a_split_that_is_not_there_is_answered_with_those_that_are(
    tmp_path: Path, files: list[str], split: str | None, said: str
) -> None:
    for name in files:
        parquet(tmp_path / f"{name}.parquet", table(1))
    assert said in refusal(tmp_path, split=split)


def test_a_single_file_is_all_there_is(tmp_path: Path) -> None:
    path = parquet(tmp_path / "test-00000-of-00001.parquet", table(1))
    [row] = rows_in(path)
    assert row.image_id == f"{path}/train#0"


# --- in place ------------------------------------------------------------------------------------


def test_any_part_is_read_by_any_thread(tmp_path: Path) -> None:
    """As lanes do: each its next part, in parts that end anywhere."""
    parquet(tmp_path / "a.parquet", table(130, n=range(130)), row_group_size=50)
    parquet(tmp_path / "b.parquet", table(0))
    parquet(tmp_path / "c.parquet", table(70, 130, n=range(130, 200)), row_group_size=1000)
    write_file(tmp_path / "d", table(60, 200, n=range(200, 260)))
    reader = opened(tmp_path)
    parts = [(start, min(start + 7, 260)) for start in range(0, 260, 7)]
    waiting, lock = iter([*parts, *reversed(parts), (0, 260)]), threading.Lock()
    found: dict[int, set[tuple[bytes, int]]] = {}

    def lane() -> None:
        while True:
            with lock:
                part = next(waiting, None)
            if part is None:
                return
            rows = list(reader.read(*part))
            assert [row.number for row in rows] == list(range(*part))
            with lock:
                for row in rows:
                    found.setdefault(row.number, set()).add((row.data, row.metadata["n"]))

    lanes = [threading.Thread(target=lane) for _ in range(3)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    assert found == {n: {(picture(n), n)} for n in range(260)}


def test_parts_in_turn_open_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(tmp_path / "a.parquet", table(40), row_group_size=10)
    reader, starts = opened(tmp_path), list[int]()
    at = Cursor.at

    def counted(table: Any, number: int, row: int) -> Any:
        starts.append(row)
        return at(table, number, row)

    monkeypatch.setattr(Cursor, "at", counted)
    for start in range(0, 40, 4):
        list(reader.read(start, start + 4))
    assert starts == [0]


def test_a_limit_is_kept(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", table(5))
    assert len(opened(tmp_path, limit=3)) == 3
    assert len(opened(tmp_path, limit=9)) == 5


def test_nothing_is_written(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", table(5))
    rows_in(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"ARROW1\0\0", b"nonsense" * 100])
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    parquet(tmp_path / "b.parquet", table(1))
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path) == (f"{tmp_path / name} cannot be read: it is damaged or cut off.")


@pytest.mark.parametrize("write", [write_parquet, write_file, write_stream])
def test_a_file_that_was_cut_off_is_named(
    tmp_path: Path, write: Callable[[Path, pa.Table], None]
) -> None:
    write(tmp_path / "t", table(100))
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-2000])
    assert refusal(tmp_path) == f"{path} cannot be read: it is damaged or cut off."


def test_a_file_with_damage_inside_is_named_once_it_is_met(tmp_path: Path) -> None:
    made = pa.table({"image": [os.urandom(1000).hex().encode() for _ in range(200)]})
    path = parquet(tmp_path / "a.parquet", made, compression="zstd", row_group_size=100)
    content = bytearray(path.read_bytes())
    damaged = len(content) * 3 // 4
    content[damaged : damaged + 400] = b"\xff" * 400
    path.write_bytes(content)
    reader = opened(tmp_path)
    assert len(reader) == 200
    with pytest.raises(SourceError, match=r"a\.parquet cannot be read: it is damaged"):
        list(reader.read(0, 200))


def test_a_file_that_changes_while_it_is_read_is_planned_again(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", table(4), row_group_size=2)
    reader = opened(tmp_path)
    before = reader.version
    os.utime(path, (0, 0))  # the same rows: they are read on, once the reader is opened again
    assert reader.version != before
    with pytest.raises(SourceUnavailable):
        list(reader.read(0, 1))
    assert opened(tmp_path).version == before


@pytest.mark.parametrize(
    "change",
    [
        lambda path: parquet(path, table(4, 1)),
        lambda path: parquet(path, table(3)),
        lambda path: path.rename(path.with_name("b.parquet")),
        lambda path: parquet(path.with_name("0.parquet"), table(1)),
    ],
)
def test_other_rows_have_another_version(tmp_path: Path, change: Callable[[Path], object]) -> None:
    path = parquet(tmp_path / "a.parquet", table(4))
    before = opened(tmp_path).version
    change(path)
    assert opened(tmp_path).version != before


# --- rights, links and what is no data ------------------------------------------------------------

_OPEN = """
import sys
from pipeline.base.errors import SourceError
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.selection import Selection
from pipeline.sources.tabular.opening import open_tabular
try:
    open_tabular(Selection(sys.argv[1]), AllowedSources.of(("/",)))
except SourceError as error:
    print(error)
"""


@pytest.mark.parametrize("forbidden", ["t.parquet", "sub"])
def test_what_may_not_be_read_is_named_at_once(tmp_path: Path, forbidden: str) -> None:
    parquet(tmp_path / "a.parquet", table(1))
    parquet(tmp_path / "t.parquet", table(1))
    parquet(tmp_path / "sub" / "a.parquet", table(1))
    forbid(tmp_path / forbidden)
    said = run(_OPEN, str(tmp_path))
    assert said.startswith(f"{tmp_path / forbidden} cannot be read: the workers have no right to.")


def test_a_link_is_followed_inside_of_what_is_allowed(tmp_path: Path) -> None:
    parquet(tmp_path / "set" / "a.parquet", table(1))
    parquet(tmp_path / "disk" / "b.parquet", table(2, 1))
    (tmp_path / "set" / "more").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "set")
    anywhere = AllowedSources.of((str(tmp_path),))
    assert len(open_tabular(Selection(str(tmp_path / "set")), anywhere)) == 3
    with pytest.raises(SourceNotAllowed):
        opened(tmp_path / "set")


def test_what_is_no_data_is_left_out(tmp_path: Path) -> None:
    parquet(tmp_path / "part-00000.snappy.parquet", table(1))
    for name in (".part.parquet", "._a.parquet", "_metadata", "_SUCCESS", "_temporary/a.parquet"):
        parquet(tmp_path / name, table(1))
    (tmp_path / "_SUCCESS").write_bytes(b"")
    (tmp_path / "README.md").write_text("text")
    parquet(tmp_path / "unnamed", table(1))
    assert len(rows_in(tmp_path)) == 2


def test_a_folder_without_tables_says_so(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"There is no Parquet or Arrow file in {tmp_path}."
    assert refusal(tmp_path / "none").endswith("is not there.")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"


@pytest.mark.parametrize("alone", [True, False])
def test_a_pointer_in_place_of_a_file_is_called_that(tmp_path: Path, alone: bool) -> None:
    if not alone:
        parquet(tmp_path / "a.parquet", table(1))
    (tmp_path / "b.parquet").write_bytes(POINTER)
    opening = Opening(
        Blobs(str(tmp_path / "blobs")),
        AllowedSources.of((str(tmp_path),)),
    )
    for path in (tmp_path, tmp_path / "b.parquet"):
        with pytest.raises(SourceError, match=r"b\.parquet is a Git LFS pointer, not the file"):
            plan_source(DatasetSource(dataset=str(path)), opening)
