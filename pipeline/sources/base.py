"""The base of all sources. A kind of source has a message that names it, and a reader of its rows.

A reader counts its rows and yields ranges of them. It decodes nothing, so a broken image affects
only its own row.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.base.blobs import Blobs
from pipeline.base.identity import as_identifier
from pipeline.dicom.describing import Policy
from pipeline.images.decoding import Unusable
from pipeline.messages import MAX_ID, Message, Payload, Rectangle
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.archives import Archives

BAD_METADATA = Unusable("its metadata are larger than 1 MB: leave out what is not needed")
BAD_ID = Unusable(f"its id is longer than {MAX_ID:,} characters, or it is . or ..")


class Source(Message):
    """Where images come from. A kind of source adds its own fields, and a `kind` with a default."""

    kind: str

    def check(self, allowed: AllowedSources) -> None:
        """Raises SourceNotAllowed. The api calls this before it accepts a job."""

    def grant(self, allowed: AllowedSources) -> str | None:
        """The folder that a job of this source may go on reading, if it was allowed now."""
        return None

    def stored(self, blobs: Blobs, job: str) -> "Source":
        """The source as the ledger keeps it: what can name a patient lies in the job's blobs."""
        return self

    def provenance(self) -> Payload:
        """The fields that each image's payload stores about its source."""
        return {"kind": self.kind}


@dataclass(frozen=True)
class Row:
    """One image as the source stores it; `data` is empty if there is nothing to decode.

    If `image_id` is None, the SHA-256 of the bytes becomes the id. `blob` names the bytes of an
    upload. `fault` says why the row must be rejected, whatever its image. `sha256` is the hash of
    an upload's original bytes, which may have been deleted. `name` is the file's own name, without
    its folders, if it has one. `frame` is the one of a DICOM file, counted from 0; `hold` says why
    it must wait in quarantine. `former` has the identifiers that its image has under older keys.
    `original` is the blob under which its file is kept, if it is. `masks` are rectangles to be
    blackened first, and `provenance` what an image that was released from quarantine keeps of its
    source.
    """

    number: int
    image_id: str | None
    data: bytes
    metadata: Payload
    blob: str | None = None
    fault: Unusable | None = None
    sha256: str | None = None
    name: str | None = None
    frame: int = 0
    hold: str | None = None
    former: tuple[Mapping[str, str], ...] = ()
    original: str | None = None
    masks: tuple[Rectangle, ...] = ()
    provenance: Payload | None = None


class Reader(Protocol):
    @property
    def version(self) -> str:
        """A text that changes whenever the rows, or their order, may have changed."""

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many files are no rows, by kind; empty for a source that is not made of files."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Iterator[Row]: ...


@dataclass(frozen=True)
class Opening:
    """The services that opening a source may need. `job` is the one that opens it.

    `dicom` says how DICOM files are described; `policy` gives it anew for each job, since the key
    of pseudonyms may have been rotated. `archives` says how to be let into archives.
    """

    blobs: Blobs
    allowed: AllowedSources
    job: str = ""
    dicom: Policy | None = None
    policy: Callable[[], Policy] | None = None
    archives: Archives = field(default_factory=Archives)


@dataclass(frozen=True)
class SourceKind:
    """One kind of source.

    `open` raises SourceError, with what to do, or SourceUnavailable. `plan` does as well: a job
    calls it once, to count its source, and `open` afterwards; without it, `open` does both. A kind
    that is not `public` is not accepted by `POST /v1/jobs`.
    """

    model: type[Source]
    open: Callable[[Any, Opening], Reader]
    public: bool = True
    plan: Callable[[Any, Opening], Reader] | None = None

    @property
    def name(self) -> str:
        return str(self.model.model_fields["kind"].default)


def own_id(candidates: Iterable[Any]) -> tuple[str | None, Unusable | None]:
    """The first candidate that is an id, or the reason to reject it. NaN and lists are not ids."""
    for own in candidates:
        usable = isinstance(own, str | int | float) and not isinstance(own, bool)
        if not usable or own == "" or own != own:  # NaN
            continue
        image_id: str = as_identifier(own)
        bad = len(image_id) > MAX_ID or image_id in (".", "..")
        return (None, BAD_ID) if bad else (image_id, None)
    return None, None
