"""Our filters in the embedded engine's classes. What `Filter` accepts, the engine takes."""

# The binding's aliases (ConditionType and its like) are in its stubs alone.
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
import qdrant_edge as edge

from pipeline.messages import filters
from pipeline.messages.filters import Filter


def to_edge(wanted: Filter) -> edge.Filter:
    """The same filter for qdrant-edge."""
    least = wanted.min_should
    return edge.Filter(
        must=_conditions(wanted.must),
        should=_conditions(wanted.should),
        must_not=_conditions(wanted.must_not),
        min_should=edge.MinShould(_conditions(least.conditions) or [], least.min_count)
        if least
        else None,
    )


def _conditions(
    conditions: Iterable[filters.AnyCondition] | None,
) -> list[edge.ConditionType] | None:
    return None if conditions is None else [_condition(condition) for condition in conditions]


def _condition(condition: filters.AnyCondition) -> edge.ConditionType:
    match condition:
        case filters.FieldCondition():
            return _field(condition)
        case filters.IsEmptyCondition():
            return edge.IsEmptyCondition(condition.is_empty.key)
        case filters.IsNullCondition():
            return edge.IsNullCondition(condition.is_null.key)
        case filters.HasIdCondition():
            return edge.HasIdCondition(set(condition.has_id))
        case filters.NestedCondition():
            return edge.NestedCondition(condition.nested.key, to_edge(condition.nested.filter))
        case Filter():
            return to_edge(condition)


def _field(condition: filters.FieldCondition) -> edge.FieldCondition:
    """Beside its key, the condition holds exactly one operator."""
    (operator,) = condition.given().keys() - {"key"}
    value = getattr(condition, operator)
    return edge.FieldCondition(condition.key, **{operator: _OPERATORS[operator](value)})


def _match(match: filters.Match) -> edge.MatchType:
    ((kind, value),) = match.given().items()
    return _MATCHES[kind](list(value) if isinstance(value, tuple) else value)


def _value(value: str | int | bool) -> edge.MatchValue:
    """qdrant-edge 0.9 takes Python's True for the integer 1, but knows numpy's for what it is."""
    return edge.MatchValue(cast(bool, np.bool_(value)) if isinstance(value, bool) else value)


def _range(bounds: filters.Range) -> edge.RangeType:
    """`Range` holds numbers alone, or times alone."""
    given = bounds.given()
    times = any(isinstance(bound, str) for bound in given.values())
    return edge.RangeDateTime(**given) if times else edge.RangeFloat(**given)


def _values_count(bounds: filters.ValuesCount) -> edge.ValuesCount:
    return edge.ValuesCount(**bounds.given())


def _box(box: filters.GeoBoundingBox) -> edge.GeoBoundingBox:
    return edge.GeoBoundingBox(_point(box.top_left), _point(box.bottom_right))


def _circle(circle: filters.GeoRadius) -> edge.GeoRadius:
    return edge.GeoRadius(_point(circle.center), circle.radius)


def _polygon(area: filters.GeoPolygon) -> edge.GeoPolygon:
    return edge.GeoPolygon(_ring(area.exterior), [_ring(ring) for ring in area.interiors or ()])


def _ring(ring: filters.GeoLineString) -> list[edge.GeoPoint]:
    return [_point(point) for point in ring.points]


def _point(point: filters.GeoPoint) -> edge.GeoPoint:
    return edge.GeoPoint(point.lon, point.lat)


_OPERATORS: dict[str, Callable[[Any], Any]] = {
    "match": _match,
    "range": _range,
    "geo_bounding_box": _box,
    "geo_radius": _circle,
    "geo_polygon": _polygon,
    "values_count": _values_count,
    "is_empty": bool,
    "is_null": bool,
}
_MATCHES: dict[str, Callable[[Any], edge.MatchType]] = {
    "value": _value,
    "any": edge.MatchAny,
    "except_": edge.MatchExcept,
    "text": edge.MatchText,
    "text_any": edge.MatchTextAny,
    "phrase": edge.MatchPhrase,
    "prefix": edge.MatchPrefix,
    "substring": edge.MatchSubstring,
}
