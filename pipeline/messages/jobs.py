"""The files of an upload, and the rows that a job rejected."""

from pydantic import Field, JsonValue

from pipeline.messages.base import Message


class SkippedFile(Message):
    """A file that is no row of its job, and the kind of thing that it is."""

    name: str
    kind: str


class UploadedFile(Message):
    """One file of an upload. `name` is its path there; it is not stored if KINDRED_KEEP_NAMES is 0.

    A file with a `fault` was not sent, or is not worth storing: it has no `blob`. A row of a data
    set has a `place` there, and a name only if its picture was a file's. `frame` and `hold` are of
    DICOM; the frames of one file share its blob, which goes when the job has ended. `number` is
    the place of its file among those of the request.
    """

    blob: str | None = None
    sha256: str | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    name: str | None = None
    place: str | None = None
    fault: str | None = None
    frame: int | None = None
    hold: str | None = None
    former: tuple[dict[str, str], ...] = ()
    original: str | None = None
    number: int | None = None


class UploadManifest(Message):
    files: tuple[UploadedFile, ...]
    skipped: tuple[SkippedFile, ...] = ()


class IngestOptions(Message):
    """How an ingest treats its rows. `upload` names the upload that this job is a part of.

    `replace_metadata`: what a row does not mention is removed from its image. `dry_run`: outcomes
    are those that a real run would have, and nothing is stored.
    """

    replace_metadata: bool = False
    dry_run: bool = False
    upload: str | None = None


class Rejection(Message):
    """One rejected row. `reason` says what is wrong with its image, never what the image contains.

    `image_id` is `#` and the row's number if the row was not read.
    """

    image_id: str
    row: int
    reason: str
