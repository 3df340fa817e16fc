"""Explanation: which parts of two pictures look alike to the encoder, and so why one was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.base.blobs import preview_name
from pipeline.base.errors import InvalidQuery
from pipeline.base.identity import point_id
from pipeline.base.states import RequestState
from pipeline.dicom.pseudonyms import no_image
from pipeline.images.decoding import TOO_SMALL, Unusable
from pipeline.images.preparing import Order
from pipeline.messages import Crop, Message, Problem, SentFile
from pipeline.messages.base import ImageId
from pipeline.operations.base import Call, query
from pipeline.retrieval.matches import correspond

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pipeline.images.pixels import PixelSteps
    from pipeline.images.preparing import Prepared
    from pipeline.operations.context import Context
    from pipeline.retrieval.matches import Correspondences

MAX_MATCHES = 200

# A grid of more patches is fine enough without shifts, and all pairs of them take memory.
_COARSE = 256

# In quarters of a patch, down and to the right. Of a copy that lies off the grid, the brightest
# patch is in it in 23 of 24 pairs with these nine, in 21 with the four corners, in 14 with none.
_SHIFTS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1))

Box = tuple[float, float, float, float]


class Compared(Message):
    """An indexed image, or a picture sent along, where there is no `image_id`."""

    image_id: ImageId | None = None
    crop: Crop | None = Field(None, description="Only this part of the picture")
    frame: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Of a DICOM file sent along, counted from 1; without it, the middle one",
    )

    @model_validator(mode="after")
    def _own_frame(self) -> Compared:
        if self.frame is not None and self.image_id is not None:
            raise PydanticCustomError("frame", "an indexed image is one frame")
        return self


class ExplanationQuery(Message):
    """Two pictures to compare. Those without an `image_id` are sent along, in this order."""

    first: Compared
    second: Compared
    limit: int = Field(30, ge=1, le=MAX_MATCHES, description="How many matches to name")

    @property
    def sides(self) -> tuple[Compared, Compared]:
        return self.first, self.second

    @property
    def named(self) -> tuple[str, ...]:
        """The ids of the indexed images."""
        return tuple(each.image_id for each in self.sides if each.image_id is not None)

    def check_pictures(self, count: int) -> None:
        """Raises InvalidQuery unless so many pictures are to be sent along."""
        wanted = 2 - len(self.named)
        if count != wanted:
            raise InvalidQuery(f"Send {wanted} pictures along; here are {count}.", ("image",))


class ExplanationRequest(Message):
    """`images` has what was sent along: the blobs of pictures, and files of DICOM."""

    query: ExplanationQuery
    images: tuple[str | SentFile, ...] = Field((), max_length=2)

    @model_validator(mode="after")
    def _all_there(self) -> ExplanationRequest:
        self.query.check_pictures(len(self.images))
        return self


class Patch(Message):
    """A rectangle in fractions of the upright picture's width and height.

    It can reach beyond the picture, where the encoder's preprocessing adds a black border.
    """

    left: float
    top: float
    width: float
    height: float


class ComparedPicture(Message):
    """What the encoder saw of a picture: its patches, in `rows` and `columns`.

    `seen` is the part of the picture that they cover, evenly. `weights` and `counterparts` have one
    number for each patch, row by row: how much it contributes to the match, from 0 to 1, and which
    patch of the other picture is the most similar.
    """

    image_id: str | None = None
    seen: Patch
    rows: int
    columns: int
    weights: tuple[float, ...]
    counterparts: tuple[int, ...]


class PatchMatch(Message):
    """Two patches that look alike: `similarity` is a cosine of what remains of their tokens
    without what all of them share. `mutual`: each is the other's nearest."""

    first: Patch
    second: Patch
    similarity: float
    mutual: bool


class ExplanationAnswer(Message):
    """The current state of an explanation. The rest is set when it has succeeded.

    `matches` has the mutual ones first, and of these the most similar first.
    """

    id: str
    state: RequestState = "succeeded"
    error: Problem | None = None
    first: ComparedPicture | None = None
    second: ComparedPicture | None = None
    matches: tuple[PatchMatch, ...] | None = None


@dataclass(frozen=True)
class _Side:
    """A picture as the encoder sees it: uint8 (3, H, W), and which part of the picture that is."""

    image_id: str | None
    pixels: NDArray[np.uint8]
    seen: Box

    def patch(self, number: int, rows: int, columns: int) -> Patch:
        left, top, width, height = self.seen
        row, column = divmod(number, columns)
        wide, high = width / columns, height / rows
        return _patch((left + column * wide, top + row * high, wide, high))


def _explanation(context: Context, request: ExplanationRequest, call: Call) -> ExplanationAnswer:
    first, second = _sides(context, request)
    blank = _tokens(context, [_blank(first.pixels, second.pixels)])
    rows, columns, size = blank.shape[1:]
    shifts = _SHIFTS if rows * columns <= _COARSE else ((0, 0),)
    one, other = (
        _tokens(context, _shifted(each.pixels, rows, columns, shifts)) for each in (first, second)
    )
    several = (len(shifts), rows * columns, size)
    found = correspond(
        one.reshape(several), other.reshape(several), blank.reshape(-1, size), request.query.limit
    )
    shown = [_shown(each, n, rows, columns, found) for n, each in enumerate((first, second))]
    matches = tuple(
        PatchMatch(
            first=first.patch(n, rows, columns),
            second=second.patch(m, rows, columns),
            similarity=_rounded(found.similarity[n, m]),
            mutual=is_mutual,
        )
        for n, m, is_mutual in found.pairs
    )
    return ExplanationAnswer(id=call.id, first=shown[0], second=shown[1], matches=matches)


def _sides(context: Context, request: ExplanationRequest) -> list[_Side]:
    """Raises InvalidQuery, NotFound or Unavailable."""
    sent = iter(request.images)
    names = ("first", "second")
    files = [
        _indexed(context, each) if each.image_id is not None else _sent(context, next(sent))
        for each in request.query.sides
    ]
    orders = [
        _order(context, each, frame)
        for each, (_, frame) in zip(request.query.sides, files, strict=True)
    ]
    decoders = context.search.targets.decoders
    decoding = [
        decoders.submit(data, order, urgent=True)
        for (data, _), order in zip(files, orders, strict=True)
    ]
    return [
        _side(context.encoder.steps, each, made.result(), name)
        for each, made, name in zip(request.query.sides, decoding, names, strict=True)
    ]


def _indexed(context: Context, side: Compared) -> tuple[bytes, int]:
    """The preview of an image. Raises NotFound, of one in quarantine as well."""
    assert side.image_id is not None  # noqa: S101 - see _sides
    point = point_id(context.fields.originals.stored_id(side.image_id))
    if point not in context.store.retrieve([point]):
        raise no_image(side.image_id)
    try:
        return context.blobs.read(preview_name(point)), 0
    except FileNotFoundError:
        raise no_image(side.image_id) from None


def _sent(context: Context, sent: str | SentFile) -> tuple[bytes, int]:
    """What was sent along, and its frame. Raises QueryGone."""
    blob, frame = (sent, 0) if isinstance(sent, str) else (sent.blob, sent.frames[0])
    return context.search.targets.file(blob), frame


def _order(context: Context, side: Compared, frame: int) -> Order:
    crop = side.crop
    part = None if crop is None else (crop.left, crop.top, crop.width, crop.height)
    return Order(context.encoder.steps, crop=part, frame=frame)


def _side(steps: PixelSteps, side: Compared, made: Prepared | Unusable, name: str) -> _Side:
    if isinstance(made, Unusable):
        part = "crop" if made == TOO_SMALL else "image"
        raise InvalidQuery(made.reason, (part,) if side.image_id is None else (name, part))
    left, top, width, height = steps.seen(made.width, made.height)
    crop = side.crop or Crop(left=0, top=0, width=1, height=1)
    seen = (
        crop.left + left * crop.width,
        crop.top + top * crop.height,
        width * crop.width,
        height * crop.height,
    )
    return _Side(side.image_id, np.asarray(made.pixels), seen)


def _tokens(context: Context, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """float32 (pictures, rows, columns, d)."""
    tokens = context.encoder.patches(np.stack(pictures))
    if not np.isfinite(tokens).all():  # the encoder's fault: no InvalidQuery
        raise FloatingPointError("a token holds NaN or infinity")
    return tokens


def _shifted(
    pixels: NDArray[np.uint8], rows: int, columns: int, shifts: Sequence[tuple[int, int]]
) -> list[NDArray[np.uint8]]:
    """The picture, moved by quarters of a patch; at its edges the last pixels are repeated."""
    height, width = pixels.shape[1:]
    high, wide = height // rows // 4, width // columns // 4
    framed = np.pad(pixels, ((0, 0), (high, high), (wide, wide)), mode="edge")
    starts = [(high + down * high, wide + right * wide) for down, right in shifts]
    return [framed[:, top : top + height, left : left + width] for top, left in starts]


def _blank(*pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture of one colour, the mean of all, uint8 (3, H, W)."""
    colour = np.mean(pictures, axis=(0, 2, 3)).round().astype(np.uint8)
    return np.broadcast_to(colour[:, None, None], pictures[0].shape)


def _shown(
    side: _Side, number: int, rows: int, columns: int, found: Correspondences
) -> ComparedPicture:
    return ComparedPicture(
        image_id=side.image_id,
        seen=_patch(side.seen),
        rows=rows,
        columns=columns,
        weights=tuple(map(_rounded, found.weights[number])),
        counterparts=tuple(found.nearest[number].tolist()),
    )


def _patch(box: Box) -> Patch:
    left, top, width, height = (round(value, 6) for value in box)
    return Patch(left=left, top=top, width=width, height=height)


def _rounded(value: float) -> float:
    return round(float(value), 4)


EXPLANATION = query(
    "explanation", ExplanationRequest, ExplanationAnswer, _explanation, pictures=True
)
