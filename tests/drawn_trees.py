"""Draws folders that nobody makes on purpose: odd names, mixed contents, archives, tables."""

import gzip
import io
import json
import os
import tarfile
import unicodedata
import zipfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from pipeline.sources.folder.cells import decoded
from pipeline.sources.folder.names import shown_path, stem
from tests.made_bytes import drawing, encoded

MARK = "mark"  # how the column begins of which every row of a table has its own value

_PICTURES = ("JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP")
_OTHERS: tuple[bytes, ...] = (
    b"",
    b"plain text, and nothing else",
    b"%PDF-1.7\n" + b"x" * 50,
    b"<html>404 Not Found</html>",
    b'{"dx": "nv"}',
    b"[1, 2]",
    b"{broken",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12\n",
    b"\0" * 600,
    bytes(128) + b"DICM" + bytes(100),
    b"PK\x03\x04 and then nothing",
    gzip.compress(b"a log"),
    bytes(range(256)) * 4,
)
_STEMS = (
    "a", "A", "b", "M\u00fcller", "Mu\u0308ller", "m\u00dcller", "M\udcfcller", "a[1]", "x*?",
    "two\nlines", 'q"uote', "semi;co,mma", "\u00df", "ss", "t.1.2", " lead", "trail ", "back\\s",
    "train_1", "%22", "a::b", "-rf", "metadata", "\u017d\u0416\u4e2d", "\U0001f600", "source", "~",
)  # fmt: skip
_SUFFIXES = ("", ".jpg", ".jpg", ".JPG", ".png", ".txt", ".json", ".jpg.1", ".tif", ".zip", ".")
_ASIDE = (".hidden.jpg", "._a.jpg", "Thumbs.db", ".DS_Store", "desktop.ini")
_FOLDERS = ("a", "A", "sub", "test", "a[1]", "d\u00e9j\u00e0", "de\u0301ja\u0300", "b.zip", ".git")
_ASIDE_FOLDERS = ("__MACOSX", "@eaDir", ".git")


@cache
def picture(kind: str, width: int) -> bytes:
    return encoded(drawing(width, 8), kind)


_drawn_text = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="/\0()"), min_size=1, max_size=6
)
names = st.one_of(
    st.builds("".join, st.tuples(st.sampled_from(_STEMS), st.sampled_from(_SUFFIXES))),
    st.builds("".join, st.tuples(st.sampled_from(_STEMS), st.sampled_from(_SUFFIXES))),
    st.sampled_from(_ASIDE),
    _drawn_text,
).filter(lambda name: name not in (".", "..") and not name.lower().startswith("metadata."))
pictures = st.builds(picture, st.sampled_from(_PICTURES), st.integers(8, 11))
contents = st.one_of(pictures, pictures, pictures, st.sampled_from(_OTHERS))
texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=5)
cells = st.one_of(
    st.sampled_from(("", "NA", "7", "007", "1E5", "1.50", "-0", "0,5", "12345678901234567890")),
    texts,
)
fields = st.sampled_from(
    ("dx", "age", "image_id", "source", "case", "patient_id", "label", "meta", "\ud800", "")
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), texts,
    st.sampled_from((7.0, 2**64, "007", "\ud800")),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=3),
    max_leaves=5,
)
metadata = st.dictionaries(fields, values, max_size=4)


@dataclass
class Folder:
    """`files` and `links` by raw paths. `members`: of an archive, by its path, all its members."""

    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    members: dict[str, list[str]] = field(default_factory=dict)
    # By the path of a table: its own column of marks, and (name of a file, mark) of each row.
    rows: dict[str, tuple[str, list[tuple[str, int]]]] = field(default_factory=dict)
    first: int = 0  # the number of the first table

    def write(self, root: Path) -> None:
        for name, data in self.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for name, target in self.links.items():
            (root / name).symlink_to(target)

    def __repr__(self) -> str:
        files = {name: data if len(data) < 300 else data[:12] for name, data in self.files.items()}
        return f"Folder({files}, {self.links}, {self.rows})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # hypothesis prints all bytes
        printer.text(repr(self))


@st.composite
def folders(draw: st.DrawFn) -> Folder:
    """A tree with archives, tables, sidecars and links, as it may come from anywhere."""
    made = Folder()
    below = draw(st.lists(st.sampled_from(_FOLDERS + _ASIDE_FOLDERS), max_size=2, unique=True))
    for folder in ["", *(f"{name}/" for name in below), *(f"{name}/{name}/" for name in below[:1])]:
        _fill(draw, made, folder)
    some = st.sampled_from(["", *(f"{name}/" for name in below)])
    for number in range(draw(st.integers(0, 2))):
        _pack(draw, made, draw(some), number)
    for folder in draw(st.lists(some, unique=True)):
        _tabulate(draw, made, folder)
    _link(draw, made)
    return made


def _fill(draw: st.DrawFn, made: Folder, folder: str) -> None:
    drawn = draw(st.dictionaries(names, contents, max_size=4))
    for name, data in drawn.items():
        _add(made, folder + name, data)
        if draw(st.integers(0, 4)) == 0:
            beside = draw(st.sampled_from((f"{stem(name)}.json", f"{name}.json", f"{name}.JSON")))
            _add(made, folder + beside, json.dumps(draw(metadata)).encode())


def _add(made: Folder, path: str, data: bytes) -> None:
    """Unless something is in the way: a folder of that name, or a file in place of a folder."""
    taken = [*made.files, *made.links]
    parents = {path[:place] for place, letter in enumerate(path) if letter == "/"}
    blocked = parents & {*taken} or any(each.startswith(f"{path}/") for each in taken)
    if not blocked and len(os.fsencode(Path(path).name)) < 250:
        made.files[path] = data


def _link(draw: st.DrawFn, made: Folder) -> None:
    targets = st.sampled_from([*made.files, "a", "gone", ".", "/etc/hostname"])
    for number, target in enumerate(draw(st.lists(targets, max_size=2))):
        made.links[f"link{number}.jpg"] = target


# --- archives ------------------------------------------------------------------------------------


def _pack(draw: st.DrawFn, made: Folder, folder: str, number: int) -> None:
    inside = Folder(first=10 * (number + 1))
    for within in ("", "in/"):
        _fill(draw, inside, within)
    if draw(st.booleans()):
        _tabulate(draw, inside, "")
    if draw(st.integers(0, 3)) == 0:
        inside.files["../climbs.jpg"] = picture("PNG", 8)
    way = draw(st.sampled_from(("zip", "zip", "w", "w:gz", "w:bz2", "w:xz")))
    path = f"{folder}pack{number}" + draw(st.sampled_from((".zip", ".tar", "", ".jpg")))
    if way == "zip":  # it has no names that are no text
        inside.files = {n: data for n, data in inside.files.items() if _is_text(n)}
    _add(made, path, zipped(inside.files) if way == "zip" else tarred(inside.files, way))
    if path in made.files:
        made.members[path] = [*inside.files]
        made.rows |= {f"{path}/{table}": rows for table, rows in inside.rows.items()}


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


# --- tables --------------------------------------------------------------------------------------


def _tabulate(draw: st.DrawFn, made: Folder, folder: str) -> None:
    """A table of some of the files in and below a folder, in spellings of people and programs."""
    own = [shown_path(n).removeprefix(folder) for n in made.files if n.startswith(folder)]
    known = st.sampled_from(own) if own else st.just("gone.jpg")
    named = draw(st.lists(st.one_of(known, known, st.just("gone.jpg")), min_size=1, max_size=5))
    rows = [(draw(_spelled(name)), at) for at, name in enumerate(named, 1)]
    marks = f"{MARK}{made.first + len(made.rows)}"
    suffix = draw(st.sampled_from(("csv", "CSV", "tsv", "jsonl")))
    column = draw(st.sampled_from(("file_name", "File Name", "image", "isic_id")))
    extra = draw(st.lists(st.sampled_from(("dx", "case", "image_id", "patient_id")), unique=True))
    table = f"{folder}metadata.{suffix}"
    if suffix == "jsonl":
        said = [{**draw(metadata), column: name, marks: mark} for name, mark in rows]
        encoding = draw(st.sampled_from(("utf-8", "utf-8-sig")))
        data = "\n".join(map(json.dumps, said)).encode(encoding)
    else:
        head = [column, marks, *extra]
        body = [[name, str(mark), *(draw(cells) for _ in extra)] for name, mark in rows]
        delimiter = "\t" if suffix == "tsv" else draw(st.sampled_from(",;\t|"))
        data = _encoded(draw, _csv([head, *body], delimiter))
    _add(made, table, data)
    if table in made.files:
        made.rows[table] = (marks, rows)


def _csv(rows: list[list[str]], delimiter: str) -> str:
    quoted = [[f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row] for row in rows]
    return "".join(delimiter.join(row) + "\r\n" for row in quoted)


def _encoded(draw: st.DrawFn, text: str) -> bytes:
    encoding = draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "cp1252")))
    data = text.encode(encoding, "replace")
    return data if decoded(data).removeprefix("\ufeff") == text else text.encode()


@st.composite
def _spelled(draw: st.DrawFn, name: str) -> str:
    ways: list[Any] = [
        str, str, str.upper, str.lower, stem, lambda n: f"./{n}", lambda n: n.replace("/", "\\"),
        lambda n: unicodedata.normalize("NFD", n), lambda n: f" {n} ",
    ]  # fmt: skip
    spelled: str = draw(st.sampled_from(ways))(name)
    return spelled if spelled.strip() else "gone.jpg"
