"""Turns the files of an upload into blobs and their manifest, by the rules of a folder."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from pipeline.base.blobs import Blobs, manifest_of
from pipeline.base.errors import InvalidQuery, SourceError
from pipeline.base.identity import sha256
from pipeline.messages import SkippedFile, UploadedFile, UploadManifest
from pipeline.sources.folder.damage import reason_of
from pipeline.sources.folder.names import is_hidden, is_system, slashed
from pipeline.sources.folder.survey import Entry, Rules, survey
from pipeline.sources.folder.tree import Directory, File, Skipped
from pipeline.sources.metadata import merged

# How many times its own size an archive may become. Pictures are packed already.
EXPANSION = 20


@dataclass(frozen=True)
class Received:
    """`files` are names, which can be paths, and contents; `metadata` says something of each.

    `rejected` and `skipped` are files that the caller found and did not send.
    """

    files: Sequence[tuple[str, BinaryIO]]
    metadata: Sequence[dict[str, Any]]
    rejected: tuple[UploadedFile, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()


def store_upload(
    blobs: Blobs, folder: str, received: Received, *, keep_names: bool, most: int
) -> str:
    """Stores the pictures, then their manifest, and returns the manifest's name.

    `most` is the largest request in bytes. Raises InvalidQuery for a table that cannot be read, or
    an archive that becomes too large, and BlobsUnavailable.
    """
    files: list[tuple[int, UploadedFile]] = []  # with their places among those that were sent
    skipped: list[SkippedFile] = []
    room = EXPANSION * most
    try:
        for found in survey(_tree(received.files), Rules(explicit=True)):
            if isinstance(found, Skipped):
                skipped.append(SkippedFile(name=found.name, kind=found.kind))
                continue
            room -= found.size
            if room < 0:
                raise InvalidQuery(
                    f"Its archives become more than {EXPANSION} times the largest request: send "
                    "the files themselves, in several requests.",
                    ("files",),
                )
            place = int(found.place[0]) if found.place else len(received.files)
            file = _stored(blobs, f"{folder}/{len(files)}", found, received.metadata)
            files.append((place, file))
    except SourceError as error:
        raise InvalidQuery(str(error), ("files",)) from error
    rows = (file for _, file in sorted(files, key=itemgetter(0)))
    manifest = UploadManifest(
        files=(*rows, *received.rejected), skipped=(*skipped, *received.skipped)
    )
    if not keep_names:
        manifest = _nameless(manifest)
    blobs.write(manifest_of(folder), manifest.model_dump_json(exclude_none=True).encode())
    return manifest_of(folder)


def _stored(
    blobs: Blobs, blob: str, entry: Entry, metadata: Sequence[dict[str, Any]]
) -> UploadedFile:
    said = merged(entry.metadata, metadata[int(entry.place[0])]) if entry.place else entry.metadata
    file = UploadedFile(name=entry.name, metadata=said, fault=entry.fault)
    if entry.open is None:
        return file
    try:
        with entry.open() as opened:
            data = opened.read()
    except Exception as error:  # noqa: BLE001 - `reason_of` raises what is no file's fault
        return file.model_copy(update={"fault": reason_of(error)})
    if entry.fault is not None:
        return file.model_copy(update={"sha256": sha256(data)})
    blobs.write(blob, data)
    return file.model_copy(update={"blob": blob, "sha256": sha256(data)})


def _nameless(manifest: UploadManifest) -> UploadManifest:
    """How many files were skipped, and of which kinds, is still known."""
    return UploadManifest(
        files=tuple(file.model_copy(update={"name": None}) for file in manifest.files),
        skipped=tuple(SkippedFile(name="", kind=each.kind) for each in manifest.skipped),
    )


def _tree(files: Sequence[tuple[str, BinaryIO]]) -> Directory:
    """The files as a tree: their names, whatever browsers and programs send, can be paths."""
    root = Directory("", "")
    folders = {"": root}
    for number, (given, content) in enumerate(files):
        parts = [part for part in slashed(given).split("/") if part not in ("", ".", "..")]
        name = "/".join(parts) or f"file-{number + 1}"
        if (kind := _aside(parts)) is not None:
            root.others.append(Skipped(name, kind))
            continue
        folder = _folder(folders, str(PurePosixPath(name).parent) if "/" in name else "")
        own = PurePosixPath(name).name
        if own in folder.files:  # two files of one name, from two folders perhaps
            own = f"{own} ({number + 1})"
        folder.files[own] = partial(_file, name, number, content)
    return root


def _aside(parts: Sequence[str]) -> str | None:
    """The kind under which a file is skipped for its name, if a whole folder was sent with it."""
    if any(map(is_system, parts)):
        return "system"
    return "hidden" if len(parts) > 1 and any(map(is_hidden, parts)) else None


def _folder(folders: dict[str, Directory], name: str) -> Directory:
    if name not in folders:
        above = _folder(folders, name.rpartition("/")[0])
        folders[name] = Directory(name, name)
        above.folders.append(partial(folders.__getitem__, name))
    return folders[name]


def _file(name: str, number: int, content: BinaryIO) -> File:
    size = content.seek(0, io.SEEK_END)
    return File(name, (str(number),), size, partial(_reopened, content))


def _reopened(content: BinaryIO) -> BinaryIO:
    """The content from its start, as a file that can be closed without closing it."""
    content.seek(0)
    return io.BytesIO(content.read())
