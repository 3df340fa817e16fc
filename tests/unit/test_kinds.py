"""What a file is, by its first bytes alone: pictures, read or not, and what lies beside them."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.images.kinds import HEAD, KINDS, Fate, kind_of, reads_heic
from pipeline.images.picture import Picture, Unusable, decode
from tests import made_bytes as made
from tests.bad_files import catalogue
from tests.made_bytes import box, drawing, encoded

CAP = 100_000_000

TABLE = pa.table({"image_id": ["a", "b"], "age": [40, 50]})


def _written(write: Callable[[io.BytesIO], object]) -> bytes:
    out = io.BytesIO()
    write(out)
    return out.getvalue()


def _zip(*names: str) -> bytes:
    with zipfile.ZipFile(out := io.BytesIO(), "w") as archive:
        for name in names:
            archive.writestr(name, "application/vnd.oasis.opendocument.text")
    return out.getvalue()


def _tar(mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    with tarfile.open(fileobj=(out := io.BytesIO()), mode=mode, format=form) as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"), io.BytesIO())
    return out.getvalue()


def _old_tar() -> bytes:
    """As before POSIX: without a mark behind the first header's checksum."""
    header = bytearray(_tar()[:512])
    header[257:] = bytes(255)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


def _sqlite(folder: Path) -> bytes:
    with sqlite3.connect(folder / "x.db") as connection:
        connection.execute("create table t (x)")
    connection.close()
    return (folder / "x.db").read_bytes()


def _arrow(stream: bool) -> bytes:
    sink = pa.BufferOutputStream()
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with make(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return sink.getvalue().to_pybytes()


def _ftyp(*brands: bytes) -> bytes:
    return box(b"ftyp", brands[0], bytes(4), *brands[1:]) + box(b"mdat", bytes(64))


def _element(group: int, element: int, value: bytes, vr: bytes = b"", order: str = "<") -> bytes:
    length = struct.pack(order + ("H" if vr else "I"), len(value))
    return struct.pack(order + "HH", group, element) + vr + length + value


def _dicom(vr: bool, order: str = "<") -> bytes:
    types = (b"CS", b"CS", b"UI") if vr else (b"", b"", b"")
    values = (b"ISO_IR 100", b"ORIGINAL\\PRIMARY", b"1.2.840.10008.5.1.4.1.1.7\0")
    return b"".join(
        _element(8, element, value, kind, order)
        for element, value, kind in zip((5, 8, 0x16), values, types, strict=True)
    )


def _dib() -> bytes:
    return encoded(drawing(), "BMP")[14:]


def _raw_tiff(entries: dict[int, int]) -> bytes:
    return made.tiff({made.WIDTH: 8, made.HEIGHT: 8, **entries}, bytes(64))


PICTURES: dict[str, bytes] = {
    "JPEG": encoded(drawing(), "JPEG"),
    "progressive JPEG": encoded(drawing(), "JPEG", progressive=True),
    "MPO": made.each_page("MPO", drawing(), drawing()),
    "PNG": encoded(drawing()),
    "APNG": made.each_page("PNG", drawing(), drawing().rotate(180)),
    "GIF": encoded(drawing(), "GIF"),
    "BMP": encoded(drawing(), "BMP"),
    "DIB": _dib(),
    "TIFF": encoded(drawing(), "TIFF"),
    "BigTIFF": encoded(drawing(), "TIFF", big_tiff=True),
    "big-endian TIFF": encoded(Image.fromarray(np.zeros((4, 4), ">u2")), "TIFF"),
    "WebP": encoded(drawing(), "WEBP"),
    "lossless WebP": encoded(drawing(), "WEBP", lossless=True),
    "AVIF": encoded(drawing(), "AVIF"),
    "animated AVIF": made.each_page("AVIF", drawing(), drawing()),
    "JP2": encoded(drawing(), "JPEG2000"),
    "J2K": encoded(drawing(), "JPEG2000", no_jp2=True),
    "PBM, text": b"P1\n# a comment\n2 2\n0 1 1 0\n",
    "PGM, text": b"P2 2 2 255 0 1 2 3\n",
    "PPM, text": b"P3\n1 1\n255\n1 2 3\n",
    "PBM": encoded(drawing().convert("1"), "PPM"),
    "PGM": encoded(drawing().convert("L"), "PPM"),
    "PPM": encoded(drawing(), "PPM"),
    "PFM, grey": encoded(drawing().convert("F"), "PPM"),
}

DICOM: dict[str, bytes] = {
    "with its mark": bytes(128) + b"DICM" + _element(2, 0, bytes(4), b"UL"),
    "behind a TIFF's header": b"II*\0\x08\0\0\0" + bytes(120) + b"DICM" + bytes(8),
    "bare, implicit": _dicom(vr=False),
    "bare, explicit": _dicom(vr=True),
    "bare, big-endian": _dicom(vr=True, order=">"),
    "bare, group 2 first": _element(2, 0, bytes(4), b"UL") + _element(2, 2, b"1.2\0", b"UI"),
}

UNREAD: dict[str, tuple[str, bytes]] = {
    "JPEG XL": ("jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40)),
    "JPEG XL, bare": ("jxl", b"\xff\x0a\x10\x20" + bytes(40)),
    "JPEG XR": ("jxr", b"II\xbc\x01" + bytes(40)),
    "JPEG-LS": ("jpeg-ls", b"\xff\xd8\xff\xf7\0\x0b\x08" + bytes(40)),
    "PNG of Apple": ("cgbi", made.PNG_START + made.png_chunk(b"CgBI", bytes(4)) + bytes(40)),
    "SVG": ("svg", b"<svg xmlns='http://www.w3.org/2000/svg'></svg>"),
    "SVG behind a declaration": ("svg", b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- x -->\n<svg>"),
    "SVG in UTF-16": ("svg", "<?xml version='1.0'?><svg viewBox='0'/>".encode("utf-16")),
    "CR2": ("raw", b"II*\0\x10\0\0\0CR\2\0" + bytes(64)),
    "CR3": ("raw", _ftyp(b"crx ", b"isom")),
    "RAF": ("raw", b"FUJIFILMCCD-RAW 0201" + bytes(40)),
    "ORF": ("raw", b"IIRO\x08\0\0\0" + bytes(40)),
    "RW2": ("raw", b"IIU\0\x18\0\0\0" + bytes(40)),
    "DNG": ("raw", _raw_tiff({50706: 0x401})),
    "NEF": ("raw", _raw_tiff({254: 1, 330: 200})),
    "raw values of a sensor": ("raw", _raw_tiff({262: 32803})),
    "Photoshop": ("psd", b"8BPS\0\1" + bytes(40)),
    "icon": ("ico", encoded(drawing(), "ICO")),
    "PAM": ("pnm", b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nENDHDR\n\0"),
    "PFM in colour": ("pnm", b"PF\n1 1\n-1.0\n" + bytes(12)),
    "PCX": ("pcx", encoded(drawing(), "PCX")),
    "FITS": ("fits", b"SIMPLE  =                    T" + b" " * 50),
    "OpenEXR": ("exr", b"\x76\x2f\x31\x01\2\0\0\0"),
    "Radiance": ("hdr", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n"),
    "DirectDraw": ("dds", encoded(drawing(), "DDS")),
    "QOI": ("qoi", encoded(drawing(), "QOI")),
    "NIfTI": ("nifti", struct.pack("<i", 348) + bytes(340) + b"n+1\0"),
    "NRRD": ("nrrd", b"NRRD0004\ntype: short\n"),
    "Git LFS pointer": (
        "lfs pointer",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
    ),
    "git-annex pointer": ("annex pointer", b"/annex/objects/SHA256E-s12--0f.jpg\n"),
    "empty": ("empty", b""),
    "a failed copy": ("zeros", bytes(5000)),
}
if not reads_heic():
    UNREAD |= {
        f"HEIC, {brands[0].decode()}": ("heic", _ftyp(*brands))
        for brands in ((b"heic", b"mif1"), (b"mif1", b"heic"), (b"hevc", b"msf1"), (b"heix",))
    }

OTHERS: dict[str, tuple[str, bytes]] = {
    "parquet": ("parquet", _written(lambda out: pa.parquet.write_table(TABLE, out))),
    "parquet of no rows": ("parquet", _written(lambda o: pa.parquet.write_table(TABLE[:0], o))),
    "Arrow file": ("arrow", _arrow(stream=False)),
    "Arrow stream": ("arrow", _arrow(stream=True)),
    "ORC": ("table", _written(lambda out: pa.orc.write_table(TABLE, out))),
    "zip": ("zip", _zip("a.jpg")),
    "zip of nothing": ("zip", _zip()),
    "tar": ("tar", _tar()),
    "tar of GNU": ("tar", _tar(form=tarfile.GNU_FORMAT)),
    "tar before POSIX": ("tar", _old_tar()),
    "tar.gz": ("gzip", _tar("w:gz")),
    "gzip": ("gzip", gzip.compress(b"x")),
    "bzip2": ("archive", bz2.compress(b"x")),
    "bzip2 of nothing": ("archive", bz2.compress(b"")),
    "xz": ("archive", lzma.compress(b"x")),
    "zstd": ("archive", pa.compress(b"xx", "zstd", asbytes=True)),
    "7z": ("7z", b"7z\xbc\xaf\x27\x1c\0\4" + bytes(24)),
    "rar": ("rar", b"Rar!\x1a\x07\x01\0" + bytes(24)),
    "PDF": ("pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"),
    "PDF behind a line": ("pdf", b"\r\n%PDF-1.4\n%\xe2\xe3"),
    "PostScript": ("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
    "MP4": ("video", _ftyp(b"isom", b"iso2", b"mp41")),
    "QuickTime": ("video", _ftyp(b"qt  ")),
    "old QuickTime": ("video", box(b"wide") + box(b"mdat", bytes(64))),
    "Matroska": ("video", b"\x1aE\xdf\xa3\x01" + bytes(40)),
    "AVI": ("video", b"RIFF\0\1\0\0AVI LIST" + bytes(40)),
    "MPEG": ("video", b"\0\0\x01\xba" + bytes(40)),
    "MPEG-TS": ("video", (b"G" + bytes(187)) * 8),
    "M4A": ("audio", _ftyp(b"M4A ", b"isom")),
    "WAVE": ("audio", b"RIFF\0\1\0\0WAVEfmt " + bytes(40)),
    "MP3": ("audio", b"ID3\x03\0\0\0\0\0\0" + bytes(40)),
    "MP3 without a tag": ("audio", b"\xff\xfb\x90\x44" + bytes(40)),
    "Word": ("office", _zip("[Content_Types].xml", "word/document.xml")),
    "LibreOffice": ("office", _zip("mimetype", "content.xml")),
    "old Word, Thumbs.db": ("office", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(40)),
    "RTF": ("office", b"{\\rtf1\\ansi hello}"),
    "HDF5": ("hdf5", b"\x89HDF\r\n\x1a\n" + bytes(40)),
    "NumPy": ("numpy", _written(lambda out: np.save(out, np.zeros(3)))),
    "safetensors": ("weights", struct.pack("<Q", 60) + b'{"x":{"dtype":"F32"}}'),
    "pickle": ("weights", pickle.dumps({"a": 1})),
    "program": ("program", b"\x7fELF\2\1\1" + bytes(57)),
    "program of Windows": ("program", b"MZ\x90\0\3\0\0\0" + bytes(56)),
    ".DS_Store": ("system", b"\0\0\0\1Bud1" + bytes(40)),
    "AppleDouble": ("system", b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(40)),
    "DICOMDIR": (
        "dicom directory",
        bytes(128) + b"DICM" + _element(2, 2, b"1.2.840.10008.1.3.10", b"UI"),
    ),
    "JSON": ("json", json.dumps({"name": "x", "rows": [1, 2]}, indent=1).encode()),
    "JSON, a list": ("json", b"[1, 2]"),
    "JSON, cut": ("json", json.dumps([{"a": i} for i in range(2000)]).encode()),
    "JSON lines with a mark": ("json", b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n'),
    "JSON in UTF-16": ("json", '{"a": 1}'.encode("utf-16")),
    "HTML": ("html", b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>"),
    "HTML without a doctype": ("html", b"<HTML>\n<HEAD>"),
    "HTML with a drawing": ("html", b"<html><body><svg></svg>"),
    "XHTML": ("html", b"<?xml version='1.0'?><html xmlns='x'>"),
    "XML": ("xml", b"<?xml version='1.0'?><study/>"),
    "text": ("text", b"Dear colleague,\n"),
    "one letter": ("text", b"x"),
    "text of UTF-8, cut within a character": ("text", b"x" + "\u00e4".encode() * HEAD),
    "text of cp1252": ("text", "Größe;Länge\r\n1;2\r\n".encode("cp1252")),
    "text of cp1251": ("text", "Имя, возраст и место\n".encode("cp1251")),
    "text of UTF-16": ("text", "Größe;Länge\r\n".encode("utf-16")),
    "text of UTF-16 without a mark": ("text", "image_id;age\r\n".encode("utf-16-le")),
    "table that begins as a BMP": ("text", b"BMI;age\n25;40\n27;50\n"),
    "table that begins as a PNM": ("text", b"P1;P2\n1;2\n"),
    "letter that begins as a PNM": ("text", b"P5 is well again since 3 days.\n"),
    "table that begins as a parquet": ("text", b"PAR1,PAR2\n1,2\n"),
    "letter that begins as a program": ("text", b"MZ is well, and wrote this long letter to us."),
    "text that mentions a PDF": ("text", b"It begins with %PDF-1.4\n"),
    "references": ("text", b"[1] N. Krawetz, Kind of Like That\n"),
    "smaller than": ("text", b"< 5 mm\n"),
    "noise": ("unknown", np.random.default_rng(0).bytes(5000)),
    "one byte": ("unknown", b"\xff"),
}


def _cases(table: dict[str, tuple[str, bytes]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("name", "data"), list(table.values()), ids=[*table])


@pytest.mark.parametrize("data", list(PICTURES.values()), ids=[*PICTURES])
def test_what_is_decoded_is_a_picture(data: bytes) -> None:
    assert isinstance(decode(data, CAP), Picture)
    assert kind_of(data[:HEAD]) == KINDS["picture"]


@pytest.mark.parametrize("data", list(DICOM.values()), ids=[*DICOM])
def test_dicom_is_known_with_and_without_its_mark(data: bytes) -> None:
    assert kind_of(data[:HEAD]) == KINDS["dicom"]
    assert KINDS["dicom"].fate is Fate.TAKEN


@_cases(UNREAD)
def test_pictures_that_are_not_read_are_rejected_by_their_name(name: str, data: bytes) -> None:
    kind = kind_of(data[:HEAD])
    assert (kind.name, kind.fate) == (name, Fate.REJECTED)
    assert kind.reason


@_cases(OTHERS)
def test_other_files_are_skipped_by_their_name(name: str, data: bytes) -> None:
    kind = kind_of(data[:HEAD])
    assert (kind.name, kind.fate) == (name, Fate.SKIPPED)
    assert kind.reason


def test_a_database_is_known(tmp_path: Path) -> None:
    assert kind_of(_sqlite(tmp_path)).name == "sqlite"


@pytest.mark.parametrize("file", catalogue(), ids=lambda file: file.name)
def test_no_file_that_is_taken_is_missed(file: object) -> None:
    """Over all that departments send: the kinds of `bad_files`, most of them odd or damaged."""
    if not isinstance(file.becomes, Unusable):  # type: ignore[attr-defined]
        assert kind_of(file.data[:HEAD]).fate == Fate.TAKEN  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted({n for n, _ in (UNREAD | OTHERS).values()}))
def test_no_kind_that_is_not_taken_is_decoded(name: str) -> None:
    for kind, data in (UNREAD | OTHERS).values():
        if kind == name:
            assert isinstance(decode(data, CAP), Unusable)


def test_every_kind_is_made_here() -> None:
    made_here = {name for name, _ in (UNREAD | OTHERS).values()} | {"picture", "sqlite", "dicom"}
    marks_alone = {"djvu", "czi"}
    assert set(KINDS) - made_here - marks_alone <= {"heic"}


def test_a_walk_imports_neither_pillow_nor_numpy() -> None:
    code = (
        "import sys; from pipeline.images.kinds import kind_of; kind_of(b'x');"
        "print({'PIL', 'numpy', 'torch'} & set(sys.modules))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert told == "set()\n"


STARTS = st.sampled_from([data[:40] for data in PICTURES.values()] + [b"", b"BM", b"P6 ", b"\0"])


@given(STARTS, st.binary(max_size=600))
def test_no_bytes_make_it_fail(start: bytes, rest: bytes) -> None:
    assert kind_of(start + rest).name in KINDS


SHARED = Path(__file__).parents[3] / "shared" / "cases" / "09-extensions.tar.gz"


@pytest.mark.skipif(not SHARED.exists(), reason="the shared cases are not here")
def test_the_shared_case_of_suffixes_is_all_pictures() -> None:
    with tarfile.open(SHARED) as archive:
        files = [archive.extractfile(m).read() for m in archive if m.isfile()]  # type: ignore[union-attr]
    assert len(files) == 22
    assert {kind_of(data[:HEAD]).name for data in files} == {"picture"}
