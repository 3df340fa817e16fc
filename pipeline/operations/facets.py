"""Facets: the values that images can be filtered by; and the collection as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.base.identity import is_identifier
from pipeline.messages import ClosenessBasis, EncoderInfo, Message
from pipeline.messages.filters import Filter
from pipeline.operations.base import Call, query

if TYPE_CHECKING:
    from pipeline.operations.context import Context


class FacetValue(Message):
    value: str | int | bool
    count: int


class ValueRange(Message):
    """Numbers, or times in RFC 3339."""

    min: float | str
    max: float | str


Facets = dict[str, tuple[FacetValue, ...]]


class FacetsRequest(Message):
    """The values to filter by, among the images that match `filter` already."""

    filter: Filter | None = None


class FacetsAnswer(Message):
    """`count` images match; `facets` has each field's values, and how many images have each."""

    count: int
    facets: Facets
    ranges: dict[str, ValueRange]


class CollectionRequest(Message):
    """The collection as a whole."""


class CollectionAnswer(Message):
    """`group_fields` are the indexed fields that results can be grouped by.

    `lesion_field` is the one of them that the images of a lesion share, if there is one.
    `untrained`: the encoder's weights are those that a model has before training. If not, nothing
    here says on what it was trained. `closeness` is there if the collection was evaluated, and says
    whether that still holds.
    """

    count: int
    encoder: EncoderInfo
    untrained: bool
    searches_text: bool
    group_fields: tuple[str, ...]
    lesion_field: str | None
    facets: Facets
    closeness: ClosenessBasis | None = Field(None, exclude_if=lambda value: value is None)


def _facets(context: Context, request: FacetsRequest, _: Call) -> FacetsAnswer:
    among = context.fields.originals.filter(request.filter)
    context.fields.check_filter(among)
    bounds = {name: context.store.bounds(name, among) for name in context.fields.numbers}
    return FacetsAnswer(
        count=context.store.count(among),
        facets=_values(context, among),
        ranges={n: ValueRange(min=b[0], max=b[1]) for n, b in bounds.items() if b is not None},
    )


def _collection(context: Context, _: CollectionRequest, __: Call) -> CollectionAnswer:
    known = context.calibrations.current()
    return CollectionAnswer(
        count=context.store.count(),
        encoder=context.store.encoder,
        untrained=context.encoder.untrained,
        searches_text=context.encoder.reads_text,
        group_fields=context.fields.grouping,
        lesion_field=context.fields.lesion,
        facets=_values(context, None),
        closeness=known.basis if known is not None else None,
    )


def _values(context: Context, among: Filter | None) -> Facets:
    return {
        name: tuple(
            FacetValue(value=value, count=count)
            for value, count in context.store.facet(name, filter=among)
        )
        for name in context.fields.facets
        if not is_identifier(name)
    }


FACETS = query("facets", FacetsRequest, FacetsAnswer, _facets)
COLLECTION = query("collection", CollectionRequest, CollectionAnswer, _collection)
