"""Data sets: on the hub, as parquet files, or as folders and archives of pictures."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.base.blobs import Blobs, job_folder
from pipeline.base.errors import SourceError, SourceNotAllowed
from pipeline.base.identity import ID_COLUMNS
from pipeline.messages import Payload
from pipeline.sources.allowed import AllowedSources, is_folder
from pipeline.sources.base import Opening, Reader, Row, Source, SourceKind
from pipeline.sources.folder.catalogue import Catalogue
from pipeline.sources.folder.configs import folder_of_pictures
from pipeline.sources.folder.dicomdir import base_of
from pipeline.sources.folder.joined import read_joined
from pipeline.sources.folder.places import refuse_absent
from pipeline.sources.folder.reader import FolderReader, Pictures, directory, plan_folder
from pipeline.sources.folder.survey import Rules
from pipeline.sources.folder.tabular import beside_tables
from pipeline.sources.planned import read_plan, write_plan
from pipeline.sources.selection import Selection

if TYPE_CHECKING:
    from pipeline.sources.tabular.reader import TabularReader

OF_PICTURES = (
    "--include, --exclude, --label-from-folder and --table are about the files of a folder of "
    "pictures, and this is a data set: its rows are chosen by --split, --config and --limit."
)


MAX_ONLY = 1000  # files that one job may be asked for by name

PathInFolder = Annotated[str, Field(min_length=1, max_length=4096)]


class DatasetSource(Source):
    """A hub data set; or a folder of pictures or parquet, or an archive, that the workers see.

    `include` and `exclude` are patterns: with a slash, of paths in the folder, else of file names.
    """

    kind: Literal["dataset"] = "dataset"
    dataset: str = Field(min_length=1, max_length=1000, description="Hub name or folder")
    split: str | None = Field(
        None, min_length=1, max_length=200, description="Default: train, or the only one"
    )
    config: str | None = Field(
        None, min_length=1, max_length=200, description="Configuration, where there are several"
    )
    revision: str | None = Field(
        None, max_length=200, description="Commit, branch or tag on the hub"
    )
    limit: int | None = Field(None, ge=1, description="Only the first N rows")
    image_column: str | None = Field(None, description="Default: the first column of images")
    id_column: str | None = Field(
        None, description="Default: image_id or SOPInstanceUID, if present"
    )
    include: tuple[str, ...] = Field((), max_length=100, description="Only files that fit one")
    exclude: tuple[str, ...] = Field((), max_length=100, description="No files that fit one")
    table: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Of DICOM files: a table of the workers, joined by accession, patient or UID",
    )
    label_from_folder: bool = Field(False, description="A picture's folder is its label")
    only: tuple[PathInFolder, ...] | None = Field(
        None, max_length=MAX_ONLY, description="Only these pictures of a folder: paths in it"
    )

    def check(self, allowed: AllowedSources) -> None:
        allowed.check(self.dataset)
        if self.table is not None:
            allowed.real(self.table if is_folder(self.table) else "/")
        if self.only is not None and not is_folder(self.dataset):
            raise SourceNotAllowed("`only` has paths of files in a folder.")

    def stored(self, blobs: Blobs, job: str) -> "DatasetSource":
        """`only` goes to the blobs, since a file can be named after a patient; () is left."""
        if self.only is None:
            return self
        blobs.write(_only(job), json.dumps(self.only).encode())
        return self.model_copy(update={"only": ()})

    def grant(self, allowed: AllowedSources) -> str | None:
        return allowed.grant(self.dataset)

    def provenance(self) -> Payload:
        given = {"kind", "dataset", "config", "split", "revision"}
        # On the hub train is what an unnamed split means; a folder may have none at all.
        split = {} if is_folder(self.dataset) else {"split": "train"}
        return {**split, **self.model_dump(include=given, exclude_none=True)}


@dataclass(frozen=True)
class Beside:
    """The rows of a data set, and what lies beside its files."""

    reader: Reader
    skipped: Mapping[str, int]

    @property
    def version(self) -> str:
        return self.reader.version

    def __len__(self) -> int:
        return len(self.reader)

    def read(self, start: int, stop: int) -> Iterator[Row]:
        return self.reader.read(start, stop)


class Other(Beside):
    """Files of the same names, sizes and rows that are not those that were planned."""

    version = "changed"

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader, {})


def forget_only(blobs: Blobs, job: str) -> None:
    """The job has ended: the names of its files go. Safe to repeat."""
    blobs.delete(_only(job))


def _only(job: str) -> str:
    return f"{job_folder(job)}/only.json"


def _read_only(opening: Opening) -> tuple[str, ...]:
    try:
        return tuple(json.loads(opening.blobs.read(_only(opening.job))))
    except FileNotFoundError:  # the job has ended, and is retried
        raise SourceError(
            "The list of its files is gone. Start another job for them.",
            why="the list of its files is gone",
        ) from None


def _plan(source: DatasetSource, opening: Opening) -> Reader:
    source.check(opening.allowed)
    if not is_folder(source.dataset):
        return _plan_hub(source, opening)
    root = opening.allowed.real(source.dataset)
    if source.only is not None:
        refuse_absent(root)
        some = replace(_pictures(source, opening), only=_read_only(opening))
        return FolderReader(some, plan_folder(some, opening.blobs, opening.job))
    others = beside_tables(directory(Pictures(root, opening.allowed.folders)))
    if others is not None:
        beside = Catalogue.write(opening.blobs, opening.job, others, tabular=True)
        reader = _tabular(source, opening)
        write_plan(opening.blobs, opening.job, {"contents": reader.contents()})
        return Beside(reader, beside.skipped)
    wanted = _pictures(source, opening, plans=True)
    return FolderReader(wanted, plan_folder(wanted, opening.blobs, opening.job))


def _plan_hub(source: DatasetSource, opening: Opening) -> Reader:
    from pipeline.sources.hub import plan_hub

    reader, known = plan_hub(_selection(source), opening.allowed)
    Catalogue.write(opening.blobs, opening.job, (), tabular=True)
    if known is not None:
        write_plan(opening.blobs, opening.job, known)
    return reader


def _open(source: DatasetSource, opening: Opening) -> Reader:
    if not is_folder(source.dataset):
        return _open_hub(source, opening)
    catalogue = Catalogue.read(opening.blobs, opening.job)
    if catalogue is not None:  # the worker that counted it has it
        refuse_absent(opening.allowed.real(source.dataset))
    if catalogue is not None and not catalogue.tabular:
        return FolderReader(_pictures(source, opening), catalogue)
    reader = _tabular(source, opening)
    planned = read_plan(opening.blobs, opening.job).get("contents")
    return reader if planned in (None, reader.contents()) else Other(reader)


def _open_hub(source: DatasetSource, opening: Opening) -> Reader:
    from pipeline.sources.hub import open_hub, open_planned

    plan, selection = read_plan(opening.blobs, opening.job), _selection(source)
    if "places" in plan:
        return open_planned(selection, opening.allowed, plan)
    return open_hub(selection, opening.allowed)


def _pictures(source: DatasetSource, opening: Opening, *, plans: bool = False) -> Pictures:
    """`plans`: the job is planned; afterwards, its rows have what a table says."""
    allowed = opening.allowed
    ids = (source.id_column,) if source.id_column else ID_COLUMNS
    rules = Rules(
        source.include,
        source.exclude,
        source.label_from_folder,
        ids,
        source.split,
        partial=source.only is not None,
        dicom=opening.dicom,
        table=read_joined(allowed.real(source.table)) if source.table and plans else None,
    )
    root = allowed.real(source.dataset)
    if source.only is None:
        root = allowed.real(folder_of_pictures(root, source.config))
    allowed.real(base_of(root))
    named = rules.naming_each(explicit=root.is_file())
    return Pictures(root, allowed.folders, named, source.limit)


def _tabular(source: DatasetSource, opening: Opening) -> "TabularReader":
    """Imports Arrow with the first data set, as `_plan_hub` does the `datasets` library, which
    takes a second: a worker can search without them."""
    from pipeline.sources.tabular.opening import open_tabular

    return open_tabular(_selection(source), opening.allowed)


def _selection(source: DatasetSource) -> Selection:
    if source.include or source.exclude or source.label_from_folder or source.table:
        raise SourceError(OF_PICTURES, why="it is no folder of pictures")
    return Selection.of(source)


DATASET = SourceKind(DatasetSource, _open, plan=_plan)
