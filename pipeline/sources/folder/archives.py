"""Reads zip and tar archives in place, as folders: nothing is unpacked to a disk.

Names that climb out of the archive, encrypted members and archives in archives are rejected by
name; links are skipped. Reading has limits, whatever a header says of a size.
"""

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Protocol, Self, cast

from pipeline.images.kinds import HEAD, Kind, kind_of
from pipeline.sources.folder.central import directory_bytes
from pipeline.sources.folder.names import climbs, is_hidden, is_system, shown_path
from pipeline.sources.folder.tree import (
    DEEP,
    MAX_DEPTH,
    Directory,
    Fault,
    File,
    Listed,
    Place,
    Skipped,
    joined,
)
from pipeline.sources.local import MAX_FILE

MAX_MEMBERS = 1_000_000
_MAX_LIST = 150 * MAX_MEMBERS  # bytes of a zip's list of its members: 46 and a name each

CLIMBS = "its name leads out of the archive"
ENCRYPTED = "it is encrypted: make an archive without a password"
NAMELESS = "it has no name"
OVERLAPS = "its files overlap, as in an archive that is made to fill a disk"
SECOND = "a second file of this name in the archive"
TOO_LARGE = f"it is larger than {MAX_FILE // 1_000_000:,} MB"
TOO_MANY = f"an archive of more than {MAX_MEMBERS:,} files: make several of it"

_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_UNPACKERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}


@dataclass(frozen=True, slots=True)
class Member:
    """`fault` says why it must be rejected; `kind` why it is skipped.

    `stamp` differs if the archive was replaced by one with another file of this name.
    """

    name: str
    size: int
    fault: str | None = None
    kind: str | None = None
    stamp: str = ""


class Archive(Protocol):
    """`members` are its files, in its own order. `fault` says why none of them must be read."""

    members: list[Member]
    fault: str | None

    def open(self, number: int) -> BinaryIO:
        """A member, to be read once. Raises one of `damage.DAMAGED`, or OSError."""
        ...

    def close(self) -> None: ...


class ZipArchive:
    def __init__(self, file: BinaryIO) -> None:
        """Takes the file over; raises one of `damage.DAMAGED`, or OSError."""
        self.members: list[Member] = []
        self.fault: str | None = None
        self._file = file
        if directory_bytes(file) > _MAX_LIST:
            self.fault = TOO_MANY
            return
        self._zip = zipfile.ZipFile(file)
        self._found = [info for info in self._zip.infolist() if not _is_folder(info)]
        self.members = [_zip_member(info) for info in self._found]
        if sum(info.compress_size for info in self._found) > file.seek(0, 2):
            self.fault = OVERLAPS

    def open(self, number: int) -> BinaryIO:
        return cast(BinaryIO, self._zip.open(self._found[number]))

    def close(self) -> None:
        self._file.close()

    __del__ = close  # a thread that reads rows keeps its latest archive open


class TarArchive:
    """Also compressed: then reading members in order costs one pass, and going back another."""

    def __init__(self, file: BinaryIO) -> None:
        """Takes the file over; raises one of `damage.DAMAGED`, or OSError."""
        self.members: list[Member] = []
        self.fault: str | None = None
        self._file = file
        self._found: list[tarfile.TarInfo] = []
        self._tar = tarfile.open(fileobj=file, mode="r:*", tarinfo=_Header)  # noqa: SIM115
        for info in self._tar:
            if not info.isdir():
                self._found.append(info)
                self.members.append(_tar_member(info))
            if len(self.members) > MAX_MEMBERS:
                self.fault = TOO_MANY
                return

    def open(self, number: int) -> BinaryIO:
        member = self._tar.extractfile(self._found[number])
        assert member is not None  # noqa: S101 - it is a regular file
        return cast(BinaryIO, member)

    def close(self) -> None:
        self._file.close()

    __del__ = close


class _Header(tarfile.TarInfo):
    """For the library, a broken header ends an archive, and what follows is lost without a word."""

    __slots__ = ()

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not buf.strip(b"\0"):  # the archive's own end
                raise
            raise tarfile.ReadError(str(error)) from None


def open_archive(file: BinaryIO) -> Archive:
    """Takes the file over. Raises one of `damage.DAMAGED`, or OSError, also for what is none."""
    try:
        is_zip = file.read(4) in _ZIP
        file.seek(0)
        return ZipArchive(file) if is_zip else TarArchive(file)
    except BaseException:
        file.close()
        raise


def packed_kind(file: BinaryIO) -> Kind | None:
    """What a file holds that is packed by gzip, bzip2 or xz; None for other ways of packing.

    Raises one of `damage.DAMAGED`, or OSError.
    """
    begin = file.read(6)
    file.seek(0)
    unpacker = next((make for magic, make in _UNPACKERS.items() if begin.startswith(magic)), None)
    if unpacker is None:
        return None
    with unpacker(file) as unpacked:
        return kind_of(unpacked.read(HEAD))


# --- as a tree -----------------------------------------------------------------------------------


def directory_of(archive: Archive, file: File, key: str) -> Directory:
    """The archive's members as a tree. `key` is that of the folder in which its file lies."""
    root = _Node(Directory(file.name, key, {}))
    for number, member in sorted(enumerate(archive.members), key=lambda pair: pair[1].name):
        root.add(member, number, _Source(archive, file))
    return root.directory


@dataclass(frozen=True)
class _Source:
    archive: Archive
    file: File

    def path(self, name: str) -> str:
        return f"{self.file.name}/{name}"

    def made(self, number: int, own: str) -> File:
        """`own` is the member's path in the archive, as it is shown."""
        member = self.archive.members[number]
        place: Place = (*self.file.place, str(number), member.name)
        opened = partial(self.archive.open, number)
        return File(self.path(own), place, member.size, opened, member.stamp)


@dataclass
class _Node:
    directory: Directory
    files: dict[str, Callable[[], Listed]] = field(init=False)
    below: "dict[str, _Node]" = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.files = self.files = {}

    def add(self, member: Member, number: int, source: _Source) -> None:
        """Puts a member into its folder of the tree, of which this is the root."""
        parts = PurePosixPath(member.name).parts
        listed = _unread(member, parts, source.path(member.name))
        if listed is None:
            node = self._at(parts[:-1])
            if parts[-1] not in node.files:
                node.files[parts[-1]] = partial(source.made, number, "/".join(parts))
                return
            listed = Fault(source.path(member.name), SECOND)
        self.directory.others.append(listed)

    def _at(self, parts: tuple[str, ...]) -> "_Node":
        node = self
        for part in parts:
            node = node._child(part)
        return node

    def _child(self, own: str) -> "_Node":
        if own not in self.below:
            above = self.directory
            made = _Node(Directory(above.path(own), joined(above.key, own)))
            self.below[own] = made
            above.folders[own] = lambda: made.directory
        return self.below[own]


def _unread(member: Member, parts: tuple[str, ...], path: str) -> Skipped | Fault | None:
    """Why a member is not looked at; None if it is."""
    if member.kind is not None:
        return Skipped(path, member.kind)
    fault = member.fault
    if fault != CLIMBS and any(map(is_system, parts)):
        return Skipped(path, "system")
    if fault != CLIMBS and any(map(is_hidden, parts)):
        return Skipped(path, "hidden")
    if not parts:
        fault = NAMELESS
    elif len(parts) > MAX_DEPTH:
        fault = DEEP
    return Fault(path, fault) if fault else None


# --- members -------------------------------------------------------------------------------------


def _zip_member(info: zipfile.ZipInfo) -> Member:
    name = _zip_name(info)
    if info.create_system == _UNIX and stat.S_ISLNK(info.external_attr >> 16):
        return Member(name, 0, kind="link")
    fault = _fault(name, info.file_size) or (ENCRYPTED if info.flag_bits & 1 else None)
    return Member(name, info.file_size, fault, stamp=f"{info.file_size}:{info.CRC:08x}")


_UNIX = 3  # APPNOTE 4.4.2: what made an archive; 0 is MS-DOS
_DOS = 0


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Many programs write UTF-8 and do not say so; the library then reads it as DOS wrote it.

    Some programs for Windows write backslashes, which the format does not allow.
    """
    name = info.filename.replace("\\", "/") if info.create_system == _DOS else info.filename
    if info.flag_bits & 0x800:
        return shown_path(name)
    try:
        return shown_path(name.encode("cp437").decode())
    except (UnicodeEncodeError, UnicodeDecodeError):
        return shown_path(name)


def _is_folder(info: zipfile.ZipInfo) -> bool:
    """Without a name, the library's own `is_dir` fails."""
    ends = ("/", "\\") if info.create_system == _DOS else "/"
    return info.filename.endswith(ends)


def _tar_member(info: tarfile.TarInfo) -> Member:
    name = shown_path(info.name).removeprefix("./")
    if info.issym() or info.islnk():
        return Member(name, 0, kind="link")
    if not info.isreg():
        return Member(name, 0, kind="special")
    # Its format has no checksum of contents. The time is part of the archive, so each copy has it.
    stamp = f"{info.size}:{info.mtime}"
    return Member(name, info.size, _fault(name, info.size), stamp=stamp)


def _fault(name: str, size: int) -> str | None:
    if climbs(name):
        return CLIMBS
    return TOO_LARGE if size > MAX_FILE else None
