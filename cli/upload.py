"""Local files, sent through the api in requests of a bounded size, one job each.

What a file is, and what tables and sidecars say of it, is decided by the code that reads a folder
on the workers (`pipeline.sources.folder`), so both ways have the same result.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from uuid import uuid4

from cli.client import Client, Part
from cli.documents import Document, Job
from cli.failure import BadSource, CommandError, TooLarge
from cli.follow import Show, Step
from pipeline.base.errors import SourceError, SourceUnavailable
from pipeline.base.identity import sha256
from pipeline.images.decoding import EMPTY, Unusable
from pipeline.messages import Payload
from pipeline.sources.base import BAD_METADATA, Row, own_id
from pipeline.sources.dataset import OF_PICTURES
from pipeline.sources.folder.configs import folder_of_pictures
from pipeline.sources.folder.dicomdir import base_of
from pipeline.sources.folder.places import Places
from pipeline.sources.folder.reader import Pictures, directory, nothing_in
from pipeline.sources.folder.survey import PLAIN, Entry, Rules, survey, unused_of
from pipeline.sources.folder.tabular import beside_tables
from pipeline.sources.folder.tree import Skipped
from pipeline.sources.metadata import clean, described_by, found_at, is_too_large

# By default the server accepts 32 MB a request, and its form parser 1,000 files and 1 MB a field.
# Where it accepts less, we halve the refused request.
CHUNK_BYTES = 16_000_000
CHUNK_FILES = 256
CHUNK_TEXT = 500_000  # characters of metadata, and of names

_ANYWHERE = (Path("/"),)


@dataclass(frozen=True)
class LocalFile:
    """A row of the upload. `read` gives its bytes, or says why there are none.

    `image_id` is what its metadata call it. `id_from_bytes`: without one, it is called by the hash
    of its bytes, also if its metadata have what the api takes for an id. `place`: where a row of a
    data set stands.
    """

    entry: Entry
    read: Callable[[], bytes | Unusable]
    image_id: str | None = None
    id_from_bytes: bool = False
    place: str = ""

    def refused(self, reason: str) -> Document:
        """What the api is told of a file that is not sent."""
        known = {} if self.image_id is None else {"image_id": self.image_id}
        return {"name": self.place or self.entry.name, "reason": reason, **known}

    def described(self, data: bytes) -> Payload:
        """Its metadata, for the api."""
        said = self.entry.metadata
        unnamed = self.id_from_bytes and self.image_id is None
        return described_by(said, sha256(data)) if unnamed else said

    @property
    def origin(self) -> str:
        """Where its file lies below the source; empty if no one file is known."""
        return self.entry.place[0] if self.entry.place else ""

    @property
    def text(self) -> int:
        return len(self.place) + len(self.entry.name) + len(json.dumps(self.entry.metadata))


def _data_of(row: Row) -> bytes | Unusable:
    return row.data or EMPTY


@dataclass
class Chunk:
    """What one request takes: files, and what lies beside them and is not sent."""

    files: list[LocalFile] = field(default_factory=list)
    rejected: list[tuple[LocalFile, str]] = field(default_factory=list)
    skipped: list[Document] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.files) + len(self.rejected)


@dataclass(frozen=True)
class Sent:
    """A job, and the files of its request in their order: where each lies below the source."""

    job: Job
    places: tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """Which of the files to take. `id_field` is the metadata field that has the images' ids.

    `image_column` is of data sets: their rows are sent one by one, as files are. `only` are paths
    of files in the one source, if not all of it is wanted.
    """

    sources: Sequence[str]
    rules: Rules = PLAIN
    limit: int | None = None
    id_field: str | None = None
    config: str | None = None
    image_column: str | None = None
    only: Sequence[str] | None = None

    @property
    def without_rows(self) -> bool:
        """Whether there is nothing to send because data sets have no rows, which is no fault."""
        grouped = _grouped([Path(source).expanduser() for source in self.sources])
        wanted = (Pictures(root, _ANYWHERE, only=only) for root, only in grouped)
        return all(beside_tables(directory(each)) is not None for each in wanted)

    def found(self) -> Iterator[LocalFile | Skipped]:
        """Raises CommandError for what is not there, or a table that cannot be read."""
        rows = 0
        for root, only in _grouped([Path(source).expanduser() for source in self.sources]):
            for each in self._below(root, only):
                rows += isinstance(each, LocalFile)
                yield each
                if rows == self.limit:
                    return
        for left in unused_of(self.rules):
            yield left if isinstance(left, Skipped) else LocalFile(left, bytes)

    def _below(self, root: Path, only: Sequence[str] | None) -> Iterator[LocalFile | Skipped]:
        try:
            if self.only is not None:
                yield from self._pictures(root, self.only)
                return
            beside = beside_tables(directory(Pictures(root, _ANYWHERE, only=only)))
            if beside is not None:
                yield from beside
                for file in [root] if only is None else [root / name for name in sorted(only)]:
                    yield from self._rows(file)
            else:
                yield from self._pictures(folder_of_pictures(root, self.config), only)
        except (SourceError, SourceUnavailable) as error:
            raise BadSource(str(error)) from error

    def _pictures(self, root: Path, only: Sequence[str] | None) -> Iterator[LocalFile | Skipped]:
        named = (only is not None and self.only is None) or root.is_file()
        rules = self.rules.naming_each(explicit=named)
        places = Places(base_of(root), _ANYWHERE)
        wanted = Pictures(root, _ANYWHERE, only=only)
        if self.id_field is not None:
            self._look_for_ids(wanted, rules)
        for found in survey(directory(wanted), rules):
            yield found if isinstance(found, Skipped) else self._file(found, places)

    def _look_for_ids(self, wanted: Pictures, rules: Rules) -> None:
        """Before anything is sent: raises SourceError if no picture has one."""
        rows = 0
        for found in survey(directory(wanted), rules):
            rows += isinstance(found, Entry)
            if rows == self.limit or (isinstance(found, Entry) and rules.has_id(found.metadata)):
                return

    def _rows(self, root: Path) -> Iterator[LocalFile]:
        """Imports the library here: most uploads need it not, and it takes a while to load."""
        from pipeline.sources.allowed import AllowedSources
        from pipeline.sources.selection import Selection as Rows
        from pipeline.sources.tabular.opening import open_tabular

        if self.rules.include or self.rules.exclude or self.rules.label_from_folder:
            raise CommandError(OF_PICTURES)
        wanted = Rows(
            dataset=str(root.absolute()),
            split=self.rules.split,
            limit=self.limit,
            image_column=self.image_column,
            id_column=self.id_field,
            config=self.config,
        )
        reader = open_tabular(wanted, AllowedSources.of(("/",)))
        for row in reader.read(0, len(reader)):
            said = described_by(row.metadata, row.image_id) if row.image_id else row.metadata
            fault = row.fault.reason if row.fault else None
            entry = Entry(row.name or "", (), said, fault, len(row.data))
            place = f"{wanted.dataset}, row {row.number}"
            yield LocalFile(entry, partial(_data_of, row), row.image_id, place=place)

    def _file(self, entry: Entry, places: Places) -> LocalFile:
        said = clean(entry.metadata)
        image_id, bad = own_id(found_at(said, name) for name in self.rules.id_fields)
        if self.id_field and image_id is not None:
            said = described_by(said, image_id)
        fault = entry.fault or (bad.reason if bad else None)
        if fault is None and is_too_large(said):
            fault, said = BAD_METADATA.reason, {}
        return LocalFile(
            Entry(entry.name, entry.place, said, fault, entry.size),
            lambda: places.read(entry.place),
            image_id,
            id_from_bytes=self.id_field is not None,
        )


def _grouped(sources: Sequence[Path]) -> Iterator[tuple[Path, Sequence[str] | None]]:
    """Folders, and files that were named one by one: those of one folder belong together, since a
    table or a sidecar can be among them.

    Raises CommandError for what is not there.
    """
    files: dict[Path, set[str]] = {}
    for source in sources:
        if source.is_dir():
            yield source, None
        elif source.exists():
            files.setdefault(source.absolute().parent, set()).add(source.name)
        else:
            raise CommandError(f"no such file or folder: {source}")
    for folder, names in files.items():
        yield (folder, sorted(names)) if len(names) > 1 else (folder / names.pop(), None)


def chunks(found: Iterable[LocalFile | Skipped]) -> Iterator[Chunk]:
    """Runs of files that fit into a request. A larger file is a run of its own."""
    chunk, size, text = Chunk(), 0, 0
    for each in found:
        more = each.text if isinstance(each, LocalFile) else len(each.name)
        bytes_ = each.entry.size if isinstance(each, LocalFile) else 0
        full = len(chunk.files) == CHUNK_FILES or size + bytes_ > CHUNK_BYTES
        if len(chunk) and (full or text + more > CHUNK_TEXT):
            yield chunk
            chunk, size, text = Chunk(), 0, 0
        size, text = size + bytes_, text + more
        if isinstance(each, Skipped):
            chunk.skipped.append({"name": each.name, "kind": each.kind})
        elif each.entry.fault is not None:
            chunk.rejected.append((each, each.entry.fault))
        else:
            chunk.files.append(each)
    if chunk.files or chunk.rejected or chunk.skipped:
        yield chunk


@dataclass
class Upload:
    """`jobs` are what has been sent so far, `sent` how many files that is.

    `told` hears of each request. Whoever sends the same files again as an upload of the same `id`
    gets the jobs that there are.
    """

    client: Client
    options: Document = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    sent: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid4().hex)
    told: Callable[[Sent], None] = lambda sent: None

    def send(self, selection: Selection, show: Show) -> None:
        """Stops at the first request that fails as a whole; `jobs` then has what is on its way."""
        waiting: list[Document] = []  # skipped files without a row to go with
        for chunk in chunks(selection.found()):
            for each in chunk.skipped:
                self.skipped[each["kind"]] = self.skipped.get(each["kind"], 0) + 1
            chunk.skipped, waiting = waiting + chunk.skipped, []
            if len(chunk):
                self._send(chunk)
                show(Step("sending", self.sent, None))
            else:
                waiting = chunk.skipped
        if not self.jobs and selection.only is None and not selection.without_rows:
            raise CommandError(nothing_in(", ".join(selection.sources), self.skipped))

    def _send(self, chunk: Chunk) -> None:
        parts: list[Part] = []
        metadata: list[Document] = []
        names: list[str] = []
        places: list[str] = []
        read: list[LocalFile] = []
        rejected = list(chunk.rejected)
        for file in chunk.files:
            data = file.read()
            if isinstance(data, Unusable):
                rejected.append((file, data.reason))
            else:
                read.append(file)
                # In the form it has a neutral name, since not every name fits into a header.
                parts.append(("files", (str(len(parts)), data, "application/octet-stream")))
                metadata.append(file.described(data))
                names.append(file.entry.name)
                places.append(file.place)
        refused = [file.refused(reason) for file, reason in rejected]
        account = {"names": names, "rejected": refused, "skipped": chunk.skipped}
        account |= {"places": places} if any(places) else {}
        key = self._key(parts, metadata, account)
        options = {**self.options, "upload": self.id}
        try:
            job = self.client.upload(parts, metadata, account, options, key)
        except TooLarge as error:
            self._send_less(chunk, error)
            return
        self.jobs.append(job)
        self.sent += len(chunk)
        self.told(Sent(job, tuple(f.origin for f in [*read, *(file for file, _ in rejected)])))

    def _key(self, parts: Sequence[Part], *said: object) -> str:
        """The same for the same request of the same upload, and for no other."""
        digest = blake2b(json.dumps([self.id, *said]).encode(), digest_size=32)
        for _, (_, data, _) in parts:
            digest.update(blake2b(data).digest())
        return digest.hexdigest()

    def _send_less(self, chunk: Chunk, error: TooLarge) -> None:
        if len(chunk.files) <= 1:
            reason = f"too large for the server: {error}"
            chunk.rejected += [(file, reason) for file in chunk.files]
            self._send(Chunk([], chunk.rejected, chunk.skipped))
            return
        half = len(chunk.files) // 2
        self._send(Chunk(chunk.files[:half], chunk.rejected, chunk.skipped))
        self._send(Chunk(chunk.files[half:]))
