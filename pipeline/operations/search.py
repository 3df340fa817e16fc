"""Search: finds the images most similar to one, to several, or to words; or runs many searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from pipeline.base.errors import InvalidQuery, KindredError
from pipeline.base.states import RequestState
from pipeline.messages import Hit, Message, Problem, SearchQuery, SentFile, problem
from pipeline.operations.base import Call, query

if TYPE_CHECKING:
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


class _Search(Message):
    """The current state of a search, as the api shows it."""

    id: str
    state: RequestState = "succeeded"
    error: Problem | None = None


class SearchAnswer(_Search):
    """`results` is set when the search has succeeded: the best hit first."""

    results: tuple[Hit, ...] | None = None


class BatchAnswer(_Search):
    """`results` is set when the searches have succeeded: one list for each, in their order.

    A search that is impossible fails alone: its list is null, and `errors`, which is set only then,
    has its problem in the same place.
    """

    results: tuple[tuple[Hit, ...] | None, ...] | None = None
    errors: tuple[Problem | None, ...] | None = Field(None, exclude_if=lambda value: value is None)


def _search(context: Context, request: SearchRequest, call: Call) -> SearchAnswer:
    [found] = context.search.run([request.query], [request.images], call.base)
    if isinstance(found, KindredError):
        raise found
    return SearchAnswer(id=call.id, results=found)


def _batch(context: Context, request: BatchRequest, call: Call) -> BatchAnswer:
    """Runs all searches with one call to the store."""
    pictures: list[Any] = [()] * len(request.searches)
    found = context.search.run(request.searches, pictures, call.base)
    errors = tuple(problem(one) if isinstance(one, KindredError) else None for one in found)
    return BatchAnswer(
        id=call.id,
        results=tuple(None if isinstance(one, KindredError) else one for one in found),
        errors=errors if any(errors) else None,
    )


SEARCH = query("search", SearchRequest, SearchAnswer, _search, pictures=True)
BATCH = query("batch", BatchRequest, BatchAnswer, _batch)
