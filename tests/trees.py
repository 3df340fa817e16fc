"""Folders as people have them, made on the spot: what a case looks like, and what is right."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.made_bytes import encoded

Expected = dict[str, dict[str, Any]]  # a file's own name, or an image id → its metadata


@dataclass(frozen=True)
class Tree:
    """`images` are those that are taken; `rejected` maps paths to a part of the reason.

    `part` is the folder that is read, if that is not all; `named` is what is ingested in place of
    the tree. `fails` is a part of the sentence with which the job, or the upload, fails as a
    whole.
    """

    write: Callable[[Path], None]
    images: Expected = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    unchanged: int = 0
    options: tuple[str, ...] = ()
    part: str = ""
    named: str = ""
    fails: str | None = None


_drawn = 0


def picture(kind: str = "JPEG") -> bytes:
    """A picture like no other of this process."""
    global _drawn
    _drawn += 1
    shade = (_drawn % 200 + 30, _drawn // 200 % 200 + 20, (_drawn * 37) % 256)
    return encoded(Image.new("RGB", (24, 16), shade), kind)


def tree(contents: dict[str, bytes | str | None]) -> Callable[[Path], None]:
    """Writes files by their paths; None stands for a picture."""

    def write(root: Path) -> None:
        for name, content in contents.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = picture() if content is None else content
            path.write_bytes(data.encode() if isinstance(data, str) else data)

    return write


def pictures(*names: str) -> dict[str, bytes | str | None]:
    return dict.fromkeys(names)


def zipped(contents: dict[str, bytes | None]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, picture() if content is None else content)
    return out.getvalue()


def tarred(contents: dict[str, bytes | None], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in contents.items():
            data = picture() if content is None else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def _zip_of_windows() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        table = b"file_name,dx\na.jpg,nv\n"
        for name, data in {"in\\a.jpg": picture(), "in\\metadata.csv": table}.items():
            info = zipfile.ZipInfo(name)
            info.create_system = 0
            archive.writestr(info, data)
    return out.getvalue()


def _linked(root: Path) -> None:
    tree(pictures("a.jpg", "sub/b.jpg"))(root)
    (root / "again").symlink_to(root / "sub")
    (root / "nothing.jpg").symlink_to(root / "gone.jpg")
    (root / "c.jpg").symlink_to(root / "a.jpg")


def _look_the_same(root: Path) -> None:
    """Composed and decomposed, and as Windows wrote it: on the disk, these are three files."""
    for name in ("M\u00fcller.jpg", "Mu\u0308ller.jpg", "M\udcfcller.jpg"):
        Path(f"{root}/{name}").write_bytes(picture())


def _latin1(root: Path) -> None:
    tree(pictures("ok.jpg"))(root)
    Path(str(root) + "/M\udcfcller.jpg").write_bytes(picture())


def _twice(root: Path) -> None:
    data = picture()
    table = "file_name,dx\na.jpg,nv\nb.jpg,nv\nc.jpg,mel\n"
    tree({"a.jpg": data, "b.jpg": data, "c.jpg": data, "metadata.csv": table})(root)


_PATTERNS = ("a[1].jpg", "b*.jpg", "c?.jpg", "d::e.jpg", "f\ng.jpg", 'h"i.jpg', "j%22.jpg")
_LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
_SIDECAR = {"meta": {"clinical": {"age_approx": 40, "patient_id": 17}}, "name": "X"}
_ISIC = "isic_id,age_approx,dx\nISIC_1,45,nv\nISIC_2,50,mel\n"
_TYPES = (
    "file_name,patient_id,code,age,dose,note\n"
    "a.jpg,007,1E5,45,0.5,\n"
    "b.jpg,12345678901234567,2,,1.25,NA\n"
)
_IDS = "file_name,image_id\na.jpg,one\nb.jpg,two\nc.jpg,one\n"
_SEVERAL = "file_name,image_id,dx\na.jpg,first,nv\na.jpg,second,mel\n"
_LETTERS = "file_name,dx\nscans\\A.JPG,nv\na/c.jpg,mel\na/b.jpg,bcc\n"
_ODD_IDS = '{"file_name": "a.jpg", "image_id": [1]}\n{"file_name": "b.jpg", "dx": "nv"}\n'
_HALF = '{"dx": "nv\\ud800", "deep": {"n": NaN, "site": "arm"}}'
_GAPS = "file_name,case,image_id\na.jpg,1.50,7\nb.jpg,,8\n"
_CONFIGS = (
    "---\nconfigs:\n- config_name: clinical\n  data_dir: clinical\n"
    "- config_name: close\n  data_dir: close\n---\n"
)
_AGAIN = "file_name,dx\na.jpg,nv\na.jpg,mel\na.jpg,nv\n"

_BESIDE: dict[str, bytes | str | None] = {"b.jpg": None, "b.json": '{"image_id": "packed"}'}

TREES: dict[str, Tree] = {
    "words of splits": Tree(
        tree(pictures("train_1.jpg", "b.jpg", "test/c.jpg", "2023/dev 1.jpg")),
        {"train_1.jpg": {}, "b.jpg": {}, "c.jpg": {}, "dev 1.jpg": {}},
    ),
    "patterns in names": Tree(
        tree(
            pictures("a[1].jpg", "b*.jpg", "c?.jpg", "d::e.jpg", "f\ng.jpg", 'h"i.jpg', "j%22.jpg")
        ),
        {n: {} for n in ("a[1].jpg", "b*.jpg", "c?.jpg", "d::e.jpg", "f\ng.jpg", 'h"i.jpg')}
        | {"j%22.jpg": {}},
    ),
    "a name that is no UTF-8": Tree(_latin1, {"ok.jpg": {}, "Müller.jpg": {}}),
    "a table of some pictures": Tree(
        tree({**pictures("0.jpg", "1.jpg", "2.jpg"), "metadata.csv": "file_name,dx\n0.jpg,nv\n"}),
        {"0.jpg": {"dx": "nv"}, "1.jpg": {}, "2.jpg": {}},
        skipped={"metadata": 1},
    ),
    "a table that names what is not there": Tree(
        tree({**pictures("0.jpg"), "metadata.csv": "file_name,dx\n0.jpg,nv\ngone.jpg,mel\n"}),
        {"0.jpg": {"dx": "nv"}},
        {"gone.jpg": "line 3, names this file"},
        {"metadata": 1},
    ),
    "the ISIC archive's table": Tree(
        tree(
            {**pictures("ISIC_1.JPG", "ISIC_2.JPG"), "metadata.csv": _ISIC, "licence.txt": "CC-0"}
        ),
        {
            "ISIC_1.JPG": {"isic_id": "ISIC_1", "age_approx": 45, "dx": "nv"},
            "ISIC_2.JPG": {"isic_id": "ISIC_2", "age_approx": 50, "dx": "mel"},
        },
        skipped={"metadata": 1, "text": 1},
    ),
    "sidecars": Tree(
        tree(
            {
                **pictures("a.jpg", "b.jpg", "c.jpg"),
                "a.json": json.dumps(_SIDECAR),
                "b.jpg.json": '{"dx": "mel"}',
                "c.json": "{broken",
                "other.json": "{}",
                "notes.txt": "none",
            }
        ),
        {
            "a.jpg": {
                "meta": {"clinical": {"age_approx": 40, "patient_id": "17"}},
                "name": "X",
            },
            "b.jpg": {"dx": "mel"},
            "c.jpg": {},
        },
        {"c.json": "it is not JSON"},
        {"metadata": 2, "json": 1, "text": 1},
    ),
    "other files": Tree(
        tree(
            {
                **pictures("a.jpg", "no suffix", "b.jpg.1", "c.txt"),
                "d.jpg": "<html>404 Not Found</html>",
                "e.jpg": _LFS,
                "f.jpg": b"",
                "report.pdf": b"%PDF-1.7\n" + b"x" * 100,
                ".hidden.jpg": b"x",
                "._a.jpg": b"x",
                "Thumbs.db": b"x",
                "__MACOSX/._a.jpg": b"x",
                ".git/objects/1": b"x",
                ".DS_Store": b"x",
            }
        ),
        {"a.jpg": {}, "no suffix": {}, "b.jpg.1": {}, "c.txt": {}},
        {"d.jpg": "HTML", "e.jpg": "Git LFS pointer", "f.jpg": "empty"},
        {"pdf": 1, "hidden": 3, "system": 3},
    ),
    "links": Tree(
        _linked, {"a.jpg": {}, "b.jpg": {}}, {"nothing.jpg": "link to nothing"}, {"link": 1}, 1
    ),
    "a zip": Tree(
        tree(
            {
                "export.zip": zipped(
                    {
                        "export/a.jpg": None,
                        "export/b.JPG": None,
                        "export/metadata.csv": b"file_name,dx\na.jpg,nv\n",
                        "__MACOSX/export/._a.jpg": b"x",
                        "../../climbs.jpg": None,
                        "inner.zip": zipped({"x.jpg": None}),
                    }
                ),
                "c.jpg": None,
            }
        ),
        {"a.jpg": {"dx": "nv"}, "b.JPG": {}, "c.jpg": {}},
        {
            "export.zip/../../climbs.jpg": "leads out",
            "export.zip/inner.zip": "archive in an archive",
        },
        {"archive": 1, "metadata": 1, "system": 1},
    ),
    "a damaged zip": Tree(
        tree({"a.jpg": None, "b.zip": zipped({"x.jpg": None})[:-30]}),
        {"a.jpg": {}},
        {"b.zip": "damaged"},
    ),
    "a webdataset": Tree(
        tree(
            {
                "0.tar": tarred({"1.2.840.0.jpg": None, "1.2.840.1.jpg": None}),
                "1.tar.gz": tarred({"0.png": None, "0.json": b'{"dx": "nv"}'}, "w:gz"),
            }
        ),
        {"1.2.840.0.jpg": {}, "1.2.840.1.jpg": {}, "0.png": {"dx": "nv"}},
        skipped={"archive": 2, "metadata": 1},
    ),
    "values keep their text": Tree(
        tree({**pictures("a.jpg", "b.jpg"), "metadata.csv": _TYPES}),
        {
            "a.jpg": {"patient_id": "007", "code": "1E5", "age": 45, "dose": 0.5},
            "b.jpg": {"patient_id": "12345678901234567", "code": "2", "dose": 1.25},
        },
        skipped={"metadata": 1},
    ),
    "one id, two pictures": Tree(
        tree({**pictures("a.jpg", "b.jpg", "c.jpg"), "metadata.csv": _IDS}),
        {"one": {}, "two": {}},
        {"c.jpg": "Row 0 of this job has the same id and another picture"},
        {"metadata": 1},
    ),
    "one picture, several ids": Tree(
        tree({**pictures("a.jpg"), "metadata.csv": _SEVERAL}),
        {"first": {"dx": "nv"}, "second": {"dx": "mel"}},
        skipped={"metadata": 1},
    ),
    "folders in other letters": Tree(
        tree({**pictures("Scans/a.jpg", "A/b.jpg", "a/c.jpg"), "metadata.csv": _LETTERS}),
        {"a.jpg": {"dx": "nv"}, "b.jpg": {}, "c.jpg": {"dx": "mel"}},
        {"a/b.jpg": "it is not there"},
        {"metadata": 1},
    ),
    "names that look the same": Tree(
        _look_the_same, {"Müller.jpg": {}, "Müller (2).jpg": {}, "Müller (3).jpg": {}}
    ),
    "blanks and backslashes in names": Tree(
        tree(
            {**pictures(" a.jpg", "b .jpg", "c\\d.jpg"), "metadata.csv": "file_name,n\n a.jpg,1\n"}
        ),
        {" a.jpg": {"n": 1}, "b .jpg": {}, "c\\d.jpg": {}},
        skipped={"metadata": 1},
    ),
    "a name without a suffix, and the same with one": Tree(
        tree({**pictures("a", "a.jpg", "b.jpg"), "metadata.csv": "file_name,n\na,1\nb,2\n"}),
        {"a": {"n": 1}, "a.jpg": {}, "b.jpg": {"n": 2}},
        skipped={"metadata": 1},
    ),
    "pictures that are called like tables and sidecars": Tree(
        tree(pictures("a.jpg", "a.json", "metadata.csv")),
        {"a.jpg": {}, "a.json": {}, "metadata.csv": {}},
    ),
    "sidecars in two letters": Tree(
        tree({**pictures("a.jpg", "A.jpg"), "a.json": '{"n": 1}', "A.json": '{"n": 2}'}),
        {"a.jpg": {"n": 1}, "A.jpg": {"n": 2}},
        skipped={"metadata": 2},
    ),
    "a sidecar with half a character and no number": Tree(
        tree({**pictures("a.jpg"), "a.json": _HALF}),
        {"a.jpg": {"dx": "nv?", "deep": {"site": "arm"}}},
        skipped={"metadata": 1},
    ),
    "sidecars of the pictures that are wanted": Tree(
        tree({**pictures("a.jpg", "b.png"), "a.json": '{"n": 1}', "b.json": '{"n": 2}'}),
        {"a.jpg": {"n": 1}},
        skipped={"metadata": 1, "excluded": 2},
        options=("--include", "*.jpg"),
    ),
    "a broken table that is not wanted": Tree(
        tree({**pictures("a.jpg"), "metadata.csv": 'file_name,dx\na.jpg,"nv\n'}),
        {"a.jpg": {}},
        skipped={"excluded": 1},
        options=("--exclude", "metadata.*"),
    ),
    "a table that was never fetched": Tree(
        tree({**pictures("a.jpg"), "metadata.csv": _LFS}), fails="Git LFS pointer"
    ),
    "an id column with gaps and decimals": Tree(
        tree({**pictures("a.jpg", "b.jpg"), "metadata.csv": _GAPS}),
        {"1.50": {"case": "1.50", "image_id_": "7"}, "b.jpg": {"image_id_": "8"}},
        skipped={"metadata": 1},
        options=("--id-column", "case"),
    ),
    "rows whose ids are no text": Tree(
        tree({**pictures("a.jpg", "b.jpg"), "metadata.jsonl": _ODD_IDS}),
        {"a.jpg": {"image_id_": ["1"]}, "b.jpg": {"dx": "nv"}},
        skipped={"metadata": 1},
    ),
    "packed files": Tree(
        tree(
            {
                "a.jpg": None,
                "b.jpg.gz": gzip.compress(picture()),
                "log.gz": gzip.compress(b"a log"),
                "cut.tgz": tarred({"x.jpg": None, "y.jpg": None}, "w:gz")[:-100],
                "new.tar.zst": b"\x28\xb5\x2f\xfd" + bytes(40),
            }
        ),
        {"a.jpg": {}},
        {"b.jpg.gz": "unpack it", "cut.tgz": "damaged", "new.tar.zst": "unpack it"},
        {"gzip": 1},
    ),
    "a zip of an old program for Windows": Tree(
        tree({"a.zip": _zip_of_windows()}),
        {"a.jpg": {"dx": "nv"}},
        skipped={"archive": 1, "metadata": 1},
    ),
    "one id, in an archive and beside it": Tree(
        tree({"a.zip": zipped({"x.jpg": None, "x.json": b'{"image_id": "packed"}'}), **_BESIDE}),
        {"packed": {}},
        {"b.jpg": "has the same id and another picture"},
        {"archive": 1, "metadata": 2},
    ),
    "one picture twice, and once with another diagnosis": Tree(
        _twice,
        {"a.jpg": {"dx": "nv"}},
        {"c.jpg": "Row 0 of this job is the same picture, and its metadata say otherwise"},
        {"metadata": 1},
        unchanged=1,
    ),
    "a table that says two things": Tree(
        tree({**pictures("a.jpg"), "metadata.csv": _AGAIN}),
        {"a.jpg": {"dx": "nv"}},
        {"a.jpg": "line 3, names this file again"},
        {"metadata": 1},
    ),
    "an id column, and an image_id beside it": Tree(
        tree({**pictures("a.jpg"), "metadata.csv": "file_name,image_id,case\na.jpg,7,A\n"}),
        {"A": {"case": "A", "image_id_": "7"}},
        skipped={"metadata": 1},
        options=("--id-column", "case"),
    ),
    "patterns and labels": Tree(
        tree({**pictures("nv/a.jpg", "nv/b.png", "mel/c.jpg", "mel/d_mask.jpg")}),
        {"a.jpg": {"label": "nv"}, "c.jpg": {"label": "mel"}},
        skipped={"excluded": 2},
        options=("--include", "*.jpg", "--exclude", "*_mask.*", "--label-from-folder"),
    ),
    "a row with too many cells": Tree(
        tree({**pictures("a.jpg"), "metadata.csv": "file_name,dx\na.jpg,nv,left, arm\n"}),
        {"a.jpg": {}},
        {"metadata.csv:2": "has 4 cells, and its header 2"},
        {"metadata": 1},
    ),
    "a broken table": Tree(
        tree({**pictures("a.jpg"), "metadata.csv": 'file_name,dx\na.jpg,"nv\n'}),
        fails="begins in line 2",
    ),
    "a table that names no files": Tree(
        tree({**pictures("a.jpg"), "metadata.csv": "name,dx\nA,nv\n"}),
        fails="no column names the files",
    ),
    "one split": Tree(
        tree(pictures("train/a.jpg", "train/b/c.jpg", "test/d.jpg")),
        {"d.jpg": {}},
        skipped={"other split": 2},
        options=("--split", "test"),
    ),
    "a split of some pictures": Tree(
        tree(pictures("train/a.jpg", "b.jpg")),
        fails="all pictures must lie in folders",
        options=("--split", "train"),
    ),
    "several configurations": Tree(
        tree({**pictures("clinical/a.jpg", "close/b.jpg"), "README.md": _CONFIGS}),
        fails="--config: clinical, close",
    ),
    "one configuration": Tree(
        tree({**pictures("clinical/a.jpg", "close/b.jpg"), "README.md": _CONFIGS}),
        {"b.jpg": {}},
        options=("--config", "close"),
        part="close",
    ),
    "a head that is no YAML, and old infos": Tree(
        tree({**pictures("a.jpg"), "README.md": "---\n: [\n---\n", "dataset_infos.json": "{}"}),
        {"a.jpg": {}},
        skipped={"text": 1, "json": 1},
    ),
    "nothing": Tree(lambda root: None, fails="is empty"),
    "no pictures": Tree(
        tree({"a.pdf": b"%PDF-1.7\nx", "b.txt": "text"}),
        fails="Its files were skipped: 1 pdf, 1 text",
    ),
}

# As people export them.
_HAM = "lesion_id,image_id,dx,age\nHAM_1,ISIC_1,bkl,80.0\nHAM_2,ISIC_2,nv,\nHAM_3,ISIC_3,nv,5.5\n"
_EXCEL = (
    "Name;file_name;Größe (mm);Alter;Fall-Nr\r\nx;a.jpg;1,5;45;0012\r\ny;ö.jpg;12;;0013\r\n"
    ";;;;\r\n;;;;\r\n"
)
_DIGITS = (
    'file_name,size,code,far,e\na.jpg,1e-5,1E5,12345678901234567,+5\nb.jpg,0.5,3,1.5,"1,234"\n'
)
_FLOATS = (
    '\ufeff{"image_id": 123.0, "patient_id": 7.0, "n": 1.0}\r\n\r\n'
    '{"file_name": "b.jpg", "patient_id": 12345678901234567}\r\n'
)
_PATHS = "file_name,n\ns/./a.jpg,1\ns//b.jpg,2\n././s/c.jpg,3\n../a.jpg,4\nC:\\x\\a.jpg,5\n"
_ISIC_ZIP: dict[str, bytes | None] = {
    "ISIC_1.JPG": None, "ISIC_2.JPG": None, "metadata.csv": _ISIC.encode(),
    "attribution.txt": b"someone", "licenses/CC-0.txt": b"free",
}  # fmt: skip
_TYPED = _parquet(
    image_id=[223.0, 224.0],
    file_name=pa.array(["223.jpg", "b.jpg"]).dictionary_encode(),
    lesion_id=pa.array([Decimal("12.50"), Decimal(3)], pa.decimal128(10, 2)),
    age=pa.array([Decimal(40), Decimal(41)], pa.decimal128(38, 0)),
    dose=pa.array([0.5, float("nan")]),
    map=pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
    dx=pa.array(["nv", "mel"], pa.large_string()),
    at=pa.array([1_700_000_000, None], pa.timestamp("s", tz="Europe/Berlin")),
    nowhere=pa.array([1, None], pa.timestamp("s", tz="Mars/Phobos")),
    long=pa.array([2**64 - 1, 3], pa.uint64()),
    x=pa.array([True, None]),
    thumbnail=[b"\xff", b"x"],
)
_SPELLED = (
    '{"Image_File_Name": "a.jpg", "Patient ID": 7, "study id": 8, "patientid": 10, "n": '
    + "9" * 5000
    + "}"
)
_TRUTH = "image,NV\nISIC_8,1.0\nb.jpg,0.0\n?.jpg,0.0\n"
_PHOTOS = {
    "A.jpg.supplemental-metadata.json": "1",
    "A.jpg(1).json": "2",
    "B.jpg.supplemental-metadata(1).json": "3",
    "C_with_a_long_name.jpg.supp.json": "4",
}

TREES |= {
    "the ISIC archive's zip, named itself": Tree(
        tree({"ISIC-images.zip": zipped(_ISIC_ZIP)}),
        TREES["the ISIC archive's table"].images,
        skipped={"archive": 1, "metadata": 1, "text": 2},
        named="ISIC-images.zip",
    ),
    "the pictures of an archive that are wanted": Tree(
        tree(
            {
                "x.zip": zipped({"a.jpg": None, "b.png": None}),
                "scan.gz": gzip.compress(picture()),
                "in.zip": zipped({"[Content_Types].xml": b"<x/>"}),
            }
        ),
        {"a.jpg": {}},
        skipped={"archive": 1, "excluded": 3},
        options=("--include", "*.jpg"),
    ),
    "splits in an archive": Tree(
        tree({"x.zip": zipped({"train/a.jpg": None, "test/b.jpg": None})}),
        {"a.jpg": {}},
        skipped={"archive": 1, "other split": 1},
        named="x.zip",
        options=("--split", "train"),
    ),
    "HAM10000, its pictures in two parts": Tree(
        tree(
            {**pictures("part_1/ISIC_1.jpg", "part_2/ISIC_2.jpg", "ISIC_3.jpg", "t/ISIC_3.jpg")}
            | {"metadata.csv": _HAM}
        ),
        {
            "ISIC_1": {"lesion_id": "HAM_1", "dx": "bkl", "age": 80.0},
            "ISIC_2": {"lesion_id": "HAM_2", "dx": "nv"},
            "ISIC_3": {"lesion_id": "HAM_3", "dx": "nv", "age": 5.5},
            "ISIC_3.jpg": {},
        },
        skipped={"metadata": 1},
    ),
    "an ISIC challenge's truth": Tree(
        tree({**pictures("in/ISIC_8.jpg", "in/b.jpg"), "metadata.csv": _TRUTH}),
        {"ISIC_8.jpg": {"NV": 1.0}, "b.jpg": {}},
        {"b.jpg": "line 3, names this file", "?.jpg": "line 4"},
        {"metadata": 1},
    ),
    "commas in the names of columns": Tree(
        tree(
            {**pictures("a.jpg"), "metadata.csv": "file_name;size, mm;dose, mg, x\na.jpg;1,5;2\n"}
        ),
        {"a.jpg": {"size, mm": 1.5, "dose, mg, x": 2}},
        skipped={"metadata": 1},
    ),
    "half a character in a name": Tree(
        tree({**pictures("a.jpg"), "metadata.jsonl": '{"file_name": "\\ud800.jpg", "n": 1}\n'}),
        {"a.jpg": {}},
        {"?.jpg": "line 1, names this file"},
        {"metadata": 1},
    ),
    "photos of Google": Tree(
        tree(
            pictures("A.jpg", "A(1).jpg", "B(1).jpg", "C_with_a_long_name.jpg")
            | {name: f'{{"title": "{n}"}}' for name, n in _PHOTOS.items()}
            | {"metadata.json": '{"title": "album"}'}
        ),
        {
            "A.jpg": {"title": "1"},
            "A(1).jpg": {"title": "2"},
            "B(1).jpg": {"title": "3"},
            "C_with_a_long_name.jpg": {"title": "4"},
        },
        skipped={"metadata": 4, "json": 1},
    ),
    "a share of Windows and a NAS": Tree(
        tree(
            pictures("a.jpg", "#snapshot/a.jpg", "@eaDir/a.jpg/THUMB.jpg", "$RECYCLE.BIN/b.jpg")
            | {"~$list.xlsx": b"\x06someone" + bytes(20), "Thumbs.db:encryptable": b""}
        ),
        {"a.jpg": {}},
        skipped={"system": 5},
    ),
    "a table of a German Excel": Tree(
        tree({**pictures("a.jpg", "ö.jpg"), "metadata.csv": _EXCEL.encode("cp1252")}),
        {
            "a.jpg": {"Name": "x", "Größe (mm)": 1.5, "Alter": 45, "Fall-Nr": "0012"},
            "ö.jpg": {"Name": "y", "Größe (mm)": 12.0, "Fall-Nr": "0013"},
        },
        skipped={"metadata": 1},
    ),
    "more digits than a float has": Tree(
        tree({**pictures("a.jpg", "b.jpg"), "metadata.csv": _DIGITS}),
        {
            "a.jpg": {"size": 1e-5, "code": "1E5", "far": "12345678901234567", "e": "+5"},
            "b.jpg": {"size": 0.5, "code": "3", "far": "1.5", "e": "1,234"},
        },
        skipped={"metadata": 1},
    ),
    "files that are named by numbers": Tree(
        tree({**pictures("123.jpg", "b.jpg"), "metadata.jsonl": _FLOATS}),
        {"123": {"patient_id": "7", "n": 1.0}, "b.jpg": {"patient_id": "12345678901234567"}},
        skipped={"metadata": 1},
    ),
    "identifiers that look like suffixes": Tree(
        tree({**pictures("1.2.840.0", "b.jpg"), "metadata.csv": "file_name,n\n1.2.840,1\nb,2\n"}),
        {"1.2.840.0": {}, "b.jpg": {"n": 2}},
        {"1.2.840": "line 2, names this file"},
        {"metadata": 1},
    ),
    "identifiers by other names, and very long ones": Tree(
        tree({**pictures("a.jpg"), "metadata.jsonl": _SPELLED}),
        {"a.jpg": {"Patient ID": "7", "study id": "8", "patientid": "10", "n": "9" * 5000}},
        skipped={"metadata": 1},
    ),
    "two tables with ids": Tree(
        tree(
            {
                "a.jpg": None,
                "metadata.csv": "file_name,image_id,x\na.jpg,left,1\na.jpg,right,2\n",
                "metadata.tsv": "file_name\timage_id\ty\na.jpg\tleft\t3\na.jpg\tright\t4\n",
            }
        ),
        {"left": {"x": 1, "y": 3}, "right": {"x": 2, "y": 4}},
        skipped={"metadata": 2},
    ),
    "paths as programs write them": Tree(
        tree({**pictures("s/a.jpg", "s/b.jpg", "s/c.jpg"), "metadata.csv": _PATHS}),
        {"a.jpg": {"n": 1}, "b.jpg": {"n": 2}, "c.jpg": {"n": 3}},
        {"../a.jpg": "line 5, names this file", "C:/x/a.jpg": "line 6, names this file"},
        {"metadata": 1},
    ),
    "ids that are the files' names": Tree(
        tree({**pictures("a.jpg", "b.jpg"), "metadata.csv": "image,MEL\na,1.0\nb,0.0\n"}),
        {"a": {"image": "a", "MEL": 1.0}, "b": {"image": "b", "MEL": 0.0}},
        skipped={"metadata": 1},
        options=("--id-column", "image"),
    ),
    "an id column that is nowhere": Tree(
        tree({**pictures("a.jpg", "b.jpg"), "metadata.csv": "file_name,case\na.jpg,1\n"}),
        fails="No picture has cases in its metadata",
        options=("--id-column", "cases"),
    ),
    "a table named itself": Tree(
        tree({**pictures("a.jpg"), "metadata.csv": "file_name,dx\na.jpg,nv\n"}),
        rejected={"metadata.csv": "text, not a picture"},
        named="metadata.csv",
    ),
    "a table of Parquet, of all types": Tree(
        tree({**pictures("223.jpg", "b.jpg"), "metadata.parquet": _TYPED}),
        {
            "223": {
                "lesion_id": "12.50",
                "age": 40,
                "dose": 0.5,
                "map": {"k": 1},
                "dx": "nv",
                "at": "2023-11-14T23:13:20+01:00",
                "long": "18446744073709551615",
                "x": True,
            },
            "224": {"lesion_id": "3", "age": 41, "map": {}, "dx": "mel", "long": 3},
        },
        skipped={"metadata": 1},
    ),
    "what Spark writes": Tree(
        tree(
            {
                "part-0.parquet": _parquet(image=[picture()], image_id=["spark 0"], n=[1]),
                "_SUCCESS": b"",
                ".part-0.parquet.crc": b"crc",
                "LICENSE": "free",
            }
        ),
        {"spark 0": {"n": 1}},
        skipped={"empty": 1, "hidden": 1, "text": 1},
    ),
    "a data set in a zip": Tree(
        tree({"x.zip": zipped({"a.parquet": _parquet(image=[picture()])})}),
        fails="Unpack the archive",
    ),
    "patterns of folders": Tree(
        tree(pictures("a.jpg", "b/c.jpg", "b/masks/d.jpg", "masks/e.jpg", "f.png")),
        {"a.jpg": {}, "c.jpg": {}},
        skipped={"excluded": 3},
        options=("--include", "**/*.jpg", "--exclude", "masks/"),
    ),
    "a table without names of columns": Tree(
        tree({**pictures("a.jpg"), "metadata.csv": "a.jpg,Jane Doe\n"}),
        fails="call it file_name, in the table's first line",
    ),
    "a table of blank lines": Tree(
        tree({**pictures("a.jpg"), "metadata.csv": "\n  \n"}), fails="it is empty"
    ),
}

_ROWS = {"a.jpg": {"dx": "nv"}, "b.jpg": {"dx": "mel"}}
_WRITTEN: dict[str, bytes] = {
    "metadata.csv": b"file_name,dx\r\na.jpg,nv\r\nb.jpg,mel\r\n",
    "Metadata.CSV": b"FILE_NAME,dx\na.jpg,nv\nb.jpg,mel\n",
    "metadata.tsv": b"file_name\tdx\na.jpg\tnv\nb.jpg\tmel\n",
    "metadata.jsonl": b'{"file_name": "a.jpg", "dx": "nv"}\n{"file_name": "b.jpg", "dx": "mel"}\n',
}
_ENCODED = {
    "lines of an old Mac": b"file_name;dx;note\ra.jpg;nv;\rb.jpg;mel;\r",
    "semicolons, of an old Mac": b"sep=;\rfile_name;dx\ra.jpg;nv\rb.jpg;mel\r",
    "blank lines before": b"\n  \nfile_name;dx\na.jpg;nv\nb.jpg;mel\n",
    "blanks behind quotes": b'"file_name" , "dx" \n"a.jpg" , "nv" \n"b.jpg" , "mel"\n',
    "a line's end in its header": b'"file_name";"dx";"size\n(mm)"\na.jpg;nv;\nb.jpg;mel;\n',
    "a BOM": b"\xef\xbb\xbffile_name,dx\na.jpg,nv\nb.jpg,mel\n",
    "UTF-32": "file_name,dx\na.jpg,nv\nb.jpg,mel\n".encode("utf-32"),
    "UTF-16": "file_name,dx\na.jpg,nv\nb.jpg,mel\n".encode("utf-16"),
    "semicolons": b"file_name;dx\na.jpg;nv\nb.jpg;mel\n",
    "semicolons, as Excel says": b"sep=;\nfile_name;dx\na.jpg;nv\nb.jpg;mel\n",
    "blanks": b"file_name, dx \na.jpg, nv\n b.jpg ,mel \n",
    "a comma at each end": b"file_name,dx,\na.jpg,nv,\nb.jpg,mel,\n",
    "capitals": b"file_name,dx\nA.JPG,nv\nB.jpg,mel\n",
    "names without suffixes": b"filename,dx\na,nv\nb,mel\n",
    "dots and slashes": b"file_name,dx\n./a.jpg,nv\n.\\b.jpg,mel\n",
}
for _name, _data in _WRITTEN.items():
    TREES[f"a table {_name}"] = Tree(
        tree({**pictures("a.jpg", "b.jpg"), _name: _data}), _ROWS, skipped={"metadata": 1}
    )
for _name, _data in _ENCODED.items():
    TREES[f"a table with {_name}"] = Tree(
        tree({**pictures("a.jpg", "b.jpg"), "metadata.csv": _data}), _ROWS, skipped={"metadata": 1}
    )
TREES["a table metadata.tsv with commas"] = Tree(
    tree({**pictures("a.jpg", "b.jpg"), "metadata.tsv": "file_name,dx\na.jpg,nv\nb.jpg,mel\n"}),
    _ROWS,
    skipped={"metadata": 1},
)
TREES["a table in cp1252"] = Tree(
    tree({**pictures("ä.jpg"), "metadata.csv": "file_name;Größe\nä.jpg;1,5\n".encode("cp1252")}),
    {"ä.jpg": {"Größe": 1.5}},
    skipped={"metadata": 1},
)
TREES["decomposed names, and folders with backslashes"] = Tree(
    tree(
        {**pictures("sub/Mu\u0308ller.jpg"), "metadata.csv": "file_name,dx\nsub\\Müller.jpg,nv\n"}
    ),
    {"Müller.jpg": {"dx": "nv"}},
    skipped={"metadata": 1},
)
