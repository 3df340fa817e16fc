"""Search: finds the images most similar to one, to several, or to words; or runs many searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from pipeline.base.errors import InvalidQuery
from pipeline.base.states import RequestState
from pipeline.messages import Hit, Message, Problem, SearchQuery
from pipeline.operations.base import Call, query

if TYPE_CHECKING:
    from pipeline.operations.context import Context

MAX_BATCH = 100
MAX_PICTURES = 16


class SearchRequest(Message):
    """`images` has the blobs of pictures sent along.

    Raises InvalidQuery unless the search has exactly one target.
    """

    query: SearchQuery
    images: tuple[str, ...] = Field((), max_length=MAX_PICTURES)

    @model_validator(mode="after")
    def _one_target(self) -> SearchRequest:
        self.query.check_target(len(self.images))
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


class _Search(Message):
    """The current state of a search, as the api shows it."""

    id: str
    state: RequestState = "succeeded"
    error: Problem | None = None


class SearchAnswer(_Search):
    """`results` is set when the search has succeeded: the best hit first."""

    results: tuple[Hit, ...] | None = None


class BatchAnswer(_Search):
    """`results` is set when the searches have succeeded: one list for each, in their order."""

    results: tuple[tuple[Hit, ...], ...] | None = None


def _search(context: Context, request: SearchRequest, call: Call) -> SearchAnswer:
    [hits] = context.search.run([request.query], [request.images], call.base)
    return SearchAnswer(id=call.id, results=hits)


def _batch(context: Context, request: BatchRequest, call: Call) -> BatchAnswer:
    """Runs all searches with one call to the store."""
    pictures: list[Any] = [()] * len(request.searches)
    found = context.search.run(request.searches, pictures, call.base)
    return BatchAnswer(id=call.id, results=tuple(found))


SEARCH = query("search", SearchRequest, SearchAnswer, _search)
BATCH = query("batch", BatchRequest, BatchAnswer, _batch)
