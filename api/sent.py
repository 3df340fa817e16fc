"""Files sent with a search: checked at the door, and of DICOM nothing goes in but what renders."""

import io
from collections.abc import Iterator, Sequence
from typing import TypeVar
from uuid import UUID

from fastapi import Request

from api.forms import files_of, read_form, text_of
from api.queries import parse
from api.services import Collection
from pipeline.base.blobs import pictures_folder
from pipeline.base.errors import BadRequest, InvalidQuery
from pipeline.base.identity import point_id, sha256
from pipeline.dicom.describing import Described, Policy, describe
from pipeline.dicom.errors import NO_FRAME, NO_PIXELS, Refused
from pipeline.dicom.frames import FramePolicy, evenly
from pipeline.dicom.reading import frames_in, read_header
from pipeline.dicom.stripping import stripped
from pipeline.images.decoding import Unusable, inspect, is_dicom
from pipeline.messages import Message, SentFile
from pipeline.messages.sent import MOST_FRAMES

# What images of a series have in common.
_KNOWN = ("patient_id", "study_id", "series_id", "accession_id")


Query = TypeVar("Query", bound=Message)


async def read_query_and_files(
    request: Request, model: type[Query], most: int
) -> tuple[Query, list[bytes]]:
    """A form with `query`, as JSON, and up to `most` files in `image`. Raises BadRequest."""
    async with read_form(request, files=most, fields=1) as form:
        if set(form) - {"image", "query"}:
            raise BadRequest("The form may have only the fields image and query.")
        query = parse(model, text_of(form, "query") or "{}", ("query",))
        return query, [await image.read() for image in files_of(form, "image")]


def store_pictures(
    collection: Collection,
    request: str,
    files: Sequence[bytes],
    *,
    frame: int | None = None,
    whole: bool = False,
    start: int = 0,
) -> list[str | SentFile]:
    """Stores them, once all are checked; returns what the request says of each.

    `start` of the request's pictures are stored already. `frame` is counted from 1; `whole`: all
    frames of a DICOM file, up to `MOST_FRAMES` of all files. It reads headers only: a broken
    picture must not make the api decode it. Raises InvalidQuery.
    """
    checked = [_checked(collection, data, frame, whole=whole) for data in files]
    names = [f"{pictures_folder(request)}/{start + n}" for n in range(len(files))]
    sent = [
        each.model_copy(update={"blob": name}) if each is not None else name
        for name, (_, each) in zip(names, checked, strict=True)
    ]
    for name, (data, _) in zip(names, checked, strict=True):
        collection.blobs.write(name, data)
    return _bounded(sent)


def _checked(
    collection: Collection, data: bytes, frame: int | None, *, whole: bool
) -> tuple[bytes, SentFile | None]:
    """What is stored of a file, and what is known of it if it is DICOM."""
    found = inspect(data, collection.services.settings.max_pixels)
    if isinstance(found, Unusable):
        raise InvalidQuery(found.reason, ("image",))
    if is_dicom(data):
        return read_dicom(data, collection.dicom, frame, whole=whole)
    if frame not in (None, 1):
        raise InvalidQuery("This file has one picture.", ("frame",))
    return data, None


def frames_of(data: bytes) -> int:
    """How many frames a file has; 1 if it is no DICOM, or cannot be read."""
    if not is_dicom(data):
        return 1
    try:
        return frames_in(read_header(io.BytesIO(data)))
    except Refused:
        return 1


def read_dicom(
    data: bytes, policy: Policy, frame: int | None, *, whole: bool = False
) -> tuple[bytes, SentFile]:
    """What renders of a DICOM file, and what is known of it. Raises InvalidQuery."""
    try:
        header = read_header(io.BytesIO(data))
        described = describe(header, policy)
        if described.skip is not None or not described.of:
            raise Refused(NO_PIXELS)
        frames = tuple(_frames(described, frame, whole=whole))
        kept = stripped(data)
    except Refused as refused:
        path = "frame" if refused.reason == NO_FRAME else "image"
        raise InvalidQuery(refused.reason, (path,)) from None
    said = (described.metadata, *described.former)
    known = tuple((name, tuple(each[name] for each in said)) for name in _KNOWN if name in said[0])
    points = tuple(point for n in frames for point in _points(described, n))
    return kept, SentFile(blob="", frames=frames, sha256=sha256(data), points=points, known=known)


def _frames(described: Described, frame: int | None, *, whole: bool) -> Sequence[int]:
    """Counted from 0. A single one is the middle one: the first of a stack shows its edge."""
    if whole:
        return [described.frames[n] for n in evenly(len(described.frames), MOST_FRAMES)]
    if frame is None:
        return FramePolicy("middle").of(described.of)
    if frame > described.of:
        raise Refused(NO_FRAME)
    return [frame - 1]


def _points(described: Described, frame: int) -> Iterator[UUID]:
    """Of a frame, under each secret."""
    yield point_id(described.id_of(frame))
    yield from (point_id(each["image_id"]) for each in described.former_of(frame))


def _bounded(sent: list[str | SentFile]) -> list[str | SentFile]:
    """Of all frames of all files at most MOST_FRAMES, evenly."""
    frames = [(n, f) for n, each in enumerate(sent) for f in _frames_of(each)]
    kept: dict[int, list[int]] = {}
    for number in evenly(len(frames), MOST_FRAMES):
        file, frame = frames[number]
        kept.setdefault(file, []).append(frame)
    return [_with(sent[file], chosen) for file, chosen in kept.items()]


def _frames_of(sent: str | SentFile) -> tuple[int, ...]:
    return sent.frames if isinstance(sent, SentFile) else (0,)


def _with(sent: str | SentFile, frames: Sequence[int]) -> str | SentFile:
    return sent.model_copy(update={"frames": tuple(frames)}) if isinstance(sent, SentFile) else sent
