"""Images as answers show them, and the encoder that filled a collection."""

from typing import Any
from urllib.parse import quote

from pydantic import Field

from pipeline.messages.base import Message, Payload


def preview_path(image_id: str, base: str) -> str:
    """Where the api serves the picture of an image; `base` is the path of its collection."""
    return f"{base}/images/{quote(image_id, safe='')}/preview"


def _is_none(value: Any) -> bool:
    return value is None


class _Shown(Message):
    """An image in an answer. `preview_url` is the path of its picture, for the api's clients."""

    image_id: str
    point_id: str
    payload: Payload
    preview_url: str


class Hit(_Shown):
    """One neighbour.

    `score` is the cosine similarity, 1 for the same direction; under the strategy best_score it is
    Qdrant's own measure, between -1 and 1. `others` are the next best of its group, and
    `hash_distance` counts the differing bits of 64: both only where they were asked for.
    """

    score: float
    others: tuple["Hit", ...] | None = Field(None, exclude_if=_is_none)
    hash_distance: int | None = Field(None, exclude_if=_is_none)


class StoredImage(_Shown):
    """`vector` has length 1, and is there when it was asked for."""

    vector: tuple[float, ...] | None = Field(None, exclude_if=_is_none)


class EncoderInfo(Message):
    """What filled a collection. Two of these are the same encoder if their identities are equal.

    `model` and `revision` say where it was loaded from, which may change: a folder is moved, or
    takes the place of a name on the hub.
    """

    model: str
    revision: str | None
    weights_sha256: str
    pooling: str
    preprocessing: str
    dimensions: int

    @property
    def identity(self) -> tuple[str, str, str, int]:
        """All that its vectors depend on."""
        return self.weights_sha256, self.pooling, self.preprocessing, self.dimensions
