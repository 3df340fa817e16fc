"""Rendering: a frame of a file that a person has, as a picture that a browser shows."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.base.errors import InvalidQuery
from pipeline.images.decoding import Unusable
from pipeline.images.preparing import Order
from pipeline.messages import Message, SentFile
from pipeline.operations.base import Call, query

if TYPE_CHECKING:
    from pipeline.operations.context import Context

LONGEST = 2048  # pixels of a side that a screen shows


class Shown(Message):
    """How to show it: `window` is centre and width, in the file's own units."""

    frame: int | None = Field(None, ge=1, le=1_000_000, description="Counted from 1; else middle")
    centre: float | None = Field(None, ge=-1e9, le=1e9, allow_inf_nan=False)
    width: float | None = Field(None, gt=0, le=1e9, allow_inf_nan=False)
    longest: int = Field(1024, ge=16, le=LONGEST, description="Longest side, in pixels")

    @property
    def window(self) -> tuple[float, float] | None:
        return None if self.centre is None or self.width is None else (self.centre, self.width)


class RenderingRequest(Message):
    """`image` is the blob of a picture, or a file of DICOM with one frame."""

    image: str | SentFile
    shown: Shown


class RenderingAnswer(Message):
    """`jpeg` is in base64. `window` is what was applied, or what does nearly the same."""

    jpeg: str
    rule: str
    window: tuple[float, float] | None


def _rendering(context: Context, request: RenderingRequest, _: Call) -> RenderingAnswer:
    sent = request.image
    blob, frame = (sent, 0) if isinstance(sent, str) else (sent.blob, sent.frames[0])
    steps, shown = context.encoder.steps, request.shown
    order = Order(steps, preview=shown.longest, frame=frame, window=shown.window)
    data = context.search.targets.file(blob)
    made = context.search.targets.decoders.submit(data, order, urgent=True).result()
    if isinstance(made, Unusable):
        raise InvalidQuery(made.reason, ("image",))
    return RenderingAnswer(
        jpeg=b64encode(made.preview).decode(), rule=made.rule, window=made.window
    )


RENDERING = query("rendering", RenderingRequest, RenderingAnswer, _rendering, pictures=True)
