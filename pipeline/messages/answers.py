"""Images as answers show them, and the encoder that filled a collection."""

from typing import Any
from urllib.parse import quote

from pydantic import Field

from pipeline.messages.base import RESERVED, SEALED, Message, Payload
from pipeline.messages.closeness import Closeness


def quarantine_path(image_id: str, base: str) -> str:
    """The path of an image in quarantine; `base` is that of its collection."""
    return f"{base}/quarantine/{quote(image_id, safe='')}"


def preview_path(image_id: str, base: str) -> str:
    """Where the api serves the picture of an image; `base` is the path of its collection."""
    return f"{base}/images/{quote(image_id, safe='')}/preview"


def unsealed(payload: Payload) -> tuple[Payload, str | None]:
    """The payload as answers show it, and what is sealed in it, which the api opens or drops."""
    source = payload.get(RESERVED)
    if not isinstance(source, dict) or SEALED not in source:
        return payload, None
    shown = {name: value for name, value in source.items() if name != SEALED}
    rest = {name: value for name, value in payload.items() if name != RESERVED}
    return {**rest, **({RESERVED: shown} if shown else {})}, str(source[SEALED])


def _is_none(value: Any) -> bool:
    return value is None


class _Shown(Message):
    """An image in an answer. `preview_url` is the path under which the api serves its picture.

    `viewer` is the address of its study in the department's viewer, for whoever may see it. From
    worker to api it is what is sealed, which the api opens for them and drops for all others.
    """

    image_id: str
    point_id: str
    payload: Payload
    preview_url: str
    viewer: str | None = Field(None, exclude_if=_is_none)


class Hit(_Shown):
    """One neighbour.

    `score` is the cosine similarity, 1 for the same direction; with the strategy best_score it is
    Qdrant's own measure, between -1 and 1. `others` has the next best hits of its group, and
    `hash_distance` counts the bits of 256 that differ: both are set only if requested.

    With the strategy best_match, a hit stands for its group and `score` is the group's; `own_score`
    is then the cosine of this very image to the most similar one of the query.

    `closeness` is there where the collection was evaluated. `close` says whether it reaches the
    query's `min_closeness`; it is missing where that says nothing: on the searched image itself,
    its copies, and images of its group.
    """

    score: float
    own_score: float | None = Field(None, exclude_if=_is_none)
    others: tuple["Hit", ...] | None = Field(None, exclude_if=_is_none)
    hash_distance: int | None = Field(None, exclude_if=_is_none)
    closeness: Closeness | None = Field(None, exclude_if=_is_none)
    close: bool | None = Field(None, exclude_if=_is_none)


class StoredImage(_Shown):
    """`vector` has length 1, and is set only if requested."""

    vector: tuple[float, ...] | None = Field(None, exclude_if=_is_none)


class EncoderInfo(Message):
    """The encoder that filled a collection. Two are the same encoder if their identities are equal.

    `model` and `revision` say where it was loaded from. That may change: a folder is moved, or
    replaces a name on the hub.
    """

    model: str
    revision: str | None
    weights_sha256: str
    pooling: str
    preprocessing: str
    dimensions: int

    @property
    def identity(self) -> tuple[str, str, str, int]:
        """Everything that its vectors depend on."""
        return self.weights_sha256, self.pooling, self.preprocessing, self.dimensions
