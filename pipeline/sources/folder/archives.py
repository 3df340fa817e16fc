"""Reads zip and tar archives in place, as folders: nothing is unpacked to a disk.

A member is read whole, into memory, and never more of it than a file may have. Names that climb out
of the archive, encrypted members and archives in archives are rejected by name; links are skipped.
"""

import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, BinaryIO, Protocol

from pipeline.sources.folder.names import climbs, is_hidden, is_system, shown
from pipeline.sources.folder.tree import Directory, Fault, File, Place, Skipped, joined
from pipeline.sources.local import MAX_FILE

MAX_MEMBERS = 1_000_000

CLIMBS = "its name leads out of the archive"
ENCRYPTED = "it is encrypted: make an archive without a password"
TOO_LARGE = f"it is larger than {MAX_FILE // 1_000_000:,} MB"
TOO_MANY = f"an archive of more than {MAX_MEMBERS:,} files: make several of it"


@dataclass(frozen=True)
class Member:
    """`fault` says why it must be rejected; `kind` why it is skipped."""

    name: str
    size: int
    fault: str | None = None
    kind: str | None = None


class Archive(Protocol):
    members: list[Member]

    def read(self, number: int) -> bytes:
        """A member's bytes. Raises one of `damage.DAMAGED`, or OSError."""
        ...

    def close(self) -> None: ...


class ZipArchive:
    def __init__(self, file: BinaryIO, opened: zipfile.ZipFile) -> None:
        self._file, self._zip = file, opened
        self._found = [info for info in self._zip.infolist() if not info.is_dir()]
        self.members = [_zip_member(info) for info in self._found]

    def read(self, number: int) -> bytes:
        with self._zip.open(self._found[number]) as member:
            return _limited(member)

    def close(self) -> None:
        self._zip.close()
        self._file.close()

    __del__ = close  # a thread that reads rows keeps its latest archive open


class TarArchive:
    """Also compressed: then reading members in order costs one pass, and going back another."""

    def __init__(self, file: BinaryIO, opened: tarfile.TarFile) -> None:
        self._file, self._tar = file, opened
        self._found = [info for info in self._tar if not info.isdir()]
        self.members = [_tar_member(info) for info in self._found]

    def read(self, number: int) -> bytes:
        member = self._tar.extractfile(self._found[number])
        return b"" if member is None else _limited(member)

    def close(self) -> None:
        self._tar.close()
        self._file.close()

    __del__ = close


def open_archive(file: BinaryIO) -> Archive:
    """Raises one of `damage.DAMAGED`, or OSError, also for what is no archive."""
    try:
        is_zip = zipfile.is_zipfile(file)
        file.seek(0)
        if is_zip:
            return ZipArchive(file, zipfile.ZipFile(file))
        return TarArchive(file, tarfile.open(fileobj=file, mode="r:*"))
    except BaseException:
        file.close()
        raise


def directory_of(archive: Archive, file: File, key: str) -> Directory:
    """The archive's members as a tree. `key` is that of the folder in which its file lies."""
    name, place = file.name, file.place
    if len(archive.members) > MAX_MEMBERS:
        return Directory(name, key, others=[Fault(name, TOO_MANY)])
    root = _Node(Directory(name, key), {})
    for number, member in sorted(enumerate(archive.members), key=lambda pair: pair[1].name):
        root.add(PurePosixPath(member.name).parts, f"{name}/{member.name}", member,
                 _opener(archive, number), (*place, str(number)))  # fmt: skip
    return root.directory


@dataclass
class _Node:
    directory: Directory
    below: "dict[str, _Node]"

    def add(
        self,
        parts: tuple[str, ...],
        name: str,
        member: Member,
        open_: Callable[[], BinaryIO],
        place: Place,
    ) -> None:
        others = self.directory.others
        own = parts[-1] if parts else ""
        if member.fault is not None:
            others.append(Fault(name, member.fault))
        elif member.kind is not None:
            others.append(Skipped(name, member.kind))
        elif any(map(is_system, parts)):
            others.append(Skipped(name, "system"))
        elif any(map(is_hidden, parts)):
            others.append(Skipped(name, "hidden"))
        elif own in self._at(parts[:-1]).directory.files:
            others.append(Fault(name, "a second file of this name in the archive"))
        else:
            file = File(name, place, member.size, open_)
            self._at(parts[:-1]).directory.files[own] = lambda: file

    def _at(self, parts: tuple[str, ...]) -> "_Node":
        if not parts:
            return self
        if parts[0] not in self.below:
            above = self.directory
            node = _Node(Directory(above.path(parts[0]), joined(above.key, parts[0])), {})
            self.below[parts[0]] = node
            self.directory.folders.append(lambda: node.directory)
        return self.below[parts[0]]._at(parts[1:])


def _opener(archive: Archive, number: int) -> Callable[[], BinaryIO]:
    return lambda: io.BytesIO(archive.read(number))


def _limited(member: IO[bytes]) -> bytes:
    """What a header says of a member's size can be a lie, so what is read has a limit as well."""
    data = member.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ValueError(TOO_LARGE)
    return data


def _zip_member(info: zipfile.ZipInfo) -> Member:
    name = _zip_name(info)
    fault = _fault(name, info.file_size)
    return Member(name, info.file_size, ENCRYPTED if info.flag_bits & 1 else fault)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Many programs write UTF-8 and do not say so; the library then reads it as DOS wrote it."""
    if info.flag_bits & 0x800:
        return shown(info.filename)
    try:
        return shown(info.filename.encode("cp437").decode())
    except (UnicodeEncodeError, UnicodeDecodeError):
        return shown(info.filename)


def _tar_member(info: tarfile.TarInfo) -> Member:
    name = shown(info.name).removeprefix("./")
    if info.issym() or info.islnk():
        return Member(name, 0, kind="link")
    if not info.isreg():
        return Member(name, 0, kind="special")
    return Member(name, info.size, _fault(name, info.size))


def _fault(name: str, size: int) -> str | None:
    if climbs(name):
        return CLIMBS
    return TOO_LARGE if size > MAX_FILE else None
