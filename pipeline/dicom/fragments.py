"""Which bytes of encapsulated pixel data are a frame's (PS3.5 A.4)."""

import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.dicom.errors import BROKEN, NO_FRAME, Refused

_ITEM, _END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
# How streams begin: JPEG and JPEG-LS, JPEG 2000, and JPEG 2000 in its own file format.
STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")


@dataclass(frozen=True)
class Fragment:
    """`at` is where its item begins, `start` its value; `whole`: all of it is there."""

    at: int
    start: int
    end: int
    whole: bool


def frame_of(
    data: memoryview, index: int, frames: int, table: Sequence[int] = ()
) -> bytes | bytearray:
    """The coded stream of a frame, counted from 0, of `frames`.

    `data` begins with the basic offset table. `table` is the extended one, if there is one. Raises
    Refused.
    """
    first, *fragments = _fragments(data)
    found = _of_frame(data, first, fragments, index, frames, table)
    if not all(each.whole for each in found):
        raise Refused(BROKEN)
    if len(found) == 1:
        return bytes(data[found[0].start : found[0].end])
    return bytearray().join(data[each.start : each.end] for each in found)


def _fragments(data: memoryview) -> Iterator[Fragment]:
    at = 0
    while at + 8 <= len(data):
        *tag, length = struct.unpack_from("<HHI", data, at)
        if tuple(tag) == _END:
            return
        if tuple(tag) != _ITEM or length == 0xFFFFFFFF:
            raise Refused(BROKEN)
        start, end = at + 8, at + 8 + length
        yield Fragment(at, start, min(end, len(data)), end <= len(data))
        at = end
    if at == 0:
        raise Refused(BROKEN)


def _of_frame(
    data: memoryview,
    first: Fragment,
    fragments: list[Fragment],
    index: int,
    frames: int,
    table: Sequence[int],
) -> list[Fragment]:
    """By the tables of offsets, if they fit; else by how many fragments there are."""
    if not 0 <= index < frames or not fragments:
        raise Refused(NO_FRAME)
    if frames == 1:
        return fragments
    for offsets in (table, _basic_offsets(data, first)):
        if len(offsets) == frames and (cut := _cut(fragments, offsets)) is not None:
            return cut[index]
    if len(fragments) == frames:
        return [fragments[index]]
    begins = [n for n, each in enumerate(fragments) if _begins(data, each)]
    if len(begins) != frames:
        raise Refused(NO_FRAME)
    return fragments[begins[index] : [*begins, None][index + 1]]


def _basic_offsets(data: memoryview, first: Fragment) -> Sequence[int]:
    count = (first.end - first.start) // 4
    return struct.unpack_from(f"<{count}I", data, first.start)


def _cut(fragments: list[Fragment], offsets: Sequence[int]) -> list[list[Fragment]] | None:
    """The fragments of each frame; None where no fragment is at an offset.

    Offsets count from the first fragment's item.
    """
    places = [each.at - fragments[0].at for each in fragments]
    begins = [bisect_left(places, offset) for offset in offsets]
    fits = all(
        n < len(places) and places[n] == offset for n, offset in zip(begins, offsets, strict=True)
    )
    if not fits or begins != sorted(set(begins)) or begins[0] != 0:
        return None
    ends = [*begins[1:], len(fragments)]
    return [fragments[start:end] for start, end in zip(begins, ends, strict=True)]


def _begins(data: memoryview, fragment: Fragment) -> bool:
    return bytes(data[fragment.start : fragment.start + 8]).startswith(STARTS)
