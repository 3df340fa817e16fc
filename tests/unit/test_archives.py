"""Archives as they come: damaged, hostile, of other systems. Each is read or named."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.images.decoding import Unusable
from pipeline.sources.folder import archives
from pipeline.sources.folder.archives import (
    CLIMBS,
    ENCRYPTED,
    NAMELESS,
    OVERLAPS,
    SECOND,
    TOO_LARGE,
    TOO_MANY,
)
from pipeline.sources.folder.damage import ARCHIVE
from pipeline.sources.folder.places import GONE, Places
from pipeline.sources.folder.reader import Pictures, directory
from pipeline.sources.folder.survey import NESTED, PACKED, PLAIN, Entry, Found, survey
from pipeline.sources.folder.tree import DEEP
from tests.drawn_trees import picture, tarred, zipped

JPEG = picture("JPEG", 9)
OTHERS = [picture("PNG", width) for width in range(8, 12)]


def found_in(root: Path) -> list[Found]:
    return list(survey(directory(Pictures(root, ())), PLAIN))


def all_told(tmp_path: Path, data: bytes) -> list[tuple[str, str]]:
    """What becomes of each file: "taken", the kind of a skipped one, or why it is rejected.

    Pictures are read by their places, as a job reads them.
    """
    root = tmp_path / "tree"
    root.mkdir(exist_ok=True)
    (root / "x").write_bytes(data)
    places = Places(root, ())
    try:
        return [(each.name, fate(each, places)) for each in found_in(root)]
    finally:
        places.close()


def fate(each: Found, places: Places) -> str:
    if not isinstance(each, Entry):
        return each.kind
    if each.fault is not None:
        return each.fault
    read = places.read(each.place)
    return read.reason if isinstance(read, Unusable) else "taken"


def told(tmp_path: Path, data: bytes) -> dict[str, str]:
    return dict(all_told(tmp_path, data))


def zip_of(*members: tuple[zipfile.ZipInfo, bytes], packed: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packed) as archive:
        for info, data in members:
            info.compress_type = packed
            archive.writestr(info, data)
    return out.getvalue()


def info_of(name: str, system: int = 3, flags: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.flag_bits = system, flags
    return info


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


def central(data: bytes, offset: int, value: bytes) -> bytes:
    """A zip of one member with other bytes in its entry of the list (APPNOTE 4.3.12)."""
    at = data.index(b"PK\x01\x02") + offset
    return data[:at] + value + data[at + len(value) :]


# --- bombs ---------------------------------------------------------------------------------------


def test_a_member_that_claims_ten_gigabytes_is_rejected_by_name(tmp_path: Path) -> None:
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w") as archive:
        archive.writestr("small.jpg", JPEG)
        archive.writestr("huge.jpg", JPEG)
    data = bytearray(huge.getvalue())
    at = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, at + 24, 0xFFFFFFFE)

    assert told(tmp_path, bytes(data)) == {
        "x": "archive", "x/small.jpg": "taken", "x/huge.jpg": TOO_LARGE,
    }  # fmt: skip


def test_a_member_larger_than_it_claims_is_not_read_to_its_end(tmp_path: Path) -> None:
    bomb = JPEG + bytes(50_000_000)
    data = zip_of((info_of("a.jpg"), bomb), (info_of("b.jpg"), JPEG))

    lying = central(data, 24, struct.pack("<I", 1000))

    assert told(tmp_path, lying) == {"x": "archive", "x/a.jpg": ARCHIVE, "x/b.jpg": "taken"}


def test_archives_in_archives_are_named_and_left_packed(tmp_path: Path) -> None:
    inner = zipped({"0.dll": bytes(100_000)})
    for _ in range(2):
        inner = zipped({f"lib {number}.zip": inner for number in range(16)})

    assert told(tmp_path, inner) == {
        "x": "archive",
        **{f"x/lib {number}.zip": NESTED for number in range(16)},
    }


def test_files_that_overlap_are_a_bomb(tmp_path: Path) -> None:
    """As in zbsm.zip: all entries of the list point at one and the same packed file."""
    data = zip_of((info_of("a.jpg"), JPEG + os.urandom(20_000)))
    start, end = data.index(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    entry = data[start:end]
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, 50, 50, 50 * len(entry))

    assert told(tmp_path, data[:start] + 50 * entry + bytes(tail)) == {"x": OVERLAPS}


def test_an_archive_of_too_many_files_is_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    monkeypatch.setattr(archives, "_MAX_LIST", 200)
    files = {f"{number}.jpg": JPEG for number in range(5)}

    assert told(tmp_path, zipped(files)) == {"x": TOO_MANY}
    assert told(tmp_path, tarred(files, "w:gz")) == {"x": TOO_MANY}
    assert told(tmp_path, zipped({"0.jpg": JPEG}))["x"] == "archive"


def test_planning_reads_only_the_beginnings_of_members(tmp_path: Path) -> None:
    """Of 450 MB, in a process that does not grow by 100."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(3):
            with archive.open(f"{number}.jpg", "w") as member:
                member.write(JPEG)
                for _ in range(15):
                    member.write(bytes(10_000_000))
    (tmp_path / "x.zip").write_bytes(data.getvalue())
    code = (
        "import resource, sys; from pathlib import Path;"
        "from pipeline.sources.folder.reader import Pictures, directory;"
        "from pipeline.sources.folder.survey import PLAIN, survey;"
        "now = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024;"
        "before = now(); rows = list(survey(directory(Pictures(Path(sys.argv[1]), ())), PLAIN));"
        "print(len(rows), now() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    rows, more = map(int, done.stdout.split())
    assert (rows, more < 100) == (4, True)


# --- names ---------------------------------------------------------------------------------------


def test_names_that_lead_out_are_rejected_and_nothing_is_written(tmp_path: Path) -> None:
    names = ("/etc/a.jpg", "../a.jpg", "in/../../a.jpg", "C:\\a.jpg", "..\\a.jpg", "\\\\b\\a.jpg")

    for data in (zipped(dict.fromkeys(names, JPEG)), tarred(dict.fromkeys(names, JPEG))):
        assert told(tmp_path, data) == {"x": "archive", **{f"x/{n}": CLIMBS for n in names}}
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_a_name_with_a_nul_ends_there(tmp_path: Path) -> None:
    data = patched(zipped({"a.jpg_b.exe": JPEG}), b"a.jpg_b", b"a.jpg\0b")

    assert told(tmp_path, data) == {"x": "archive", "x/a.jpg": "taken"}


def test_a_member_without_a_name_is_rejected(tmp_path: Path) -> None:
    data = patched(zipped({"_": JPEG, "a.jpg": JPEG}), b"_", b"\0")

    assert told(tmp_path, data) == {"x": "archive", "x/": NAMELESS, "x/a.jpg": "taken"}
    assert told(tmp_path, zipped({"./.": JPEG}))["x/./."] == NAMELESS


def test_backslashes_of_old_programs_for_windows_are_folders(tmp_path: Path) -> None:
    data = zip_of(
        (info_of("export\\", system=0), b""),
        (info_of("export\\a.jpg", system=0), JPEG),
        (info_of("export\\metadata.csv", system=0), b"file_name,dx\na.jpg,nv\n"),
        (info_of("on unix\\b.jpg"), JPEG),
    )

    assert told(tmp_path, data) == {
        "x": "archive", "x/export/a.jpg": "taken", "x/export/metadata.csv": "metadata",
        "x/on unix\\b.jpg": "taken",
    }  # fmt: skip
    [described] = [e for e in found_in(tmp_path / "tree") if e.name == "x/export/a.jpg"]
    assert isinstance(described, Entry)
    assert described.metadata == {"dx": "nv"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_members_of_one_name_one_is_rejected(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.jpg", OTHERS[0])
        archive.writestr("./a.jpg", OTHERS[1])
        archive.writestr("a.jpg", OTHERS[2])

    said = all_told(tmp_path, out.getvalue())

    assert sorted(said) == [
        ("x", "archive"), ("x/a.jpg", SECOND), ("x/a.jpg", SECOND), ("x/a.jpg", "taken"),
    ]  # fmt: skip


def test_names_of_other_systems_are_read(tmp_path: Path) -> None:
    """UTF-8 that is not called so, and the alphabet of DOS."""
    flagged = zipped({"M\u00fcller.jpg": JPEG})
    unflagged = central(flagged, 8, b"\0\0")
    unflagged = unflagged[:6] + b"\0\0" + unflagged[8:]
    of_dos = patched(zipped({"M__ller.jpg": JPEG}), b"M__ller", "M\u00fc_ller".encode("cp437"))

    for data in (flagged, unflagged):
        assert told(tmp_path, data) == {"x": "archive", "x/M\u00fcller.jpg": "taken"}
    assert told(tmp_path, of_dos) == {"x": "archive", "x/M\u00fc_ller.jpg": "taken"}
    in_two = tarred({"d\u00e9j\u00e0/M\udcfcller.jpg": JPEG, "d\u00e9j\u00e0/a.jpg": JPEG})
    assert [*told(tmp_path, in_two)] == [
        "x",
        "x/d\u00e9j\u00e0/M\u00fcller.jpg",
        "x/d\u00e9j\u00e0/a.jpg",
    ]


def test_folders_in_folders_end_somewhere(tmp_path: Path) -> None:
    deep = "f/" * 5000 + "a.jpg"

    assert told(tmp_path, tarred({deep: JPEG, "b.jpg": JPEG})) == {
        "x": "archive", f"x/{deep}": DEEP, "x/b.jpg": "taken",
    }  # fmt: skip


def test_hidden_and_system_files_are_skipped_as_such(tmp_path: Path) -> None:
    files = {"__MACOSX/._a.jpg": JPEG, ".b.jpg": JPEG, "in/Thumbs.db": b"x", "c.jpg": JPEG}

    assert told(tmp_path, zipped(files)) == {
        "x": "archive", "x/__MACOSX/._a.jpg": "system", "x/.b.jpg": "hidden",
        "x/in/Thumbs.db": "system", "x/c.jpg": "taken",
    }  # fmt: skip


# --- kinds of packing ----------------------------------------------------------------------------


def test_encrypted_members_are_named_and_others_read(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.jpg": JPEG, "b.jpg": JPEG}))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1

    assert told(tmp_path, bytes(data)) == {
        "x": "archive", "x/a.jpg": "taken", "x/b.jpg": ENCRYPTED,
    }  # fmt: skip


def test_a_method_that_nobody_knows_costs_its_own_member(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.jpg": JPEG, "b.jpg": JPEG}))
    local, listed = data.rindex(b"PK\x03\x04"), data.rindex(b"PK\x01\x02")
    for at in (local + 8, listed + 10):
        struct.pack_into("<H", data, at, 97)

    assert told(tmp_path, bytes(data)) == {"x": "archive", "x/a.jpg": "taken", "x/b.jpg": ARCHIVE}


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_zip_are_read(tmp_path: Path, packed: int) -> None:
    data = zip_of((info_of("a.jpg"), JPEG), packed=packed)

    assert told(tmp_path, data) == {"x": "archive", "x/a.jpg": "taken"}


def test_zip64_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, archive.open("a.jpg", "w", force_zip64=True) as into:
        into.write(JPEG)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)  # as if there were 65,536 of them
    many = zipped({f"{number}.jpg": JPEG for number in range(5)})
    assert b"PK\x06\x06" in many

    assert told(tmp_path, out.getvalue()) == {"x": "archive", "x/a.jpg": "taken"}
    assert [*told(tmp_path, many).values()] == ["archive", *5 * ["taken"]]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_is_read(tmp_path: Path, mode: str, kind: int) -> None:
    out = io.BytesIO()
    name = "f/" * 60 + "n" * 90 + ".jpg"
    with tarfile.open(fileobj=out, mode=mode, format=kind) as archive:  # type: ignore[call-overload]
        for each, data in {name: JPEG, "b.json": b'{"dx": "nv"}', "b.jpg": OTHERS[0]}.items():
            member = tarfile.TarInfo(each)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

    assert told(tmp_path, out.getvalue()) == {
        "x": "archive", f"x/{name}": "taken", "x/b.jpg": "taken", "x/b.json": "metadata",
    }  # fmt: skip


def test_links_and_devices_of_a_tar_are_skipped(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind in (
            ("passwd.jpg", tarfile.SYMTYPE), ("hard.jpg", tarfile.LNKTYPE),
            ("null", tarfile.CHRTYPE), ("disk", tarfile.BLKTYPE), ("pipe", tarfile.FIFOTYPE),
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    link = info_of("passwd.jpg")
    link.external_attr = 0o120777 << 16

    assert told(tmp_path, out.getvalue()) == {
        "x": "archive", "x/passwd.jpg": "link", "x/hard.jpg": "link",
        "x/null": "special", "x/disk": "special", "x/pipe": "special",
    }  # fmt: skip
    assert told(tmp_path, zip_of((link, b"/etc/passwd"))) == {
        "x": "archive",
        "x/passwd.jpg": "link",
    }


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar program")
def test_a_sparse_member_is_read_whole(tmp_path: Path) -> None:
    made = tmp_path / "a.jpg"
    with made.open("wb") as file:
        file.write(JPEG)
        file.truncate(5_000_000)
    packed = tmp_path / "x.tar"
    subprocess.run(
        ["tar", "--format=gnu", "-Scf", str(packed), "-C", str(tmp_path), "a.jpg"], check=True
    )

    assert packed.stat().st_size < 100_000
    assert told(tmp_path, packed.read_bytes()) == {"x": "archive", "x/a.jpg": "taken"}


def test_what_is_packed_alone_is_skipped_or_named(tmp_path: Path) -> None:
    for packed, kind in (
        (gzip.compress, "gzip"),
        (bz2.compress, "packed"),
        (lzma.compress, "packed"),
    ):
        assert told(tmp_path, packed(b"a log of something")) == {"x": kind}
        assert told(tmp_path, packed(JPEG)) == {"x": PACKED}
        assert told(tmp_path, packed(bytes(344) + b"n+1\0" + bytes(9)))["x"].startswith("a NIfTI")
    zstandard = b"\x28\xb5\x2f\xfd" + bytes(40)
    assert told(tmp_path, zstandard) == {"x": PACKED}
    within = told(
        tmp_path, zipped({"log.gz": gzip.compress(b"log"), "b.tgz": tarred({"a": b"b"}, "w:gz")})
    )
    assert within == {"x": "archive", "x/log.gz": "gzip", "x/b.tgz": NESTED}


def test_documents_and_programs_that_are_zips_are_none_of_ours(tmp_path: Path) -> None:
    word = {"_rels/.rels": b"<x/>", "[Content_Types].xml": b"<x/>", "word/media/a.jpg": JPEG}
    reordered = {"docProps/app.xml": b"<x/>", **word}
    epub = {"mimetype": b"application/epub+zip", "OEBPS/a.jpg": JPEG}
    jar = {"META-INF/MANIFEST.MF": b"Manifest-Version: 1.0\n", "A.class": b"\xca\xfe\xba\xbe1234"}

    for office in (word, reordered):
        assert told(tmp_path, zipped(office)) == {"x": "office"}
    stored = zip_of(*((info_of(n), d) for n, d in epub.items()), packed=zipfile.ZIP_STORED)
    assert told(tmp_path, stored) == {"x": "office"}
    assert told(tmp_path, zipped(jar)) == {
        "x": "archive", "x/META-INF/MANIFEST.MF": "text", "x/A.class": "program",
    }  # fmt: skip


# --- damage --------------------------------------------------------------------------------------

_FILES = {f"{number}.jpg": picture("PNG", 8 + number) + os.urandom(3000) for number in range(4)}
_WHOLE: dict[str, Callable[[], bytes]] = {
    "zip": lambda: zipped(_FILES),
    "tar": lambda: tarred(_FILES),
    "tar.gz": lambda: tarred(_FILES, "w:gz"),
    "tar.bz2": lambda: tarred(_FILES, "w:bz2"),
    "tar.xz": lambda: tarred(_FILES, "w:xz"),
}


@pytest.mark.parametrize("made", _WHOLE.values(), ids=_WHOLE.keys())
@pytest.mark.parametrize("part", [0.05, 0.3, 0.7])
def test_a_truncated_archive_is_named(
    tmp_path: Path, made: Callable[[], bytes], part: float
) -> None:
    data = made()

    assert told(tmp_path, data[: int(part * len(data))]) == {"x": ARCHIVE}


def test_a_tar_with_a_broken_header_does_not_end_there(tmp_path: Path) -> None:
    data = bytearray(tarred(_FILES))
    at = data.index(b"2.jpg")
    data[at : at + 100] = os.urandom(100)

    assert told(tmp_path, bytes(data)) == {"x": ARCHIVE}


def test_a_damaged_member_costs_itself(tmp_path: Path) -> None:
    data = bytearray(
        zip_of(*((info_of(n), d) for n, d in _FILES.items()), packed=zipfile.ZIP_STORED)
    )
    at = data.index(b"1.jpg") + 2000
    data[at] ^= 0xFF

    said = told(tmp_path, bytes(data))

    assert said.pop("x/1.jpg") == ARCHIVE
    assert said == {"x": "archive", "x/0.jpg": "taken", "x/2.jpg": "taken", "x/3.jpg": "taken"}


def test_a_tar_whose_last_member_is_a_zip_is_a_tar(tmp_path: Path) -> None:
    """The library's own test looks for a zip's mark near the end of any file."""
    data = tarred({"a.jpg": JPEG, "z.zip": zipped({"b.jpg": JPEG})})

    assert told(tmp_path, data) == {"x": "archive", "x/a.jpg": "taken", "x/z.zip": NESTED}


# --- while a job runs ----------------------------------------------------------------------------


def planned(root: Path) -> list[Entry]:
    return [each for each in found_in(root) if isinstance(each, Entry)]


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_that_changes_gives_no_row_another_picture(
    tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    """Its metadata were those of the picture that had the number before."""
    path = tmp_path / "x"
    path.write_bytes(pack({"a.jpg": OTHERS[0], "b.jpg": OTHERS[1]}))
    first, second = planned(tmp_path)
    places = Places(tmp_path, ())
    assert places.read(first.place) == OTHERS[0]

    path.write_bytes(pack({"new.jpg": OTHERS[2], "b.jpg": OTHERS[1], "more.jpg": OTHERS[3]}))
    assert places.read(first.place) == GONE
    assert places.read(second.place) == OTHERS[1]
    path.write_bytes(pack({"b.jpg": OTHERS[1]}))
    assert places.read(second.place) == GONE
    path.write_bytes(b"something else")
    assert places.read(second.place) == Unusable(ARCHIVE)
    path.unlink()
    assert places.read(second.place) == GONE
    places.close()


def test_a_file_that_has_gone_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    [row] = planned(tmp_path)
    places = Places(tmp_path, ())

    (tmp_path / "a.jpg").unlink()
    assert places.read(row.place) == GONE
    os.mkfifo(tmp_path / "a.jpg")
    assert places.read(row.place) == GONE


@pytest.mark.parametrize("made", _WHOLE.values(), ids=_WHOLE.keys())
def test_threads_read_one_archive_at_once(tmp_path: Path, made: Callable[[], bytes]) -> None:
    (tmp_path / "x").write_bytes(made())
    rows = planned(tmp_path)
    places = Places(tmp_path, ())
    read: list[bool] = []

    def work(shift: int) -> None:
        for row in (rows[shift:] + rows[:shift]) * 5:
            read.append(places.read(row.place) == _FILES[row.name.removeprefix("x/")])  # noqa: PERF401
        places.close()

    threads = [threading.Thread(target=work, args=(shift,)) for shift in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert read == [True] * 80
