"""Reads the pictures of a folder or an archive, as a job has listed them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path, PurePosixPath

from pipeline.base.blobs import Blobs, original_name
from pipeline.base.errors import SourceChanged, SourceError
from pipeline.base.identity import frame_digest, sha256
from pipeline.images.decoding import Unusable
from pipeline.sources.base import BAD_METADATA, Row, own_id
from pipeline.sources.deidentification import write_account
from pipeline.sources.folder.catalogue import PAGE, Catalogue, CatalogueRow
from pipeline.sources.folder.damage import refuse_disk
from pipeline.sources.folder.dicomdir import base_of, is_dicomdir, listed_in
from pipeline.sources.folder.hiding import Hiding
from pipeline.sources.folder.places import CHANGED, GONE, Places
from pipeline.sources.folder.survey import PLAIN, Rules, survey, unused_of
from pipeline.sources.folder.tree import Directory, LocalTree
from pipeline.sources.metadata import clean, found_at, is_too_large

# How many rows, spread over a job, tell whether this host has another folder under the same name.
LOOKED_AT = 32


@dataclass(frozen=True)
class Pictures:
    """What a job wants of a folder. Links in it may end in the folders `allowed`.

    `only` are paths of files in it, if not all of it is wanted.
    """

    root: Path
    allowed: tuple[Path, ...]
    rules: Rules = PLAIN
    limit: int | None = None
    only: Sequence[str] | None = None


class FolderReader:
    """Threads can share it."""

    def __init__(self, wanted: Pictures, catalogue: Catalogue) -> None:
        self._catalogue, self._id_fields = catalogue, wanted.rules.id_fields
        self._places = Places(base_of(wanted.root), wanted.allowed)
        self._keeps = wanted.rules.dicom is not None and wanted.rules.dicom.keep
        # A batch has a few rows, and several lanes read at once.
        self._pages = lru_cache(maxsize=8)(catalogue.page)
        self._is_another: bool | None = None

    @property
    def version(self) -> str:
        return self._catalogue.version

    @property
    def skipped(self) -> Mapping[str, int]:
        return self._catalogue.skipped

    def __len__(self) -> int:
        return self._catalogue.rows

    def read(self, start: int, stop: int) -> Iterator[Row]:
        """A row whose file has changed is rejected. Raises SourceChanged if most of all have."""
        changed, latest = 0, _Latest(self._places)
        for number, row in self._listed(start, stop):
            found = self._row(number, row, latest)
            changed += found.fault is CHANGED
            yield found
        if changed * 2 > stop - start:
            self._refuse_another()

    def _listed(self, start: int, stop: int) -> Iterator[tuple[int, CatalogueRow]]:
        for number in range(start // PAGE, -(-stop // PAGE)):
            for place, row in enumerate(self._page(number), number * PAGE):
                if start <= place < stop:
                    yield place, row

    def _refuse_another(self) -> None:
        """Files that change one by one cost their own rows, and another folder a new plan."""
        if self._is_another is None:
            self._is_another = self._looks_like_another()
        if self._is_another:
            raise SourceChanged("The job is planned again.")

    def _looks_like_another(self) -> bool:
        spread = range(0, len(self), -(-len(self) // LOOKED_AT))
        rows = [row for n in spread for _, row in self._listed(n, n + 1) if row.stamp]
        changed = sum(self._places.read(row.place, row.stamp) is CHANGED for row in rows)
        return changed * 2 > len(rows)

    def _page(self, number: int) -> list[CatalogueRow]:
        try:
            return self._pages(number)
        except FileNotFoundError:  # as where blobs were restored in part
            raise SourceError(
                "The list of its files is gone. Retry the job, which lists them anew.",
                why="the list of its files is gone",
            ) from None

    def _row(self, number: int, row: CatalogueRow, latest: "_Latest") -> Row:
        metadata = clean(row.metadata)
        image_id, fault = own_id(found_at(metadata, name) for name in self._id_fields)
        own = PurePosixPath(row.name).name
        if row.fault is not None:
            fault = Unusable(row.fault)
        elif is_too_large(metadata):
            fault, metadata = BAD_METADATA, {}
        read = fault or latest.read(row)
        if read is GONE:
            self._places.refuse_absent()
        if isinstance(read, Unusable):  # nothing was read, so there is no hash
            return Row(number, image_id or f"#{number}", b"", metadata, fault=read, name=own)
        if row.frame is None:
            return Row(number, image_id, read, metadata, name=own)
        digest = latest.digest
        return Row(
            number,
            image_id,
            read,
            metadata,
            sha256=frame_digest(digest, row.frame),
            frame=row.frame,
            hold=row.hold,
            former=tuple(row.former),
            original=original_name(digest) if self._keeps else None,
        )


@dataclass
class _Latest:
    """The file that was read last: the frames of a DICOM file are rows one after the other."""

    places: Places
    _row: CatalogueRow | None = None
    _data: bytes | Unusable = b""
    digest: str = ""

    def read(self, row: CatalogueRow) -> bytes | Unusable:
        """The bytes of its file, or why there are none; of DICOM, `digest` is their SHA-256."""
        last = self._row
        if row.frame is None:
            return self.places.read(row.place, row.stamp)
        if last is None or (last.place, last.stamp) != (row.place, row.stamp):
            self._row, self._data = row, self.places.read(row.place, row.stamp)
            self.digest = "" if isinstance(self._data, Unusable) else sha256(self._data)
        return self._data


def plan_folder(wanted: Pictures, blobs: Blobs, job: str) -> Catalogue:
    """Lists the rows of a folder. Raises SourceError, with what to do, and SourceUnavailable."""
    policy = wanted.rules.dicom and wanted.rules.dicom.counting()
    rules = replace(wanted.rules, dicom=policy)
    found = chain(survey(directory(wanted), rules), unused_of(rules))
    hiding = Hiding.of(policy)
    files = wanted.only or ()
    catalogue = Catalogue.write(blobs, job, found, wanted.limit, hiding=hiding, files=files)
    write_account(blobs, job, policy)
    if not catalogue.rows and wanted.only is None:
        said = nothing_in(str(wanted.root), catalogue.skipped)
        raise SourceError(said, why="there is nothing to ingest")
    return catalogue


def directory(wanted: Pictures) -> Directory:
    """The folder, or the one file, as a tree. Raises SourceError if it cannot be read."""
    try:
        wanted.root.stat()
        if is_dicomdir(wanted.root):
            return listed_in(wanted.root)
        only = None if wanted.only is None else frozenset(wanted.only)
        return LocalTree(wanted.root, wanted.allowed, only).directory()
    except FileNotFoundError as error:
        raise SourceError(
            f"There is no {wanted.root} where the workers look.", why="there is no such folder"
        ) from error
    except OSError as error:
        refuse_disk(error)
        raise SourceError(
            f"{wanted.root} cannot be read: {error.strerror}.", why="the folder cannot be read"
        ) from error


def nothing_in(root: str, skipped: Mapping[str, int]) -> str:
    """Why there is nothing to ingest."""
    if not skipped:
        return f"{root} is empty: there is no file in it."
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(skipped.items()))
    said = f"{root} has no pictures. Its files were skipped: {kinds}."
    packed = "archive" in skipped and not skipped.keys().isdisjoint(("parquet", "arrow"))
    return f"{said} Unpack the archive: data sets are not read in archives." if packed else said
