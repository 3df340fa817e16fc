"""The errors that stop work on purpose.

KindredError
├── ConfigurationError         a setting is wrong; nothing starts
├── BadRequest            400  the call makes no sense
│   ├── InvalidQuery      422  understood but impossible: a filter, an id list, a text search
│   ├── NotAcceptable     406  the answer has no such media type
│   └── UnsupportedMedia  415  the body is compressed, or of another media type
├── Unauthorized          401  no key, or an invalid one
├── Forbidden             403  this key's role does not allow it, or that address does not
├── NotFound              404  no such job, search, image or key
│   └── QueryGone              the ledger names a search whose query the blobs do not have
├── Conflict              409  impossible in this state
├── RateLimited           429  too many calls, by this key or by all together; waiting helps
├── SourceError           422  a data set, split or column cannot be read
│   └── SourceNotAllowed       KINDRED_SOURCES does not name the source
├── EncoderError               the model cannot be used
│   ├── EncoderMismatch        another encoder filled the collection
│   └── DeviceMissing          CUDA does not see the card; it can come back
├── StoreLocked                another worker owns the embedded folder
├── SchemaMismatch             another version wrote Redis or the data folder
├── TooLargeForDevice     422  the device lacks memory for a single image
└── Unavailable           503  a service is unavailable; trying again can help
    ├── LedgerUnavailable      Redis
    │   └── LedgerMisconfigured  its login, its certificate or its eviction is wrong: nothing starts
    ├── StoreUnavailable       Qdrant: its server, or the disk of the embedded engine
    ├── BlobsUnavailable       the disk or bucket of the blobs is gone or full
    │   └── BlobsMisconfigured  the bucket, its endpoint or its key is wrong: no worker starts
    ├── KeysUnavailable        the file of keys exists but cannot be read
    ├── AuditUnavailable       the audit log cannot be written, so no call may proceed
    ├── IncomingFull           the disk is nearly full, or too many objects wait to be indexed
    ├── DecodersUnavailable    no process that decodes can be started
    ├── SourceUnavailable      the disk of a source, or of its prepared copy, is full or gone
    │   ├── ArchiveAway         an archive does not answer, or is overloaded
    │   ├── ArchiveClosed       it is outside of the hours in which a job may ask an archive
    │   ├── SourceElsewhere     this host has no such folder, or does not reach the hub
    │   └── SourceChanged       these are not the files that were counted: the job is planned again
    └── DeviceFull             something else uses up the GPU's memory

Expected outcomes of single images (rejected, unchanged) are values, not exceptions.
Messages name ids, fields and the operator's files, never a patient's metadata.
"""

from collections.abc import Sequence
from typing import ClassVar


class KindredError(Exception):
    """The base of all errors. `title` is constant; `str(error)` says what to do about this one."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    @property
    def logged(self) -> str:
        """What a log may say of it, in one line."""
        return " ".join(f"{self.title}: {self}".split())

    @property
    def slug(self) -> str:
        """The problem type, such as `invalid-query`."""
        name = type(self).__name__
        return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")


class ConfigurationError(KindredError):
    """`problems` are lines that begin with the variable's name, and never hold its value."""

    title = "A setting is wrong"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class BadRequest(KindredError):
    status = 400
    title = "Bad request"


class InvalidQuery(BadRequest):
    """`path` leads to the fault inside the query, as in ("filter", "must", 0, "range")."""

    status = 422
    title = "Invalid query"

    def __init__(self, detail: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(detail)
        self.path = path


class UnsupportedMedia(BadRequest):
    status = 415
    title = "Unsupported media type"


class NotAcceptable(BadRequest):
    status = 406
    title = "Not acceptable"


class Unauthorized(KindredError):
    status = 401
    title = "An API key is required"


class Forbidden(KindredError):
    status = 403
    title = "Not allowed"


class NotFound(KindredError):
    status = 404
    title = "Not found"


class QueryGone(NotFound):
    """As after a restore: a backup has the ledger, and no queries."""


class Conflict(KindredError):
    status = 409
    title = "Impossible in this state"


class RateLimited(KindredError):
    """`retry_after` is in seconds."""

    status = 429
    title = "Too many calls"
    retryable = True

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class SourceError(KindredError):
    """Its sentence can name files and folders, which can be called after patients.

    So a log has only the title, and `why` if there is one: words of ours.
    """

    status = 422
    title = "The source cannot be read"

    def __init__(self, sentence: str, *, why: str = "") -> None:
        super().__init__(sentence)
        self.why = why

    @property
    def logged(self) -> str:
        return f"{self.title}: {self.why}" if self.why else self.title


class SourceNotAllowed(SourceError):
    title = "The source is not allowed"


class EncoderError(KindredError):
    title = "The encoder cannot be used"


class DeviceMissing(EncoderError):
    """A card can come back: with its driver, or after a reset."""

    title = "The device is missing"
    retryable = True


class EncoderMismatch(EncoderError):
    title = "Another encoder filled the collection"


class StoreLocked(KindredError):
    title = "The embedded store is in use"


class SchemaMismatch(KindredError):
    title = "The data has another schema"


class TooLargeForDevice(KindredError):
    status = 422
    title = "The image needs more memory than the device has"


class Unavailable(KindredError):
    status = 503
    title = "A service is unavailable"
    retryable = True


class LedgerUnavailable(Unavailable):
    title = "Redis is unavailable"


class LedgerMisconfigured(LedgerUnavailable):
    """At the start it ends the process. Work and calls that meet it wait, as for Redis itself."""

    title = "Redis cannot be used as it is set up"
    retryable = False


class StoreUnavailable(Unavailable):
    title = "The vector store is unavailable"


class BlobsUnavailable(Unavailable):
    title = "The blobs cannot be read or written"


class BlobsMisconfigured(BlobsUnavailable):
    """At the start it ends the process. Work that meets it waits, since its images are healthy."""

    title = "The settings of the blobs are wrong"
    retryable = False


class KeysUnavailable(Unavailable):
    title = "The keys cannot be read"


class AuditUnavailable(Unavailable):
    title = "The audit log cannot be written"


class IncomingFull(Unavailable):
    title = "Nothing can be received now"


class SourceUnavailable(Unavailable):
    """This is not the source's fault: neither the source nor any of its rows is rejected."""

    title = "The source cannot be read now: its disk, or the disk of DATA, is full or unavailable"


class SourceElsewhere(SourceUnavailable):
    """Other workers may have it. Its title becomes the notice of a job that waits."""

    title = "A worker's host does not have this source, or cannot reach it: another may"


class ArchiveAway(SourceUnavailable):
    title = "The archive cannot be reached, or answers nobody for now"


class ArchiveClosed(SourceUnavailable):
    title = "The archive may be asked within the hours of the job alone"


class SourceChanged(SourceUnavailable):
    title = "The source has changed since it was counted"


class DecodersUnavailable(Unavailable):
    title = "No image can be decoded now"


class DeviceFull(Unavailable):
    title = "The device has no memory left"
