"""Images that an admin releases from quarantine: the pictures there, with what is known of them.

quarantine/{name[:2]}/{name}/picture.png     the whole picture
                             preview.jpg     a small one
                             image.json      what is known; it is written last
"""

from collections.abc import Iterator
from typing import Literal

from pipeline.base.blobs import Blobs, withheld_folder
from pipeline.messages import Message, Rectangle, WithheldImage
from pipeline.messages.base import read
from pipeline.sources.base import Opening, Row, Source, SourceKind

PICTURE, PREVIEW, KNOWN = "picture.png", "preview.jpg", "image.json"


class ReleasedImage(Message):
    """`name` is that in quarantine. The image is what an admin has seen: `sha256` is its file's."""

    name: str
    image_id: str
    sha256: str


class QuarantineSource(Source):
    """`masks` are made black in each of the pictures, before anything else is made of them."""

    kind: Literal["quarantine"] = "quarantine"
    images: tuple[ReleasedImage, ...]
    masks: tuple[Rectangle, ...] = ()


class QuarantineReader:
    """An image that has left quarantine meanwhile, because it is indexed, is a row without bytes:
    it is recognised by its hash."""

    version = ""  # each name has one picture
    skipped: dict[str, int] = {}  # noqa: RUF012 - nobody changes it

    def __init__(self, source: QuarantineSource, blobs: Blobs) -> None:
        self._source, self._blobs = source, blobs

    def __len__(self) -> int:
        return len(self._source.images)

    def read(self, start: int, stop: int) -> Iterator[Row]:
        for number in range(start, stop):
            yield self._row(number, self._source.images[number])

    def _row(self, number: int, image: ReleasedImage) -> Row:
        known = read_withheld(self._blobs, image.name)
        if known is None:
            return Row(number, image.image_id, b"", {}, sha256=image.sha256)
        return Row(
            number,
            image.image_id,
            picture_of(self._blobs, image.name),
            dict(known.metadata),
            sha256=image.sha256,
            masks=self._source.masks,
            provenance={
                **known.source,
                **({"pixels": known.pixels} if known.pixels else {}),
                "released": known.reason,
                **({"masked": len(self._source.masks)} if self._source.masks else {}),
            },
        )


def read_withheld(blobs: Blobs, name: str) -> WithheldImage | None:
    """None if it is not there, or not whole."""
    try:
        return read(WithheldImage, blobs.read(f"{withheld_folder(name)}/{KNOWN}"))
    except FileNotFoundError:
        return None


def picture_of(blobs: Blobs, name: str) -> bytes:
    """A PNG; empty if it is gone."""
    try:
        return blobs.read(f"{withheld_folder(name)}/{PICTURE}")
    except FileNotFoundError:
        return b""


def _open(source: QuarantineSource, opening: Opening) -> QuarantineReader:
    return QuarantineReader(source, opening.blobs)


QUARANTINE = SourceKind(QuarantineSource, _open, public=False)
