"""What is known of an image in quarantine. It lies in the blobs, since it can name a patient."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, JsonValue

from pipeline.messages.base import Message

MOST_RECTANGLES = 200

Pixels = Annotated[int, Field(ge=0, le=1_000_000)]


class Rectangle(Message):
    """In pixels of the whole picture, from its upper left corner."""

    left: Pixels
    top: Pixels
    width: Annotated[Pixels, Field(ge=1)]
    height: Annotated[Pixels, Field(ge=1)]


class WithheldImage(Message):
    """`sha256` is that of the original, as the image will have it, and `source` where it came from.

    `rectangles` are where text is known or was found. `pixels` says how values became shades.
    """

    image_id: str
    sha256: str
    reason: str
    job: str
    time: datetime
    metadata: dict[str, JsonValue]
    source: dict[str, JsonValue]
    width: int
    height: int
    pixels: str = ""
    rectangles: tuple[Rectangle, ...] = ()
