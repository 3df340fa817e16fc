"""Validates Qdrant's own filter JSON.

Pydantic models follow the grammar of https://qdrant.tech/documentation/concepts/filtering/. So the
api answers an invalid filter with the path of the fault, as in ("filter", "must", 0, "range",
"gte"), and needs no Qdrant to do so. Values can be patients' data: no message here repeats one.
"""

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, LiteralString, TypeAlias
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

# We and the engine walk filters recursively, so we limit their size first.
MAX_DEPTH = 16  # filters within filters
MAX_OBJECTS = 4_000  # JSON objects: conditions and their operators
MAX_VALUES = 100_000  # members of lists

_INT64 = 2**63
_PATH = re.compile(r'([\w-]+|"[^"]*")(\[[0-9]{0,18}\])*(\.([\w-]+|"[^"]*")(\[[0-9]{0,18}\])*)*')


def _fault(message: LiteralString) -> PydanticCustomError:
    return PydanticCustomError("filter", message)


# --- values ----------------------------------------------------------------------------------


def json_path(field: str) -> str:
    """The field's name as a Qdrant path: quoted, unless it is a path already."""
    return field if _PATH.fullmatch(field) else f'"{field}"'


def _path(value: Any) -> Any:
    if not isinstance(value, str) or len(value) > 1000 or not _PATH.fullmatch(value):
        raise _fault('expected a payload field, as in dx, source.job, sites[].name or "body part"')
    return value


def _int64(value: Any) -> bool:
    return type(value) is int and -_INT64 <= value < _INT64


def _scalar(value: Any) -> Any:
    if not (isinstance(value, str | bool) or _int64(value)):
        raise _fault("expected a string, an integer or a boolean")
    return value


def _member(value: Any) -> Any:
    if not (isinstance(value, str) or _int64(value)):
        raise _fault("expected a string or an integer")
    return value


def _bound(value: Any) -> float | str:
    """A finite number, or a time in RFC 3339 and UTC. Qdrant assumes UTC if a time has no zone."""
    try:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
        if isinstance(value, int | float) and type(value) is not bool:
            number = float(value)
            if math.isfinite(number):
                return number
    except (ValueError, OverflowError):
        pass
    raise _fault("expected a finite number, or a date or time in ISO 8601")


def _comparable(bound: float | str) -> Any:
    return datetime.fromisoformat(bound) if isinstance(bound, str) else bound


def _point_id(value: Any) -> int | str:
    if isinstance(value, UUID):
        return str(value)
    if type(value) is int and 0 <= value < 2 * _INT64:
        return value
    try:
        return str(UUID(value))
    except (TypeError, ValueError, AttributeError):
        raise _fault("expected a point id: a UUID or a non-negative integer") from None


JsonPath = Annotated[str, BeforeValidator(_path)]
Scalar = Annotated[StrictStr | StrictInt | StrictBool, BeforeValidator(_scalar)]
Members = tuple[Annotated[StrictStr | StrictInt, BeforeValidator(_member)], ...]
Bound = Annotated[float | str, BeforeValidator(_bound)]
PointId = Annotated[StrictInt | str, BeforeValidator(_point_id)]
Count = Annotated[StrictInt, Field(ge=0, lt=_INT64)]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        serialize_by_alias=True,
    )

    def given(self) -> dict[str, Any]:
        """The values of all fields that are set, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


# --- operators of a field ----------------------------------------------------------------------


class Match(_Part):
    """Exactly one is set. `text`, `text_any` and `phrase` compare words, the others values."""

    value: Scalar | None = None
    any: Members | None = None
    except_: Members | None = Field(default=None, alias="except")
    text: StrictStr | None = None
    text_any: StrictStr | None = None
    phrase: StrictStr | None = None
    prefix: StrictStr | None = None
    substring: StrictStr | None = None

    @model_validator(mode="after")
    def _check(self) -> "Match":
        if len(self.given()) != 1:
            raise _fault(
                "expected exactly one of value, any, except, text, text_any, phrase, prefix, "
                "substring"
            )
        members = self.any or self.except_ or ()
        if len({type(member) for member in members}) > 1:
            raise _fault("expected a list of strings or a list of integers, not both in one")
        return self


class _Bounds(_Part):
    @model_validator(mode="after")
    def _check(self) -> "_Bounds":
        given = self.given().values()
        if not given:
            raise _fault("expected at least one of gt, gte, lt, lte")
        if len({isinstance(bound, str) for bound in given}) > 1:
            raise _fault("expected numbers or times, not both in one range")
        if self._is_empty():
            raise _fault("nothing can lie in this range: its least is above its greatest")
        return self

    def _is_empty(self) -> bool:
        """Whether no value satisfies every bound."""
        bounds = {name: _comparable(bound) for name, bound in self.given().items()}
        lows = [bounds[name] for name in ("gt", "gte") if name in bounds]
        highs = [bounds[name] for name in ("lt", "lte") if name in bounds]
        if not lows or not highs:
            return False
        low, high = max(lows), min(highs)
        open_end = bounds.get("gt") == low or bounds.get("lt") == high
        return bool(low > high or (low == high and open_end))


class Range(_Bounds):
    """Numbers, or times as ISO 8601 strings, which become RFC 3339 and UTC."""

    gt: Bound | None = None
    gte: Bound | None = None
    lt: Bound | None = None
    lte: Bound | None = None


class ValuesCount(_Bounds):
    """How many values the field has."""

    gt: Count | None = None
    gte: Count | None = None
    lt: Count | None = None
    lte: Count | None = None


class GeoPoint(_Part):
    """A point on Earth, in degrees."""

    lon: float = Field(ge=-180, le=180, strict=True)
    lat: float = Field(ge=-90, le=90, strict=True)


class GeoBoundingBox(_Part):
    top_left: GeoPoint
    bottom_right: GeoPoint


class GeoRadius(_Part):
    """A circle; `radius` is in metres."""

    center: GeoPoint
    radius: float = Field(ge=0, strict=True)


class GeoLineString(_Part):
    """A closed ring: its last point equals its first."""

    points: tuple[GeoPoint, ...] = Field(min_length=4)

    @model_validator(mode="after")
    def _closed(self) -> "GeoLineString":
        if self.points[0] != self.points[-1]:
            raise _fault("expected a ring, whose last point is its first")
        return self


class GeoPolygon(_Part):
    exterior: GeoLineString
    interiors: tuple[GeoLineString, ...] | None = None


# --- conditions --------------------------------------------------------------------------------


class FieldCondition(_Part):
    """One field with one operator: given two, the engine would accept either instead of both."""

    key: JsonPath
    match: Match | None = None
    range: Range | None = None
    geo_bounding_box: GeoBoundingBox | None = None
    geo_radius: GeoRadius | None = None
    geo_polygon: GeoPolygon | None = None
    values_count: ValuesCount | None = None
    is_empty: StrictBool | None = None
    is_null: StrictBool | None = None

    @model_validator(mode="after")
    def _check(self) -> "FieldCondition":
        if len(self.given()) != 2:
            raise _fault(
                "expected a key and exactly one of match, range, values_count, is_empty, is_null, "
                "geo_bounding_box, geo_radius, geo_polygon; write two conditions for two of them"
            )
        return self


class PayloadField(_Part):
    key: JsonPath


class IsEmptyCondition(_Part):
    is_empty: PayloadField


class IsNullCondition(_Part):
    is_null: PayloadField


class HasIdCondition(_Part):
    """Selects points by point id, not by image id."""

    has_id: tuple[PointId, ...]


class Nested(_Part):
    key: JsonPath
    filter: "Filter"


class NestedCondition(_Part):
    """A single element of an array of objects must satisfy the whole filter."""

    nested: Nested


def _condition(value: Any) -> Any:
    """Chooses the kind by its keys, so that an error names one path and not one for every kind."""
    if isinstance(value, BaseModel):
        return value
    if not isinstance(value, dict):
        raise _fault("expected a condition, a JSON object")
    kinds: dict[str, type[_Part]] = {
        "key": FieldCondition,
        "is_empty": IsEmptyCondition,
        "is_null": IsNullCondition,
        "has_id": HasIdCondition,
        "nested": NestedCondition,
        **dict.fromkeys(Filter.model_fields, Filter),
    }
    for key, kind in kinds.items():
        if key in value:
            return kind.model_validate(value)
    raise _fault(
        "expected a condition: a field's (key, with match or range or another operator), is_empty, "
        "is_null, has_id, nested, or a filter (must, should, must_not, min_should)"
    )


def _conditions(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Accepts a single condition in place of a list of one, as Qdrant does."""
    return handler(value) if isinstance(value, list | tuple) else (_condition(value),)


AnyCondition: TypeAlias = (
    "FieldCondition | IsEmptyCondition | IsNullCondition"
    " | HasIdCondition | NestedCondition | Filter"
)
Condition = Annotated[AnyCondition, BeforeValidator(_condition)]
Conditions = Annotated[tuple[Condition, ...], WrapValidator(_conditions)]


class MinShould(_Part):
    conditions: tuple[Condition, ...]
    min_count: Count


class Filter(_Part):
    """Matches all of `must`, at least one of `should`, and none of `must_not`, if given."""

    must: Conditions | None = None
    should: Conditions | None = None
    must_not: Conditions | None = None
    min_should: MinShould | None = None

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, value: Any) -> Any:
        objects = values = 0
        for item, depth in _walk(value):
            objects += isinstance(item, dict)
            values += len(item) if isinstance(item, list) else 0
            if depth > MAX_DEPTH:
                raise _fault(f"more than {MAX_DEPTH} filters within each other")
            if objects > MAX_OBJECTS or values > MAX_VALUES:
                raise _fault(f"more than {MAX_OBJECTS} conditions or {MAX_VALUES} values")
        return value

    @model_validator(mode="after")
    def _possible(self) -> "Filter":
        refused: dict[str, set[Any]] = {}
        for key, values in _matched(self.must_not):
            refused.setdefault(key, set()).update(values)
        for key, values in _matched(self.must):
            if values and values <= refused.get(key, set()):
                raise _fault("no image can fit: must_not excludes what must asks for")
        return self

    def fields(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Every named payload field, at its top level, with its path in the filter."""
        for name in ("must", "should", "must_not"):
            yield from _fields(getattr(self, name), (name,))
        if self.min_should is not None:
            yield from _fields(self.min_should.conditions, ("min_should", "conditions"))

    def to_qdrant(self) -> dict[str, Any]:
        """The JSON that Qdrant accepts."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def top_level(path: str) -> str:
    """The first name of a path: `source` of source.job, `body part` of "body part"[].name."""
    if path.startswith('"'):
        return path[1 : path.index('"', 1)]
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _matched(conditions: tuple[AnyCondition, ...] | None) -> Iterator[tuple[str, set[Any]]]:
    """The values that conditions require by equality, with their types, since True == 1."""
    for condition in conditions or ():
        if isinstance(condition, FieldCondition) and condition.match is not None:
            match = condition.match
            values = match.any or (() if match.value is None else (match.value,))
            yield condition.key, {(type(value), value) for value in values}


def _fields(
    conditions: tuple[AnyCondition, ...] | None, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for number, condition in enumerate(conditions or ()):
        here = (*path, number)
        match condition:
            case FieldCondition():
                yield (*here, "key"), top_level(condition.key)
            case IsEmptyCondition():
                yield (*here, "is_empty", "key"), top_level(condition.is_empty.key)
            case IsNullCondition():
                yield (*here, "is_null", "key"), top_level(condition.is_null.key)
            case NestedCondition():
                yield (*here, "nested", "key"), top_level(condition.nested.key)
            case Filter():
                for inner, field in condition.fields():
                    yield (*here, *inner), field
            case HasIdCondition():
                pass


def _walk(value: Any) -> Iterator[tuple[Any, int]]:
    """Every JSON object and array in `value`, with the number of filters around it."""
    pending = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        yield item, depth
        if isinstance(item, dict):
            depth += not Filter.model_fields.keys().isdisjoint(item)
            pending += ((child, depth) for child in item.values())
        elif isinstance(item, list):
            pending += ((child, depth) for child in item if isinstance(child, dict | list))


for _model in (Nested, NestedCondition, MinShould, Filter):
    _model.model_rebuild()
