"""What a job ingests, and what became of rows that it could not take."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from pipeline.messages.base import Message

INGEST_TASK = "kindred.ingest"  # on the queue and in Flower; it takes ids and nothing else


class DatasetSource(Message):
    """A hub data set, or a folder of parquet or of images that the workers can see."""

    kind: Literal["dataset"] = "dataset"
    dataset: str = Field(min_length=1, max_length=1000, description="Hub name or folder")
    split: str = Field("train", min_length=1, max_length=200)
    revision: str | None = Field(
        None, max_length=200, description="Commit, branch or tag on the hub"
    )
    limit: int | None = Field(None, ge=1, description="Only the first so many rows")
    image_column: str | None = Field(None, description="Default: the first column of images")
    id_column: str | None = Field(None, description="Default: image_id or SOPInstanceUID, if there")


class UploadSource(Message):
    """Files that came through the api; `manifest` is the blob that lists them."""

    kind: Literal["upload"] = "upload"
    manifest: str


Source = Annotated[DatasetSource | UploadSource, Field(discriminator="kind")]


class UploadedFile(Message):
    """One line of an upload's manifest. The file's name is not kept: names can hold patients'."""

    blob: str
    sha256: str
    metadata: dict[str, JsonValue] = Field(default_factory=dict)


class UploadManifest(Message):
    files: tuple[UploadedFile, ...]


class Rejection(Message):
    """One image that was not taken. `reason` says what is wrong with it, never what is in it."""

    key: str
    row: int
    reason: str
