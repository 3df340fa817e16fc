"""The files of an upload, and the rows that a job rejected."""

from pydantic import Field, JsonValue

from pipeline.messages.base import Message


class UploadedFile(Message):
    """One file of an upload. Its name is not stored, since it can contain a patient's name."""

    blob: str
    sha256: str
    metadata: dict[str, JsonValue] = Field(default_factory=dict)


class UploadManifest(Message):
    files: tuple[UploadedFile, ...]


class Rejection(Message):
    """One rejected row. `reason` says what is wrong with its image, never what the image contains.

    `image_id` is `#` and the row's number if even reading the row's id ends workers.
    """

    image_id: str
    row: int
    reason: str
