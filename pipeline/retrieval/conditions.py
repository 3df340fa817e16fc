"""Conditions that several parts of a search build: by point id, or by a shared value."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard
from uuid import UUID

from pipeline.messages.filters import (
    AnyCondition,
    FieldCondition,
    HasIdCondition,
    Match,
    json_path,
)


def has_points(points: Sequence[UUID]) -> HasIdCondition:
    return HasIdCondition(has_id=tuple(str(point) for point in points))


def equals(field: str, values: Iterable[str | int]) -> list[AnyCondition]:
    """Conditions; an image that has one of these values meets one of them."""
    words = tuple(value for value in values if isinstance(value, str))
    numbers = tuple(value for value in values if isinstance(value, int))
    kinds = [kind for kind in (words, numbers) if kind]
    return [FieldCondition(key=json_path(field), match=Match(any=kind)) for kind in kinds]


def makes_group(value: Any) -> TypeGuard[str | int]:
    """Whether the value makes a group. Qdrant can match text and integers; True is not 1."""
    return type(value) in (str, int)
