"""Data sets: on the hub, as parquet files, or as folders of images."""

from typing import Literal

from pydantic import Field

from pipeline.messages import Payload
from pipeline.sources.allowed import AllowedSources, is_folder
from pipeline.sources.base import Opening, Reader, Source, SourceKind


class DatasetSource(Source):
    """A hub data set, or a folder of parquet or of images that the workers can see."""

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

    def check(self, allowed: AllowedSources) -> None:
        allowed.check(self.dataset)

    def provenance(self) -> Payload:
        given = {"kind", "dataset", "config", "split", "revision"}
        # On the hub train is what an unnamed split means; a folder may have none at all.
        split = {} if is_folder(self.dataset) else {"split": "train"}
        return {**split, **self.model_dump(include=given, exclude_none=True)}


def _open(source: DatasetSource, opening: Opening) -> Reader:
    """Imports what it needs when the first data set is opened: the `datasets` library takes a
    second, and a worker can search without it."""
    from pipeline.sources.selection import Selection
    from pipeline.sources.tabular import holds_tables, open_tabular

    selection = Selection.of(source)
    opening.allowed.check(source.dataset)
    if is_folder(source.dataset) and holds_tables(source.dataset, opening.allowed):
        return open_tabular(selection, opening.allowed)
    from pipeline.sources.dataset_reader import DatasetReader

    return DatasetReader(selection, opening.copies, opening.allowed)


DATASET = SourceKind(DatasetSource, _open)
