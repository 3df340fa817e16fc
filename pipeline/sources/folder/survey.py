"""Says of every file of a tree what it is: a picture with its metadata, or why it is none.

Every regular file comes out once: as an `Entry`, which is a row of the job, or as `Skipped`. A row
has a `fault` if it must be rejected. What a file is, its content decides (`pipeline.images.kinds`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import PurePosixPath
from typing import BinaryIO

from pipeline.base.errors import SourceError
from pipeline.base.identity import ID_COLUMNS
from pipeline.images.kinds import HEAD, Fate, Kind, kind_of
from pipeline.messages import Payload
from pipeline.sources.folder.archives import directory_of, open_archive
from pipeline.sources.folder.cells import BadText
from pipeline.sources.folder.configs import SPLITS, split_of
from pipeline.sources.folder.damage import reason_of
from pipeline.sources.folder.names import matches
from pipeline.sources.folder.sidecars import METADATA, Sidecars, may_be_sidecar
from pipeline.sources.folder.tables import Table, is_table, read_table
from pipeline.sources.folder.tree import Directory, Fault, File, Place, Skipped
from pipeline.sources.metadata import merged

# Archives that are read in place, and those that must be unpacked first.
_ARCHIVES = frozenset({"zip", "tar", "gzip", "archive"})
_PACKED = frozenset({"7z", "rar"})

_TABLE = "a metadata table cannot be read"

NESTED = "an archive in an archive is not read: unpack it"
PACKED = "an archive of this kind is not read: unpack it"

# A file of such a name that is none was meant to be a picture: a download that failed, say.
_PICTURES = frozenset(
    {
        ".avif", ".bmp", ".dcm", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg",
        ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Rules:
    """`include` and `exclude` are patterns of names (`names.matches`).

    `label_from_folder`: a picture's folder is its `label`, unless something else says one.
    `id_fields`: the metadata that has an image's id, the first that is there.
    `split`: only pictures in the folder of that name, where all of them lie in folders so named.
    `explicit`: a person named each of the files, so one that is no picture is rejected.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    label_from_folder: bool = False
    id_fields: tuple[str, ...] = ID_COLUMNS
    split: str | None = None
    explicit: bool = False

    def naming_each(self, *, explicit: bool) -> "Rules":
        return replace(self, explicit=explicit)

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


Found = Entry | Skipped


def survey(directory: Directory, rules: Rules) -> Iterator[Found]:
    """Raises SourceError for a table that cannot be read, and SourceUnavailable for the disk."""
    found = _Survey(rules).below(directory, ())
    return found if rules.split is None else _of_split(found, rules.split)


@dataclass(frozen=True)
class _Survey:
    rules: Rules
    in_archive: bool = False

    def below(self, directory: Directory, tables: tuple[Table, ...]) -> Iterator[Found]:
        """All of a folder and what is below it. `tables` are those of the folders above."""
        yield from map(_found, directory.others)
        own = [self._table(directory, name) for name in directory.files if is_table(name)]
        known = (*tables, *own)
        yield from self._files(directory, known)
        for folder in directory.folders:
            yield from self.below(folder(), known)
        for table in own:
            yield from map(_found, table.faults)
            yield from map(_found, table.unused())

    def _table(self, directory: Directory, name: str) -> Table:
        found = directory.files[name]()
        path = directory.path(name)
        if not isinstance(found, File):
            why = found.reason if isinstance(found, Fault) else "it is no regular file"
            raise SourceError(f"The table {path}: {why}.", why=_TABLE)
        try:
            with found.open() as file:
                return read_table(name, directory, file, self.rules.id_fields)
        except BadText as error:
            raise SourceError(f"The table {path} cannot be read: {error}.", why=_TABLE) from None
        except Exception as error:  # noqa: BLE001 - `reason_of` raises what is no file's fault
            raise SourceError(f"The table {path}: {reason_of(error)}.", why=_TABLE) from None

    def _files(self, directory: Directory, tables: Sequence[Table]) -> Iterator[Found]:
        beside = Sidecars(directory, [n for n in directory.files if self._may_be_sidecar(n)])
        candidates = set(beside.names)
        for name in directory.files:
            if is_table(name):
                yield Skipped(directory.path(name), METADATA)
            elif name not in candidates:
                yield from self._file(directory, name, tables, beside)
        for name in beside.names:
            outcome = beside.outcome(name)
            if outcome is None:
                yield from self._file(directory, name, tables, beside)
            else:
                yield _found(outcome)

    def _may_be_sidecar(self, name: str) -> bool:
        return may_be_sidecar(name) and self.rules.want(name)

    def _file(
        self, directory: Directory, name: str, tables: Sequence[Table], beside: Sidecars
    ) -> Iterator[Found]:
        said = [
            table.metadata(directory, name) for table in tables
        ]  # its rows are used in any case
        path = directory.path(name)
        if not self.rules.want(path):
            yield Skipped(path, "excluded")
            return
        file = directory.files[name]()
        if not isinstance(file, File):
            yield _found(file)
            return
        kind = _kind(file)
        if isinstance(kind, Fault):
            yield _found(kind)
        elif kind.name in _ARCHIVES:
            yield from self._archive(file, directory, tables, kind)
        elif (fault := self._fault(name, kind)) is None:
            yield Skipped(file.name, kind.name)
        else:
            first = (self._label(directory), beside.metadata(name))
            for rows in product(*(each for each in said if each)):
                metadata = merged(*first, *rows)
                yield Entry(file.name, file.place, metadata, fault or None, file.size, file.open)

    def _fault(self, name: str, kind: Kind) -> str | None:
        """Why a file is rejected; "" if it is taken, None if it is skipped."""
        if kind.fate is Fate.TAKEN:
            return ""
        if kind.name in _PACKED:
            return PACKED
        meant = PurePosixPath(name).suffix.lower() in _PICTURES or self.rules.explicit
        return kind.reason if meant or kind.fate is Fate.REJECTED else None

    def _archive(
        self, file: File, directory: Directory, tables: Sequence[Table], kind: Kind
    ) -> Iterator[Found]:
        if self.in_archive:
            yield Entry(file.name, fault=NESTED)
            return
        try:
            archive = open_archive(file.open())
        except Exception as error:  # noqa: BLE001 - `reason_of` raises what is no file's fault
            yield _not_an_archive(file, kind, reason_of(error), explicit=self.rules.explicit)
            return
        if not archive.members and kind.name not in ("zip", "tar"):  # zeros look like a tar's end
            archive.close()
            yield _not_an_archive(file, kind, kind.reason, explicit=self.rules.explicit)
            return
        yield Skipped(file.name, "archive")
        try:
            within = _Survey(self.rules, in_archive=True)
            yield from within.below(directory_of(archive, file, directory.key), tuple(tables))
        finally:
            archive.close()

    def _label(self, directory: Directory) -> Payload:
        folder = PurePosixPath(directory.name).name
        return {"label": folder} if self.rules.label_from_folder and folder else {}


def _of_split(all_found: Iterator[Found], wanted: str) -> Iterator[Found]:
    """Only one split. What lies in the others is skipped."""
    split = SPLITS.get(wanted.casefold())
    for found in all_found:
        own = split_of(found.name)
        if isinstance(found, Skipped) or own == split:
            yield found
        elif (own is None and found.fault is None) or split is None:
            raise SourceError(
                f"There is no split {wanted[:100]}: all pictures must lie in folders train, "
                "validation and test. Leave out --split to read all of them."
            )
        else:
            yield found if own is None else Skipped(found.name, "other split")


def _found(other: Skipped | Fault) -> Found:
    return Entry(other.name, fault=other.reason) if isinstance(other, Fault) else other


def _kind(file: File) -> Kind | Fault:
    try:
        with file.open() as opened:
            return kind_of(opened.read(HEAD))
    except Exception as error:  # noqa: BLE001 - `reason_of` raises what is no file's fault
        return Fault(file.name, reason_of(error))


def _not_an_archive(file: File, kind: Kind, reason: str, *, explicit: bool) -> Found:
    """A packed single file, such as a log, is no archive; a damaged zip or tar is one."""
    if kind.name in ("zip", "tar"):
        return Entry(file.name, file.place, fault=reason, open=file.open)
    if explicit:
        return Entry(file.name, file.place, fault=kind.reason, open=file.open)
    return Skipped(file.name, kind.name)
