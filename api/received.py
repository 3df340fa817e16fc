"""Turns the files of an upload into blobs and their manifest, by the rules of a folder."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any, BinaryIO

from pipeline.base.blobs import Blobs, dicom_folder, manifest_of, original_name
from pipeline.base.errors import BlobsUnavailable, InvalidQuery, SourceError
from pipeline.base.identity import frame_digest, sha256
from pipeline.base.sealing import seal
from pipeline.dicom.describing import Policy
from pipeline.messages import Payload, SkippedFile, UploadedFile, UploadManifest
from pipeline.sources.deidentification import write_account
from pipeline.sources.folder.damage import reason_of
from pipeline.sources.folder.hiding import Hiding, is_called_dicom
from pipeline.sources.folder.names import distinct, is_hidden, is_system
from pipeline.sources.folder.survey import Entry, Rules, survey
from pipeline.sources.folder.tree import (
    DEEP,
    MAX_DEPTH,
    Directory,
    Fault,
    File,
    Listed,
    Place,
    Skipped,
)
from pipeline.sources.metadata import clean, merged

# How many times its own size an archive may become. Pictures are packed already.
EXPANSION = 20


@dataclass(frozen=True)
class Received:
    """`files` are names, which can be paths, and contents; `metadata` says something of each.

    `rejected` and `skipped` are files that the caller found and did not send. `chosen`: it has
    looked at what it sends, so also a file with a hidden one's name is meant. `places`: of rows of
    a data set, where each stands.
    """

    files: Sequence[tuple[str, BinaryIO]]
    metadata: Sequence[dict[str, Any]]
    rejected: tuple[UploadedFile, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()
    chosen: bool = False
    places: Sequence[str] = ()


def store_upload(
    blobs: Blobs, folder: str, received: Received, dicom: Policy, *, keep_names: bool, most: int
) -> str:
    """Stores the pictures, then their manifest, and returns the manifest's name.

    `most` is the largest request in bytes. Raises InvalidQuery for a table that cannot be read, or
    an archive that becomes too large, and BlobsUnavailable.
    """
    dicom = dicom.counting()
    store = _Store(blobs, folder, received, dicom)
    files: list[tuple[int, UploadedFile]] = []  # with their places among those that were sent
    skipped: list[SkippedFile] = []
    room = EXPANSION * most
    try:
        for found in survey(_tree(received), Rules(explicit=True, dicom=dicom)):
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
            number = int(found.place[0]) if found.place else len(received.files)
            file = store.put(found, str(len(files)))
            files.append((number, file))
    except SourceError as error:
        raise InvalidQuery(str(error), ("files",)) from error
    # In the order in which they came: of two pictures with one id, the first has it.
    rows = (file for _, file in sorted(files, key=itemgetter(0)))
    manifest = UploadManifest(
        files=(*rows, *_numbered(received)), skipped=(*skipped, *received.skipped)
    )
    manifest = _nameless(manifest) if not keep_names else _hidden(manifest, Hiding.of(dicom))
    write_account(blobs, folder.rpartition("/")[2], dicom)
    blobs.write(manifest_of(folder), manifest.model_dump_json(exclude_none=True).encode())
    return manifest_of(folder)


def _numbered(received: Received) -> Iterator[UploadedFile]:
    """The files that were not sent, with their places behind those that were."""
    for number, file in enumerate(received.rejected, len(received.files)):
        yield file.model_copy(update={"number": number})


@dataclass
class _Store:
    """Stores the files of one upload in a folder. `keys` seal the DICOM files among them."""

    blobs: Blobs
    folder: str
    received: Received
    dicom: Policy
    _latest: tuple[Place, str, str] = ((), "", "")  # of the file whose frames come one by one

    def put(self, entry: Entry, own: str) -> UploadedFile:
        """`own` is the blob's name in the folder."""
        file = self._described(entry)
        if entry.open is None:
            return file
        try:
            if entry.frame is not None:
                return file.model_copy(update=self._dicom(entry, entry.frame, entry.open))
            with entry.open() as opened:
                data = opened.read()
        except BlobsUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - `reason_of` raises what is no file's fault
            return file.model_copy(update={"fault": reason_of(error)})
        if entry.fault is not None:
            return file.model_copy(update={"sha256": sha256(data)})
        self.blobs.write(f"{self.folder}/{own}", data)
        return file.model_copy(update={"blob": f"{self.folder}/{own}", "sha256": sha256(data)})

    def _described(self, entry: Entry) -> UploadedFile:
        said, name, place, number = entry.metadata, entry.name, None, None
        if entry.place:
            number = int(entry.place[0])
            place = self.received.places[number] if self.received.places else None
            said = merged(said, self.received.metadata[number])
            name = name if self.received.files[number][0] else ""
        own = (name or None) if entry.frame is None else None
        update = {"name": own, "place": place, "number": number}
        return listed(entry, said).model_copy(update=update)

    def _dicom(self, entry: Entry, frame: int, opens: Callable[[], BinaryIO]) -> dict[str, Any]:
        place, blob, digest = self._latest
        if not entry.place or place != entry.place:
            with opens() as opened:
                data = opened.read()
            digest = sha256(data)
            blob = f"{dicom_folder(self.folder.rpartition('/')[2])}/{digest}.dcm"
            self.blobs.write(blob, seal(data, self.dicom.pseudonyms.keys))
            self._latest = (entry.place, blob, digest)
        return {"blob": blob, **digests(digest, frame, self.dicom)}


def listed(entry: Entry, said: Payload) -> UploadedFile:
    """An entry as the list of an upload has it, before its bytes are stored."""
    return UploadedFile(
        metadata=clean(said),
        fault=entry.fault,
        frame=entry.frame,
        hold=entry.hold,
        former=tuple(map(dict, entry.former)),
    )


def digests(digest: str, frame: int, policy: Policy) -> dict[str, str | None]:
    """What the list of an upload says of a frame of the DICOM file with this SHA-256."""
    original = original_name(digest) if policy.keep else None
    return {"sha256": frame_digest(digest, frame), "original": original}


def _hidden(manifest: UploadManifest, hiding: Hiding) -> UploadManifest:
    """As of a folder: without names that may be patients'."""
    everything = hiding.seen()

    def shown(name: str | None) -> str | None:
        hide = name and (everything or is_called_dicom(name))
        return hiding.name_of(name) if name and hide else name

    return UploadManifest(
        files=tuple(file.model_copy(update={"name": shown(file.name)}) for file in manifest.files),
        skipped=tuple(
            SkippedFile(name=shown(each.name) or "", kind=each.kind) for each in manifest.skipped
        ),
    )


def _nameless(manifest: UploadManifest) -> UploadManifest:
    """How many files were skipped, and of which kinds, is still known."""
    return UploadManifest(
        files=tuple(
            file.model_copy(update={"name": None, "place": None}) for file in manifest.files
        ),
        skipped=tuple(SkippedFile(name="", kind=each.kind) for each in manifest.skipped),
    )


def _tree(received: Received) -> Directory:
    """The files as a tree: their names, whatever browsers and programs send, can be paths."""
    root = _Folder(Directory("", ""))
    for number, (given, content) in enumerate(received.files):
        parts = [part for part in given.split("/") if part not in ("", ".", "..")]
        parts = parts or [f"file-{number + 1}"]
        name = "/".join(parts)
        aside = None if received.chosen else _aside(parts)
        if len(parts) > MAX_DEPTH:
            root.directory.others.append(Fault(name, DEEP))
        elif aside is not None:
            root.directory.others.append(Skipped(name, aside))
        else:
            root.at(parts[:-1]).add(parts[-1], partial(_file, name, number, content))
    return root.directory


def _aside(parts: Sequence[str]) -> str | None:
    """The kind under which a file is skipped for its name, if a whole folder was sent with it."""
    if any(map(is_system, parts)):
        return "system"
    return "hidden" if len(parts) > 1 and any(map(is_hidden, parts)) else None


@dataclass
class _Folder:
    directory: Directory
    files: dict[str, Callable[[], Listed]] = field(default_factory=dict)
    below: "dict[str, _Folder]" = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.files = self.files

    def at(self, parts: Sequence[str]) -> "_Folder":
        folder = self
        for own in parts:
            folder = folder._child(own)
        return folder

    def add(self, own: str, make: Callable[[], Listed]) -> None:
        # Two files can have one name: they come from two folders, or are one under two image ids.
        self.files[distinct(own, self.files)] = make

    def _child(self, own: str) -> "_Folder":
        if own not in self.below:
            name = self.directory.path(own)
            made = self.below[own] = _Folder(Directory(name, name))
            self.directory.folders[own] = lambda: made.directory
        return self.below[own]


def _file(name: str, number: int, content: BinaryIO) -> File:
    size = content.seek(0, io.SEEK_END)
    return File(name, (str(number),), size, partial(_reopened, content))


def _reopened(content: BinaryIO) -> BinaryIO:
    """The content from its start, as a file that can be closed without closing it."""
    content.seek(0)
    return io.BytesIO(content.read())
