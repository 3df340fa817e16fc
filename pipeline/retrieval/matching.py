"""Groups of images compared with several frames: the strategy best_match.

    matched = best_match(store, frames, query, "series_id", wanted=10)

The score of a group, such as a series, is the mean over the query's frames of the cosine to the
most similar image of the group: each frame finds its best match, and these are averaged. So ten
slices that each have a counterpart count for more than one that has a perfect one.

One batch of queries finds the nearest images of each frame. What they leave open is bounded: of a
group that a frame's list does not show, that frame's best match is no better than the list's last.
So groups are compared in full, by their stored vectors, in the order of what they can reach, until
none that is left can be better (the threshold algorithm: Fagin, Lotem, Naor, J. Comput. Syst. Sci.
66, 2003). The lists grow fourfold while a group that no list shows could still be better.

The result is exact unless a list would have to be longer than `LONGEST`, or more vectors than
`MOST_VECTORS` would have to be read; or where the store itself finds nearly all of the nearest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np

from pipeline.messages import MAX_LIMIT
from pipeline.messages.filters import Filter
from pipeline.retrieval.conditions import equals, has_points, makes_group
from pipeline.store import Query, ScoredPoint, Store, Vectors

# Nearest images of each frame that are fetched at first: most of them belong to few series.
SHORTEST = 64
LONGEST = MAX_LIMIT
_GROWTH = 4

# Vectors that are read to compare groups in full: 20,000 of 384 dimensions are 31 MB.
MOST_VECTORS = 20_000
_PAGE = 1000
_GROUPS = 16  # compared in one round

Group = str | int | UUID


@dataclass(frozen=True)
class Matched:
    """A group with its score, and its images by their own cosine to the nearest of the frames."""

    score: float
    images: tuple[tuple[UUID, float], ...]


def best_match(
    store: Store, frames: Vectors, query: Query, field: str, wanted: int
) -> list[Matched]:
    """The best groups, at most `wanted`; an image without a value is a group of its own.

    `frames` is float32 (n, dimensions), of length 1. Of `query` counts what limits the images that
    are compared. Raises StoreUnavailable.
    """
    found: dict[Group, Matched] = {}
    length = SHORTEST
    while True:
        lists = store.query(_nearest(frames, query, field, length))
        reach, unseen = _reach(lists, field, length)
        _compare(store, frames, query, field, reach, found, wanted)
        if length >= LONGEST or not _beaten_by(unseen, found, wanted):
            break
        length = min(LONGEST, length * _GROWTH)
    best = sorted(found.values(), key=lambda each: -each.score)
    least = query.score_threshold
    return [each for each in best if least is None or each.score >= least][:wanted]


def _nearest(frames: Vectors, query: Query, field: str, length: int) -> list[Query]:
    plain = replace(query, limit=length, offset=0, score_threshold=None, exclude=None)
    return [replace(plain, target=frame, include=[field]) for frame in frames]


def _reach(
    lists: Sequence[Sequence[ScoredPoint]], field: str, length: int
) -> tuple[dict[Group, float], float]:
    """What each group that a list shows can score at most, the best first, and any other one."""
    # A list that is not full shows all images there are.
    last = np.array([each[-1].score if len(each) == length else -1.0 for each in lists])
    best: dict[Group, np.ndarray] = {}
    for number, points in enumerate(lists):
        for point in points:
            group = group_of(point.id, point.payload.get(field))
            scores = best.setdefault(group, last.copy())
            scores[number] = max(scores[number], point.score)
    reach = {group: float(scores.mean()) for group, scores in best.items()}
    return dict(sorted(reach.items(), key=lambda each: -each[1])), float(last.mean())


def group_of(point: UUID, value: object) -> Group:
    return value if makes_group(value) else point


def _compare(
    store: Store,
    frames: Vectors,
    query: Query,
    field: str,
    reach: Mapping[Group, float],
    found: dict[Group, Matched],
    wanted: int,
) -> None:
    """Adds to `found` the groups that can be among the best."""
    left = [group for group in reach if group not in found]
    room = MOST_VECTORS
    for start in range(0, len(left), _GROUPS):
        groups = left[start : start + _GROUPS]
        if room <= 0 or not _beaten_by(reach[groups[0]], found, wanted):
            return
        vectors = _vectors_of(store, query, field, groups, room)
        room -= sum(len(each) for each in vectors.values())
        for group, images in vectors.items():
            found[group] = _matched(frames, images)


def _beaten_by(reach: float, found: Mapping[Group, Matched], wanted: int) -> bool:
    """Whether a group that can reach this may be better than one of the best so far."""
    if len(found) < wanted:
        return reach > -1.0
    scores = sorted((each.score for each in found.values()), reverse=True)
    return reach > scores[wanted - 1]


def _vectors_of(
    store: Store, query: Query, field: str, groups: Sequence[Group], most: int
) -> dict[Group, list[tuple[UUID, Vectors]]]:
    """The images of each group that fit the query's filter, `most` of them all together."""
    out: dict[Group, list[tuple[UUID, Vectors]]] = {}
    condition, cursor = _of_groups(query.filter, field, groups), None
    read = 0
    while read < most:
        page, cursor = store.scroll(_PAGE, filter=condition, cursor=cursor, vectors=True)
        for record in page:
            assert record.vector is not None  # noqa: S101 - read with vectors
            group = group_of(record.id, record.payload.get(field))
            out.setdefault(group, []).append((record.id, record.vector))
        read += len(page)
        if cursor is None:
            break
    return out


def _of_groups(fitting: Filter | None, field: str, groups: Sequence[Group]) -> Filter:
    values = [group for group in groups if not isinstance(group, UUID)]
    single = [group for group in groups if isinstance(group, UUID)]
    conditions = (*equals(field, values), *([has_points(single)] if single else []))
    return Filter(must=(*((fitting,) if fitting else ()), Filter(should=conditions)))


def _matched(frames: Vectors, images: Sequence[tuple[UUID, Vectors]]) -> Matched:
    cosines = frames @ np.stack([vector for _, vector in images]).T
    own = cosines.max(axis=0)
    order = np.argsort(-own, kind="stable")
    ranked = tuple((images[n][0], float(own[n])) for n in order)
    return Matched(float(cosines.max(axis=1).mean()), ranked)


def chosen_images(matched: Sequence[Matched], each: int) -> Iterator[UUID]:
    """The images that are shown of the groups."""
    for group in matched:
        yield from (point for point, _ in group.images[:each])
