"""Queries that clients poll for: accepted at once, answered in time or later."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from api.audit import Entry, images_in
from api.queries import JSON, answer, preferred_wait
from api.services import Collection
from api.viewer import with_viewer
from pipeline.base.blobs import request_folder
from pipeline.base.errors import QueryGone
from pipeline.ledger import RequestRecord

POLL_SECONDS = 1  # until a client should look again at a query that is not finished

# What the api says of a query that has no answer.
View = Callable[[RequestRecord], str]


@dataclass(frozen=True)
class Accepted:
    """The queries of one resource: `path` is below that of the collection, `operations` are theirs.

    `view` is the JSON of one without an answer.
    """

    path: str
    operations: tuple[str, ...]
    view: View

    async def accept(
        self,
        begin: Callable[[], None],
        identifier: str,
        request: Request,
        collection: Collection,
        entry: Entry,
    ) -> Response:
        """200 with the answer within `Prefer: wait=N` seconds, else 202; both with its address."""
        wait, get = preferred_wait(request), partial(self._look, collection, entry)
        found = await collection.services.waiting.finished(get, identifier, wait, begin)
        response = found.response
        response.headers["Location"] = f"{collection.base}/{self.path}/{identifier}"
        if not found.final:
            response.status_code = 202
        elif wait:
            response.headers["Preference-Applied"] = f"wait={wait:.0f}"
        return response

    async def one(
        self, identifier: str, request: Request, collection: Collection, entry: Entry
    ) -> Response:
        """Its current state; with `Prefer: wait=N`, as soon as it has finished."""
        waiting, get = collection.services.waiting, partial(self._look, collection, entry)
        found = await waiting.finished(get, identifier, preferred_wait(request))
        await run_in_threadpool(_refuse_gone, collection, found.record)
        return found.response

    def _look(self, collection: Collection, entry: Entry, identifier: str) -> "_Found":
        record = collection.request(identifier)
        return _Found(record, self._response(collection, record, entry))

    def _response(self, collection: Collection, record: RequestRecord, entry: Entry) -> Response:
        """The query's current state, or the worker's answer once it has succeeded."""
        entry.search = record.id
        if record.state != "succeeded" or record.operation not in self.operations:
            later = None if record.final else {"Retry-After": str(POLL_SECONDS)}
            return Response(self.view(record), headers=later, media_type=JSON)
        body = answer(collection, record.id)
        entry.shown = images_in(body)
        return Response(with_viewer(body, collection, entry), media_type=JSON)


def _refuse_gone(collection: Collection, record: RequestRecord) -> None:
    """Raises QueryGone for a query that a restored ledger names, with nothing behind it."""
    gone = record.error is not None and record.error.type == QueryGone("").slug
    if not record.final:
        gone = not collection.blobs.exists(f"{request_folder(record.id)}/request.json")
    if gone:
        raise QueryGone("What this search looked for is gone: search again.")


@dataclass(frozen=True)
class _Found:
    """A query, and what the api says of it now."""

    record: RequestRecord
    response: Response

    @property
    def final(self) -> bool:
        return self.record.final
