"""What every kind of source gives: rows, as bytes with metadata.

A reader counts its rows and hands out runs of them. It decodes nothing, so a broken image is only
one row's fault.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.base.identity import as_identifier
from pipeline.images.decoding import Unusable
from pipeline.messages import MAX_ID, Payload

BAD_ID = Unusable(f"its id is longer than {MAX_ID:,} characters, or it is . or ..")


@dataclass(frozen=True)
class Row:
    """One image as it came; no bytes where there is nothing to decode.

    `key` is None where the SHA-256 of the bytes is to serve as key; `blob` is where an upload lies;
    `fault` is why the row cannot be taken, whatever the image is like; `sha256` is of an upload's
    bytes, as they came: they may be gone.
    """

    number: int
    key: str | None
    data: bytes
    metadata: Payload
    blob: str | None = None
    fault: Unusable | None = None
    sha256: str | None = None


class Reader(Protocol):
    @property
    def version(self) -> str:
        """Another one where the rows, or their order, may be others."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Iterator[Row]: ...


def own_id(candidates: Iterable[Any]) -> tuple[str | None, Unusable | None]:
    """The first that is an id, or what is wrong with it. NaN, lists and the like are none."""
    for own in candidates:
        usable = isinstance(own, str | int | float) and not isinstance(own, bool)
        if not usable or own == "" or own != own:  # NaN
            continue
        key = str(as_identifier(own))
        return (None, BAD_ID) if len(key) > MAX_ID or key in (".", "..") else (key, None)
    return None, None
