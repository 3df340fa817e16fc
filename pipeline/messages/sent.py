"""A DICOM file that was sent with a search, as its request describes it."""

from uuid import UUID

from pydantic import Field

from pipeline.messages.base import Message

# Frames that one search compares: as many as a file has images (`dicom.frames`).
MOST_FRAMES = 32


Known = tuple[str, tuple[str, ...]]


class SentFile(Message):
    """`blob` has what is needed of the file to render it, and nothing else.

    `frames` are those to compare, counted from 0. `sha256` is of the file as it was sent.
    `points` are those that its frames have if the file is indexed, and `known` is what images of
    its series have in common: of patient, study and series the keys under all secrets.
    """

    blob: str
    frames: tuple[int, ...] = Field((0,), min_length=1, max_length=MOST_FRAMES)
    sha256: str
    points: tuple[UUID, ...] = ()
    known: tuple[Known, ...] = ()

    def keys_of(self, name: str) -> tuple[str, ...]:
        """The keys that images of the file have in a field; none if that is not known."""
        return dict(self.known).get(name, ())
