"""Says of every file of a tree what it is: a picture with its metadata, or why it is none.

Every regular file comes out once: as an `Entry`, which is a row of the job, or as `Skipped`. A row
has a `fault` if it must be rejected. What a file is, its content decides (`pipeline.images.kinds`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import PurePosixPath
from typing import BinaryIO

from pipeline.base.errors import SourceError
from pipeline.base.identity import ID_COLUMNS
from pipeline.dicom.describing import Described, Policy, describe
from pipeline.dicom.errors import Refused
from pipeline.dicom.reading import read_header
from pipeline.images.kinds import HEAD, KINDS, Fate, Kind, kind_of
from pipeline.messages import Payload
from pipeline.sources.base import own_id
from pipeline.sources.folder.archives import directory_of, open_archive, packed_kind
from pipeline.sources.folder.cells import BadText
from pipeline.sources.folder.configs import SPLITS, split_of
from pipeline.sources.folder.damage import reason_of
from pipeline.sources.folder.joined import JoinedTable
from pipeline.sources.folder.names import is_called_a_picture, matches
from pipeline.sources.folder.sidecars import METADATA, Sidecars, may_be_sidecar
from pipeline.sources.folder.stamps import stamp_of_file
from pipeline.sources.folder.tables import Table, is_table, read_table
from pipeline.sources.folder.tree import Directory, Fault, File, Listed, Place, Skipped
from pipeline.sources.metadata import found_at, merged

# Archives that are read in place, and those that must be unpacked first.
_ARCHIVES = frozenset({"zip", "tar", "gzip", "archive"})
_PACKED = frozenset({"7z", "rar"})
_OFFICE = "[Content_Types].xml"  # a member of every document of Word, Excel and PowerPoint

_TABLE = "a metadata table cannot be read"

NESTED = "an archive in an archive is not read: unpack it"
PACKED = "an archive of this kind is not read: unpack it"


@dataclass(frozen=True)
class Rules:
    """`include` and `exclude` are patterns of names (`names.matches`).

    `label_from_folder`: a picture's folder is its `label`, unless something else says one.
    `id_fields`: the metadata that has an image's id, the first that is there.
    `split`: only pictures in the folder of that name, where all of them lie in folders so named.
    `explicit`: a person named each of the files, so one that is no picture is rejected.
    `partial`: only some files of a folder are read, so a table can name others.
    `dicom`: how DICOM files are described, frame by frame; None: they are files like all others.
    `table` says more of DICOM files, by what they say themselves.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    label_from_folder: bool = False
    id_fields: tuple[str, ...] = ID_COLUMNS
    split: str | None = None
    explicit: bool = False
    partial: bool = False
    dicom: Policy | None = None
    table: JoinedTable | None = None

    def naming_each(self, *, explicit: bool) -> "Rules":
        return replace(self, explicit=explicit)

    def has_id(self, metadata: Payload) -> bool:
        return own_id(found_at(metadata, name) for name in self.id_fields) != (None, None)

    def want(self, name: str) -> bool:
        included = not self.include or matches(name, self.include)
        return included and not matches(name, self.exclude)


PLAIN = Rules()


@dataclass(frozen=True)
class Entry:
    """One row: a picture, or a file that is rejected. `name` is its path in the tree.

    `open` opens its file while the tree is walked; it raises OSError or one of `damage.DAMAGED`.
    """

    name: str
    place: Place = ()
    metadata: Payload = field(default_factory=dict)
    fault: str | None = None
    size: int = 0
    open: Callable[[], BinaryIO] | None = None
    stamp: str = ""
    frame: int | None = None
    hold: str | None = None
    former: tuple[Mapping[str, str], ...] = ()


Found = Entry | Skipped


def survey(directory: Directory, rules: Rules) -> Iterator[Found]:
    """Raises SourceError for a table that cannot be read, and SourceUnavailable for the disk.

    It also raises SourceError, at the end, if none of the pictures has the id that was asked for.
    """
    found = _Survey(rules).below(directory, ())
    found = found if rules.split is None else _of_split(found, rules.split)
    return found if rules.id_fields == ID_COLUMNS else _identified(found, rules)


@dataclass(frozen=True)
class _Survey:
    rules: Rules
    in_archive: bool = False

    def below(self, directory: Directory, tables: tuple[Table, ...]) -> Iterator[Found]:
        """All of a folder and what is below it. `tables` are those of the folders above."""
        yield from map(_found, directory.others)
        named = [name for name in directory.files if self._is_table(directory, name)]
        own = [table for name in named if (table := self._table(directory, name))]
        known = (*tables, *own)
        yield from self._files(directory, {table.name for table in own}, known)
        for folder in directory.folders.values():
            below = folder()
            below.parent = directory
            yield from self.below(below, known)
        for table in own:
            yield from map(_found, table.faults)
            if not self.rules.partial:
                yield from map(_found, table.unused())

    def _is_table(self, directory: Directory, name: str) -> bool:
        return (
            is_table(name)
            and not directory.alone
            and not matches(directory.path(name), self.rules.exclude)
        )

    def _table(self, directory: Directory, name: str) -> Table | None:
        """None for a picture that is called like a table."""
        found = directory.files[name]()
        path = directory.path(name)
        if not isinstance(found, File):
            why = found.reason if isinstance(found, Fault) else "it is no regular file"
            raise SourceError(f"The table {path}: {why}.", why=_TABLE)
        try:
            with found.open() as file:
                kind = kind_of(file.read(HEAD))
            if kind.fate is Fate.TAKEN:
                return None
            if kind.fate is Fate.REJECTED:  # a pointer, or nothing at all
                raise BadText(kind.reason)
            with found.open() as file:
                return read_table(name, directory, file, self.rules.id_fields)
        except BadText as error:
            raise SourceError(f"The table {path} cannot be read: {error}.", why=_TABLE) from None
        except Exception as error:  # noqa: BLE001 - `reason_of` raises what is no file's fault
            raise SourceError(f"The table {path}: {reason_of(error)}.", why=_TABLE) from None

    def _files(
        self, directory: Directory, own: set[str], tables: Sequence[Table]
    ) -> Iterator[Found]:
        """The files of one folder; `own` are those that were read as tables."""
        named = [name for name in directory.files if self._may_be_sidecar(directory, name)]
        beside = Sidecars(directory, named)
        candidates = set(beside.names)
        for name in directory.files:
            if name in own:
                yield Skipped(directory.path(name), METADATA)
            elif name not in candidates:
                yield from self._file(directory, name, tables, beside)
        for name in beside.names:
            outcome = beside.outcome(name)
            if outcome is None:
                yield from self._file(directory, name, tables, beside)
            else:
                yield _found(outcome)

    def _may_be_sidecar(self, directory: Directory, name: str) -> bool:
        """`include` names pictures, so it keeps no picture from what is said of it."""
        return may_be_sidecar(name) and not matches(directory.path(name), self.rules.exclude)

    def _file(
        self, directory: Directory, name: str, tables: Sequence[Table], beside: Sidecars
    ) -> Iterator[Found]:
        said = [
            table.metadata(directory, name) for table in tables
        ]  # its rows are used in any case
        path = directory.path(name)
        if matches(path, self.rules.exclude):
            yield Skipped(path, "excluded")
            return
        file = directory.files[name]()
        if not self.rules.want(path):
            yield from self._not_included(file, name, directory, tables)
            return
        if not isinstance(file, File):
            yield _found(file)
            return
        kind, stamp = _look(file)
        if isinstance(kind, Fault):
            yield _found(kind)
        elif kind.name in _ARCHIVES:
            yield from self._archive(file, name, directory, tables, kind)
        elif (fault := self._fault(name, kind)) is None:
            yield Skipped(file.name, kind.name)
        else:
            first = (self._label(directory), beside.metadata(name))
            for rows in self._of_one_id(product(*(each for each in said if each))):
                metadata = merged(*first, *rows)
                entry = Entry(
                    file.name, file.place, metadata, fault or None, file.size, file.open, stamp
                )
                if kind.name == "dicom":
                    yield from of_dicom(entry, self.rules)
                else:
                    yield entry

    def _of_one_id(self, rows: Iterable[tuple[Payload, ...]]) -> list[tuple[Payload, ...]]:
        """Of what several tables say, what is about one image: with the same id, or none."""
        combined = list(rows)
        one = [each for each in combined if len(set(self._ids(each))) <= 1]
        return one or combined

    def _ids(self, rows: tuple[Payload, ...]) -> Iterator[str]:
        for said in rows:
            image_id, _ = own_id(found_at(said, name) for name in self.rules.id_fields)
            if image_id is not None:
                yield image_id

    def _not_included(
        self, file: Listed, name: str, directory: Directory, tables: Sequence[Table]
    ) -> Iterator[Found]:
        """`include` names pictures, so it keeps no archive from being looked into."""
        kind = _look(file)[0] if isinstance(file, File) else None
        if isinstance(file, File) and isinstance(kind, Kind) and kind.name in _ARCHIVES:
            members = self._archive(file, name, directory, tables, kind)
            first = next(members, None)
            if isinstance(first, Skipped) and first.kind == "archive":
                yield first
                yield from members
                return
        yield Skipped(file.name, "excluded")

    def _fault(self, name: str, kind: Kind) -> str | None:
        """Why a file is rejected; "" if it is taken, None if it is skipped."""
        if kind.fate is Fate.TAKEN:
            return ""
        if kind.name in _PACKED:
            return PACKED
        meant = is_called_a_picture(name) or self.rules.explicit
        return kind.reason if meant or kind.fate is Fate.REJECTED else None

    def _archive(
        self, file: File, name: str, directory: Directory, tables: Sequence[Table], kind: Kind
    ) -> Iterator[Found]:
        if (packed := self._packed(file, name, kind)) is not None:
            yield packed
            return
        if self.in_archive:
            yield _rejected(file, NESTED)
            return
        try:
            archive = open_archive(file.open())
        except Exception as error:  # noqa: BLE001 - `reason_of` raises what is no file's fault
            yield _rejected(file, reason_of(error))
            return
        try:
            if any(member.name == _OFFICE for member in archive.members):
                yield self._other(file, name, KINDS["office"])
            elif archive.fault is not None:
                yield _rejected(file, archive.fault)
            else:
                yield Skipped(file.name, "archive")
                root = directory_of(archive, file, directory.key)
                root.parent = directory.parent
                rules = self.rules.naming_each(explicit=False)  # a person named the archive only
                yield from _Survey(rules, in_archive=True).below(root, tuple(tables))
        finally:
            archive.close()

    def _packed(self, file: File, name: str, kind: Kind) -> Found | None:
        """What becomes of a file that is packed alone, such as a log; None for an archive."""
        if kind.name in ("zip", "tar"):
            return None
        try:
            with file.open() as opened:
                within = packed_kind(opened)
        except Exception as error:  # noqa: BLE001 - `reason_of` raises what is no file's fault
            return _rejected(file, reason_of(error))
        if within is None or within.fate is Fate.TAKEN:
            return _rejected(file, PACKED)
        if within.name == "tar":
            return None
        if within.fate is Fate.REJECTED and within.name not in ("empty", "zeros"):
            return _rejected(file, within.reason)
        return self._other(file, name, kind)

    def _other(self, file: File, name: str, kind: Kind) -> Found:
        """A file that is no picture: rejected if it was meant to be one."""
        fault = self._fault(name, kind)
        counted = "packed" if kind.name == "archive" else kind.name
        return _rejected(file, fault) if fault else Skipped(file.name, counted)

    def _label(self, directory: Directory) -> Payload:
        folder = PurePosixPath(directory.name).name
        return {"label": folder} if self.rules.label_from_folder and folder else {}


def _of_split(all_found: Iterator[Found], wanted: str) -> Iterator[Found]:
    """Only one split. What lies in the others is skipped."""
    split = SPLITS.get(wanted.casefold())
    for found in all_found:
        own = split_of(found.name) or _split_within(found)
        if isinstance(found, Skipped) or own == split:
            yield found
        elif (own is None and found.fault is None) or split is None:
            raise SourceError(
                f"There is no split {wanted[:100]}: all pictures must lie in folders train, "
                "validation and test. Leave out --split to read all of them."
            )
        else:
            yield found if own is None else Skipped(found.name, "other split")


def _identified(all_found: Iterator[Found], rules: Rules) -> Iterator[Found]:
    """A name that is misspelled would give every image another id, without a word."""
    pictures = identified = 0
    for found in all_found:
        if isinstance(found, Entry) and found.fault is None:
            pictures += 1
            identified += rules.has_id(found.metadata)
        yield found
    if pictures and not identified:
        named = ", ".join(rules.id_fields)[:100]
        raise SourceError(
            f"No picture has {named} in its metadata: name a column of the table, or a field of "
            "the sidecars, with --id-column, or leave it out.",
            why="no picture has the id that was asked for",
        )


def _split_within(found: Found) -> str | None:
    """The split of a member of an archive, by its own path."""
    place = found.place if isinstance(found, Entry) else ()
    return split_of(place[2]) if len(place) > 2 else None


def of_dicom(entry: Entry, rules: Rules) -> Iterator[Found]:
    """The frames of a DICOM file, each a row; without a policy, the file as one row."""
    assert entry.open is not None  # noqa: S101 - it is a file
    try:
        with entry.open() as file:
            header = read_header(file)
        described = describe(header, rules.dicom) if rules.dicom is not None else None
    except Exception as error:  # noqa: BLE001 - `reason_of` raises what is no file's fault
        reason = error.reason if isinstance(error, Refused) else reason_of(error)
        if rules.dicom is not None and rules.dicom.account is not None:
            rules.dicom.account.refused += 1
        yield replace(entry, fault=reason)
        return
    joined = rules.table.of(header) if rules.table is not None else {}
    entry = replace(entry, metadata=merged(joined, entry.metadata))
    yield from [entry] if described is None else _described(entry, described)


def _described(entry: Entry, described: Described) -> Iterator[Found]:
    if described.skip is not None:
        yield Skipped(entry.name, described.skip)
    for frame in described.frames:
        said = merged(described.said_of(frame), _numbered(entry.metadata, described, frame))
        former = described.former_of(frame)
        yield replace(entry, metadata=said, frame=frame, hold=described.hold, former=former)


def unused_of(rules: Rules) -> Iterator[Found]:
    """After all is walked: the rows of the joined table that belong to no file, or are faulty."""
    if rules.table is not None:
        yield from map(_found, rules.table.faults)
        yield from map(_found, rules.table.unused())


def _numbered(said: Payload, described: Described, frame: int) -> Payload:
    """An id that a table gives a file of several frames, with the frame's number."""
    own = {name: said[name] for name in ID_COLUMNS if name in said}
    if described.of == 1 or not own:
        return said
    return {**said, **{name: f"{value}#{frame + 1}" for name, value in own.items()}}


def _found(other: Skipped | Fault) -> Found:
    return Entry(other.name, fault=other.reason) if isinstance(other, Fault) else other


def _rejected(file: File, reason: str) -> Entry:
    return Entry(file.name, file.place, fault=reason, size=file.size, open=file.open)


def _look(file: File) -> tuple[Kind | Fault, str]:
    """What kind of file it is, and its stamp if it is a picture."""
    try:
        with file.open() as opened:
            head = opened.read(HEAD)
            kind = kind_of(head)
            if kind.fate is not Fate.TAKEN:
                return kind, ""
            return kind, file.stamp or stamp_of_file(opened, head, file.size)
    except Exception as error:  # noqa: BLE001 - `reason_of` raises what is no file's fault
        return Fault(file.name, reason_of(error)), ""
