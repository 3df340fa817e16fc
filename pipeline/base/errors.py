"""Everything that stops work on purpose.

KindredError
├── BadRequest            400  the call makes no sense as it stands
│   └── InvalidQuery      422  understood, but not possible: a filter, an id list, a text search
├── Unauthorized             401  no key, or one that is not taken
├── Forbidden             403  not with this key's role, or not from that address
├── NotFound               404  no such job, search, image or key
├── Conflict              409  not in this state
├── RateLimited          429  of this key, or by all together; waiting helps
├── SourceError           422  a data set, split or column that cannot be read
│   └── SourceNotAllowed       not among those that KINDRED_SOURCES names
├── EncoderError               the model cannot be used as it is
│   └── EncoderMismatch        the collection was filled by another encoder
├── StoreLocked                another worker owns the embedded folder
├── SchemaMismatch             Redis or the data folder was written by another version
├── TooLargeForDevice     422  one picture for which the device has no memory
└── Unavailable           503  a service is away; trying again can help
    ├── LedgerUnavailable      Redis
    ├── StoreUnavailable       Qdrant
    ├── BlobsUnavailable       the blobs' disk or bucket: gone, or full
    ├── KeysUnavailable        the file of keys is there and cannot be read
    ├── AuditUnavailable       the audit log cannot be written, so nothing may be done
    ├── SourceUnavailable      the disk that a source lies on, or is prepared on: full, or away
    └── DeviceFull             the GPU's memory, which something else holds

What is expected of single images (a rejected one, an unchanged one) is a value, not an exception.
Messages name ids, fields and files of the operator's, never a patient's metadata.
"""

from typing import ClassVar


class KindredError(Exception):
    """Base of all. `title` is constant; `str(error)` says what to do about this one."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    @property
    def slug(self) -> str:
        """The problem type, as in `/problems/invalid-query`."""
        name = type(self).__name__
        return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")


class BadRequest(KindredError):
    status = 400
    title = "Bad request"


class InvalidQuery(BadRequest):
    """`path` is the way to the fault inside the query, as in ("filter", "must", 0, "range")."""

    status = 422
    title = "Invalid query"

    def __init__(self, detail: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(detail)
        self.path = path


class Unauthorized(KindredError):
    status = 401
    title = "A key is needed"


class Forbidden(KindredError):
    status = 403
    title = "Not allowed"


class NotFound(KindredError):
    status = 404
    title = "Not found"


class Conflict(KindredError):
    status = 409
    title = "Not possible in this state"


class RateLimited(KindredError):
    """`retry_after` is in seconds."""

    status = 429
    title = "Too many calls"
    retryable = True

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class SourceError(KindredError):
    status = 422
    title = "The source cannot be read"


class SourceNotAllowed(SourceError):
    title = "The source is not allowed"


class EncoderError(KindredError):
    title = "The encoder cannot be used"


class EncoderMismatch(EncoderError):
    title = "The collection was filled by another encoder"


class StoreLocked(KindredError):
    title = "The embedded store is in use"


class SchemaMismatch(KindredError):
    title = "The data has another schema"


class TooLargeForDevice(KindredError):
    status = 422
    title = "The picture needs more memory than the device has"


class Unavailable(KindredError):
    status = 503
    title = "A service is away"
    retryable = True


class LedgerUnavailable(Unavailable):
    title = "Redis is away"


class StoreUnavailable(Unavailable):
    title = "Qdrant is away"


class BlobsUnavailable(Unavailable):
    title = "The blobs cannot be read or written"


class KeysUnavailable(Unavailable):
    title = "The keys cannot be read"


class AuditUnavailable(Unavailable):
    title = "The audit log cannot be written"


class SourceUnavailable(Unavailable):
    """Not the source's fault, so neither it nor a row of it is refused for this."""

    title = "The source cannot be read now: a disk, its own or that of DATA, is full or away"


class DeviceFull(Unavailable):
    title = "The device has no memory left"
