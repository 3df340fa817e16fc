"""Search: finds the images most similar to one, to several, or to words; or runs many searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from pipeline.base.errors import InvalidQuery, KindredError
from pipeline.base.states import RequestState
from pipeline.messages import (
    ClosenessBasis,
    Hit,
    Message,
    Problem,
    SearchQuery,
    SentFile,
    problem,
)
from pipeline.operations.base import Call, query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.evaluation.closeness import Calibration
    from pipeline.operations.context import Context

MAX_BATCH = 100
MAX_PICTURES = 32


class SearchRequest(Message):
    """`images` has what was sent along: the blobs of pictures, and files of DICOM.

    Raises InvalidQuery unless the search has exactly one target.
    """

    query: SearchQuery
    images: tuple[str | SentFile, ...] = Field((), max_length=MAX_PICTURES)

    @model_validator(mode="after")
    def _one_target(self) -> SearchRequest:
        known = [
            {name for name, _ in each.known} if isinstance(each, SentFile) else set()
            for each in self.images
        ]
        shared = set.intersection(*known) if known else set()
        self.query.check_target(len(self.images), shared)
        return self


class BatchRequest(Message):
    """Several searches at once, each with its own filter, fields and limit."""

    searches: tuple[SearchQuery, ...] = Field(min_length=1, max_length=MAX_BATCH)

    @model_validator(mode="after")
    def _one_target_each(self) -> BatchRequest:
        for number, each in enumerate(self.searches):
            try:
                each.check_target(pictures=0)
            except InvalidQuery as error:
                raise InvalidQuery(str(error), ("searches", number, *error.path)) from None
        return self


def _is_none(value: Any) -> bool:
    return value is None


class _Search(Message):
    """The current state of a search, as the api shows it.

    `closeness` says what that of its hits is measured by, where the collection was evaluated.
    """

    id: str
    state: RequestState = "succeeded"
    error: Problem | None = None
    closeness: ClosenessBasis | None = Field(None, exclude_if=_is_none)


class SearchAnswer(_Search):
    """`results` is set when the search has succeeded: the best hit first.

    `no_close_match` is set if the query has `min_closeness`: whether no hit reaches it.
    """

    results: tuple[Hit, ...] | None = None
    no_close_match: bool | None = Field(None, exclude_if=_is_none)


class BatchAnswer(_Search):
    """`results` is set when the searches have succeeded: one list for each, in their order.

    A search that is impossible fails alone: its list is null, and `errors`, which is set only then,
    has its problem in the same place. So has `no_close_match`, if a query has `min_closeness`.
    """

    results: tuple[tuple[Hit, ...] | None, ...] | None = None
    errors: tuple[Problem | None, ...] | None = Field(None, exclude_if=_is_none)
    no_close_match: tuple[bool | None, ...] | None = Field(None, exclude_if=_is_none)


def _search(context: Context, request: SearchRequest, call: Call) -> SearchAnswer:
    known = context.calibrations.current()
    [found] = context.search.run([request.query], [request.images], call.base, known)
    if isinstance(found, KindredError):
        raise found
    return SearchAnswer(
        id=call.id,
        results=found,
        closeness=_basis(known),
        no_close_match=_no_close_match(request.query, found),
    )


def _basis(known: Calibration | None) -> ClosenessBasis | None:
    return known.basis if known is not None and known.void is None else None


def _no_close_match(query: SearchQuery, hits: Sequence[Hit] | None) -> bool | None:
    if query.min_closeness is None or hits is None:
        return None
    return not any(hit.close for hit in hits)


def _batch(context: Context, request: BatchRequest, call: Call) -> BatchAnswer:
    """Runs all searches with one call to the store."""
    pictures: list[Any] = [()] * len(request.searches)
    known = context.calibrations.current()
    found = context.search.run(request.searches, pictures, call.base, known)
    results = tuple(None if isinstance(one, KindredError) else one for one in found)
    none_close = tuple(map(_no_close_match, request.searches, results))
    errors = tuple(problem(one) if isinstance(one, KindredError) else None for one in found)
    return BatchAnswer(
        id=call.id,
        results=results,
        errors=errors if any(errors) else None,
        closeness=_basis(known),
        no_close_match=None if set(none_close) == {None} else none_close,
    )


SEARCH = query("search", SearchRequest, SearchAnswer, _search, pictures=True)
BATCH = query("batch", BatchRequest, BatchAnswer, _batch)
