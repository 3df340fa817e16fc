"""Files that were uploaded, and what became of rows that a job could not take."""

from pydantic import Field, JsonValue

from pipeline.messages.base import Message


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
