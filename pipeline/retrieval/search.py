"""The search itself: finds the images most similar to the target of a query.

    found = search.run([query], [pictures])

The target becomes one vector or a set of examples (`targets.py`), the conditions become one filter
(`_filter`), and the store does the rest. `_grouped` and `_duplicates` build groups and
near-duplicates from the store's answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from pipeline.base.errors import InvalidQuery
from pipeline.base.identity import point_id
from pipeline.evaluation.closeness import Calibration
from pipeline.images.hashes import hash_distance
from pipeline.messages import (
    MAX_LIMIT,
    RESERVED,
    Hit,
    Payload,
    SearchQuery,
    preview_path,
    unsealed,
)
from pipeline.messages.filters import (
    AnyCondition,
    Filter,
    HasIdCondition,
    json_path,
    top_level,
)
from pipeline.retrieval.closeness import Judge, check_closeness, judge_of
from pipeline.retrieval.conditions import equals, has_points, makes_group
from pipeline.retrieval.fields import Fields
from pipeline.retrieval.matching import Group, best_match, chosen_images, group_of
from pipeline.retrieval.same import SameLesion
from pipeline.retrieval.targets import QueryTarget, QueryTargets, Refusal, Sent
from pipeline.store import Query, ScoredPoint, Store

# Hits fetched in one round while groups are collected: enough for ten groups in most collections.
_WINDOW = 64

# What becomes of one search: its hits, or what is wrong with it alone.
Outcome = tuple[Hit, ...] | Refusal


@dataclass(frozen=True)
class Search:
    """Safe to call from several threads. Raises StoreUnavailable."""

    store: Store
    targets: QueryTargets
    fields: Fields

    def run(
        self,
        searches: Sequence[SearchQuery],
        pictures: Sequence[Sequence[Sent]],
        base: str = "/v1",
        calibration: Calibration | None = None,
    ) -> list[Outcome]:
        """One outcome for each search; `pictures` has what was sent with each.

        `base` is the path of the collection, for the URLs of previews. With a `calibration`, hits
        say how close they are.
        """
        searches = [self.fields.originals.query(search) for search in searches]
        found = self.targets.of(searches, pictures)
        targets = [
            self._checked(search, target, calibration)
            for search, target in zip(searches, found, strict=True)
        ]
        possible = [
            (search, target, judge_of(search, target, len(sent), calibration))
            for search, target, sent in zip(searches, targets, pictures, strict=True)
            if isinstance(target, QueryTarget)
        ]
        hits = iter(self._hits(possible, base))
        return [next(hits) if isinstance(target, QueryTarget) else target for target in targets]

    def _hits(
        self, possible: Sequence[tuple[SearchQuery, QueryTarget, Judge]], base: str
    ) -> list[tuple[Hit, ...]]:
        searches = [search for search, _, _ in possible]
        targets = [target for _, target, _ in possible]
        judges = [judge for _, _, judge in possible]
        same = SameLesion(self.store, self.fields.lesion).conditions(searches, targets)
        queries = [_query(*each) for each in zip(searches, targets, same, judges, strict=True)]
        plain = [n for n, search in enumerate(searches) if _is_plain(search)]
        found = dict(zip(plain, self.store.query([queries[n] for n in plain]), strict=True))
        shown = [_Shown(base, _hidden(search, judge), judge) for search, _, judge in possible]
        return [
            shown[n].hits(found[n])
            if n in found
            else self._special(search, targets[n], queries[n], shown[n])
            for n, search in enumerate(searches)
        ]

    def _checked(
        self,
        search: SearchQuery,
        target: QueryTarget | Refusal,
        calibration: Calibration | None,
    ) -> QueryTarget | Refusal:
        """The target, or what is wrong with what else the search names."""
        try:
            self._check_fields(search)
            check_closeness(search, calibration)
        except InvalidQuery as error:
            return error
        return target

    def _special(
        self, search: SearchQuery, target: QueryTarget, query: Query, shown: "_Shown"
    ) -> tuple[Hit, ...]:
        if search.compares_groups:
            return self._matched(search, target, query, shown)
        if search.group_by is not None:
            return self._grouped(search, search.group_by, query, shown)
        assert search.max_hash_distance is not None  # noqa: S101 - see _is_plain
        return self._duplicates(search, search.max_hash_distance, target, query, shown)

    def _check_fields(self, search: SearchQuery) -> None:
        self.fields.check_filter(search.filter)
        for name, field in (("group_by", search.grouped_by), ("not_same", search.not_same)):
            if field is not None:
                self.fields.check_grouping(field, (name,))
        for number, field in enumerate(search.include or ()):
            self.fields.check(top_level(json_path(field)), ("include", number))

    def _grouped(
        self, search: SearchQuery, field: str, query: Query, shown: "_Shown"
    ) -> tuple[Hit, ...]:
        """The best image of each group; an image without a value is a group of its own.

        The result is exact: each round excludes the groups found before, until there are enough. So
        the scores fall from round to round, and a lesion of a thousand pictures costs one more
        round.
        """
        wanted = search.offset + search.limit
        best: dict[Group, ScoredPoint] = {}
        while len(best) < wanted:
            others = _also(query.filter, must_not=_members(field, best))
            [page] = self.store.query([replace(query, limit=_WINDOW, offset=0, filter=others)])
            for point in page:
                best.setdefault(_group(point, field), point)
            if len(page) < _WINDOW:
                break
        chosen = dict(list(best.items())[search.offset : wanted])
        further = self._others(search, field, query, chosen) if search.group_size > 1 else {}
        return tuple(
            shown.hit(point, others=shown.hits(further.get(group, ())))
            for group, point in chosen.items()
        )

    def _matched(
        self, search: SearchQuery, target: QueryTarget, query: Query, shown: "_Shown"
    ) -> tuple[Hit, ...]:
        """Groups by the strategy best_match; of each, the image most similar to any frame."""
        field, frames = search.grouped_by, target.frames
        assert field is not None and frames is not None  # noqa: S101 - see compares_groups
        wanted = search.offset + search.limit
        groups = best_match(self.store, frames, query, field, wanted)[search.offset :]
        ids = list(chosen_images(groups, search.group_size))
        found = self._payloads(query, ids)
        hits = []
        for group in groups:
            images = [i for i in group.images[: search.group_size] if i[0] in found]
            if not images:  # deleted in this moment
                continue
            points = [ScoredPoint(point, own, found[point]) for point, own in images]
            others = shown.hits(points[1:]) if search.group_size > 1 else None
            best = replace(points[0], score=group.score)
            hits.append(shown.hit(best, own_score=points[0].score, others=others))
        return tuple(hits)

    def _payloads(self, query: Query, ids: Sequence[UUID]) -> dict[UUID, Payload]:
        """By a query, since the store then leaves out the fields that are not wanted."""
        if not ids:
            return {}
        own = Filter(must=(has_points(ids),))
        wanted = replace(query, limit=len(ids), offset=0, filter=own, score_threshold=None)
        return {point.id: point.payload for point in self.store.query([wanted])[0]}

    def _others(
        self, search: SearchQuery, field: str, query: Query, best: Mapping[Group, ScoredPoint]
    ) -> dict[Group, list[ScoredPoint]]:
        """The next best of each group."""
        groups = [group for group in best if not isinstance(group, UUID)]
        queries = [
            replace(
                query,
                limit=search.group_size - 1,
                offset=0,
                filter=_also(
                    query.filter,
                    must=equals(field, [group]),
                    must_not=[has_points([best[group].id])],
                ),
            )
            for group in groups
        ]
        return dict(zip(groups, self.store.query(queries), strict=True))

    def _duplicates(
        self, search: SearchQuery, most: int, target: QueryTarget, query: Query, shown: "_Shown"
    ) -> tuple[Hit, ...]:
        """The most similar images whose hash is close to the picture's."""
        ours = target.phash or _hash(target.positives[0].payload)
        [points] = self.store.query([replace(query, limit=MAX_LIMIT, offset=0)])
        payloads = self.store.retrieve([point.id for point in points])
        near = []
        for point in points:
            theirs = _hash(payloads[point.id].payload) if point.id in payloads else ""
            if ours and theirs and (distance := hash_distance(ours, theirs)) <= most:
                near.append(shown.hit(point, hash_distance=distance))
        return tuple(near[search.offset : search.offset + search.limit])


def _is_plain(search: SearchQuery) -> bool:
    return search.grouped_by is None and search.max_hash_distance is None


def _hash(payload: Payload) -> str:
    """Empty if the image was embedded before: what it has as `dhash` compares with nothing now."""
    return str(payload.get(RESERVED, {}).get("phash", ""))


# --- conditions --------------------------------------------------------------------------------


def _query(
    search: SearchQuery, target: QueryTarget, same: Sequence[AnyCondition], judge: Judge
) -> Query:
    """Always fetches the fields that name a hit or its group; `_Shown.hit` removes them again."""
    needed = _needed(search, judge)
    include = None if search.include is None else sorted({*search.include, *needed})
    exclude = [name for name in search.exclude or () if name not in needed]
    return Query(
        target=target.target,
        limit=search.limit,
        filter=_filter(search, target, same),
        offset=search.offset,
        score_threshold=search.score_threshold,
        include=include,
        exclude=exclude or None,
        exact=search.exact,
    )


def _needed(search: SearchQuery, judge: Judge) -> set[str]:
    grouped = set() if search.grouped_by is None else {search.grouped_by}
    return {"image_id"} | grouped | judge.needed


def _filter(
    search: SearchQuery, target: QueryTarget, same: Sequence[AnyCondition]
) -> Filter | None:
    """The search's filter combined with its shorthands, such as `not_ids`.

    An image that meets one of the conditions `same` shows the same lesion.
    """
    must = [] if search.ids is None else [_has_ids(search.ids)]
    must_not: list[AnyCondition] = [_has_ids(search.not_ids)] if search.not_ids else []
    examples = (*search.positive, *search.negative)
    if examples:
        must_not.append(_has_ids(examples))
    must_not += same
    if search.not_same is not None or search.max_hash_distance is not None:
        must_not.append(has_points([record.id for record in target.positives]))
    if search.not_same is not None:
        shared = [record.payload.get(search.not_same) for record in target.positives]
        shared += target.known.get(search.not_same, ())
        must_not += equals(search.not_same, {value for value in shared if makes_group(value)})
    return _also(search.filter, must=must, must_not=must_not)


def _also(
    wanted: Filter | None,
    must: Sequence[AnyCondition] = (),
    must_not: Sequence[AnyCondition] = (),
) -> Filter | None:
    """The filter with further conditions."""
    all_of = (*(() if wanted is None else (wanted,)), *must)
    if not all_of and not must_not:
        return None
    return Filter(must=all_of or None, must_not=tuple(must_not) or None)


def _has_ids(image_ids: Sequence[str]) -> HasIdCondition:
    return has_points([point_id(image_id) for image_id in image_ids])


def _members(field: str, groups: Mapping[Group, ScoredPoint]) -> list[AnyCondition]:
    """Conditions; an image of one of these groups meets one of them."""
    values = [group for group in groups if not isinstance(group, UUID)]
    single = [group for group in groups if isinstance(group, UUID)]
    return [*equals(field, values), *([has_points(single)] if single else [])]


def _group(point: ScoredPoint, field: str) -> Group:
    """The value that the point shares with others, or its id if there is none."""
    return group_of(point.id, point.payload.get(field))


# --- answers -----------------------------------------------------------------------------------


def _hidden(search: SearchQuery, judge: Judge) -> list[str]:
    """The fields that are always fetched and that this answer does not show."""
    left_out = search.exclude or ()
    return [n for n in _needed(search, judge) if n in left_out or n not in (search.include or (n,))]


@dataclass(frozen=True)
class _Shown:
    """Shows hits under the path `base`, without the `hidden` fields."""

    base: str
    hidden: Sequence[str]
    judge: Judge

    def hits(self, points: Sequence[ScoredPoint]) -> tuple[Hit, ...]:
        return tuple(self.hit(point) for point in points)

    def hit(self, point: ScoredPoint, **more: Any) -> Hit:
        payload, sealed = unsealed(dict(point.payload))
        image_id = payload["image_id"]
        closeness, close = self.judge.of(point)
        for name in self.hidden:
            payload.pop(name, None)
        return Hit(
            image_id=image_id,
            point_id=str(point.id),
            payload=payload,
            preview_url=preview_path(image_id, self.base),
            viewer=sealed,
            score=point.score,
            closeness=closeness,
            close=close,
            **more,
        )
