"""Data sets: on the hub, as parquet files, or as folders and archives of pictures."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.base.errors import SourceError
from pipeline.base.identity import ID_COLUMNS
from pipeline.messages import Payload
from pipeline.sources.allowed import AllowedSources, is_folder
from pipeline.sources.base import Opening, Reader, Source, SourceKind
from pipeline.sources.folder.catalogue import Catalogue
from pipeline.sources.folder.reader import FolderReader, Pictures, directory, plan_folder
from pipeline.sources.folder.survey import Rules
from pipeline.sources.folder.tabular import tabular_files
from pipeline.sources.selection import Selection


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
    label_from_folder: bool = Field(False, description="A picture's folder is its label")

    def check(self, allowed: AllowedSources) -> None:
        allowed.check(self.dataset)

    def provenance(self) -> Payload:
        given = {"kind", "dataset", "config", "split", "revision"}
        # On the hub train is what an unnamed split means; a folder may have none at all.
        split = {} if is_folder(self.dataset) else {"split": "train"}
        return {**split, **self.model_dump(include=given, exclude_none=True)}


def _plan(source: DatasetSource, opening: Opening) -> Reader:
    opening.allowed.check(source.dataset)
    if not is_folder(source.dataset):
        return _tabular(source, opening)
    if not opening.allowed.real(source.dataset).exists():
        raise SourceError(f"The workers see no folder or file {source.dataset}.")
    root = _root(source, opening.allowed)
    wanted = _pictures(source, root, opening.allowed)
    if tabular_files(directory(wanted)):
        return _tabular(source, opening)
    return FolderReader(wanted, plan_folder(wanted, opening.blobs, opening.job))


def _open(source: DatasetSource, opening: Opening) -> Reader:
    catalogue = Catalogue.read(opening.blobs, opening.job) if is_folder(source.dataset) else None
    if catalogue is None:
        return _tabular(source, opening)
    root = _root(source, opening.allowed)
    return FolderReader(_pictures(source, root, opening.allowed), catalogue)


def _root(source: DatasetSource, allowed: AllowedSources) -> Path:
    """The file or folder that is meant: that of a configuration, where a README.md has several."""
    from pipeline.sources.tabular.card import config_folder

    root = allowed.real(source.dataset)
    return allowed.real(config_folder(root, source.config))


def _pictures(source: DatasetSource, root: Path, allowed: AllowedSources) -> Pictures:
    ids = (source.id_column,) if source.id_column else ID_COLUMNS
    rules = Rules(source.include, source.exclude, source.label_from_folder, ids)
    return Pictures(root, allowed.folders, rules, source.limit)


def _tabular(source: DatasetSource, opening: Opening) -> Reader:
    """Imports what it needs when the first data set is opened: the `datasets` library takes a
    second, and a worker can search without it."""
    selection = Selection.of(source)
    if is_folder(source.dataset):
        from pipeline.sources.tabular.opening import open_tabular

        return open_tabular(selection, opening.allowed)
    from pipeline.sources.hub import open_hub

    return open_hub(selection, opening.allowed)


DATASET = SourceKind(DatasetSource, _open, plan=_plan)
