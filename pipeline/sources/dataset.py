"""Data sets: on the hub, as parquet files, or as folders of images."""

from typing import Literal

from pydantic import Field

from pipeline.messages import Payload
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.base import Opening, Reader, Source, SourceKind


class DatasetSource(Source):
    """A hub data set, or a folder of parquet or of images that the workers can see."""

    kind: Literal["dataset"] = "dataset"
    dataset: str = Field(min_length=1, max_length=1000, description="Hub name or folder")
    split: str = Field("train", min_length=1, max_length=200)
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
        return self.model_dump(include={"kind", "dataset", "split", "revision"}, exclude_none=True)


def _open(source: DatasetSource, opening: Opening) -> Reader:
    """Imports the library when the first data set is opened: that takes a second, and a worker can
    search without it."""
    from pipeline.sources.dataset_reader import DatasetReader, Selection

    selection = Selection(**source.model_dump(exclude={"kind"}))
    return DatasetReader(selection, opening.copies, opening.allowed)


DATASET = SourceKind(DatasetSource, _open)
