"""Defines what every kind of source yields: rows, as bytes with metadata.

A reader counts its rows and yields ranges of them. It decodes nothing, so a broken image affects
only its own row.
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
    """One image as the source stores it; `data` is empty if there is nothing to decode.

    If `key` is None, the SHA-256 of the bytes becomes the key. `blob` names the bytes of an upload.
    `fault` says why the row must be rejected, whatever its image. `sha256` is the hash of an
    upload's original bytes, which may be gone.
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
        """A text that changes whenever the rows, or their order, may have changed."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Iterator[Row]: ...


def own_id(candidates: Iterable[Any]) -> tuple[str | None, Unusable | None]:
    """The first candidate that is an id, or what is wrong with it. NaN and lists are no ids."""
    for own in candidates:
        usable = isinstance(own, str | int | float) and not isinstance(own, bool)
        if not usable or own == "" or own != own:  # NaN
            continue
        key = str(as_identifier(own))
        return (None, BAD_ID) if len(key) > MAX_ID or key in (".", "..") else (key, None)
    return None, None
