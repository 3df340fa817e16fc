"""The store on a Qdrant server: one node, a cluster or the cloud, through qdrant-client.

Vectors lie in the collection `{collection}-{fingerprint}`, whose metadata holds the encoder. The
alias `{collection}` says which encoder's collection is in use; it is followed once, at the start,
because vectors of this encoder mean nothing in another one's collection.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

import numpy as np
from qdrant_client import QdrantClient, models

from pipeline.base.errors import Conflict, InvalidQuery, StoreUnavailable
from pipeline.base.outage import Outage
from pipeline.messages import EncoderInfo, Payload
from pipeline.messages.filters import Filter, json_path
from pipeline.store import common
from pipeline.store.base import Examples, Points, Query, Record, ScoredPoint, Vectors
from pipeline.store.server_connection import connect
from pipeline.store.server_errors import ERRORS, errors_at_start, server_errors
from pipeline.store.server_index import add_indexes
from pipeline.store.server_matching import matches, named
from pipeline.store.server_purge import ServerPurge
from pipeline.store.server_strict import Limits, least, windows

# How many candidates a search keeps in hand while it walks the graph (hnsw_ef), by the points of
# the collection. The server's own 100 find 0.999 of the nearest among 100,000, but of a million
# 0.979, under a combined filter 0.970; 256 find 0.993 and 0.986, 320 find 0.996 and 0.991: graphs
# differ, and each should find 0.985 (docs/scale.md). Beyond two million nobody has measured. A
# server compares with all where few points fit, and then it does not matter.
_CANDIDATES = ((2_000_000, 512), (200_000, 320))
_COUNT_AGAIN = 60.0  # seconds until the points are counted again for it, in 1.4 ms of one search

# Batches of one call that are on their way at once. Measured with the server on the same two cores,
# 2 took three quarters of the time of one after the other or less, and 4 took longer than 2.
_STREAMS = 2
_SCANNED = 1000  # points a request, where a filter is matched here

T = TypeVar("T")


class ServerStore:
    """`indexes` maps payload fields to index types. The client is closed with the store.

    `claim` is called when no other encoder has filled the collection, and before anything is made:
    of two encoders that open an empty one, it refuses the second.

    Raises EncoderMismatch when another encoder has filled the collection, Conflict when its name is
    taken, ConfigurationError when the server refuses the key, and StoreUnavailable when it cannot
    be reached.
    """

    def __init__(
        self,
        client: QdrantClient,
        collection: str,
        encoder: EncoderInfo,
        indexes: Mapping[str, str],
        claim: common.Claim = common.no_claim,
    ) -> None:
        self._client = client
        self._encoder = encoder
        self._indexes = indexes
        self._name = common.data_name(collection, encoder)
        self.outage = Outage()
        self._candidates: int | None = None
        self._counted = -_COUNT_AGAIN
        with self.outage.watching(), errors_at_start():
            self._open(collection, claim)
            add_indexes(client, self._name, indexes)
            self._limits: Limits | None = self._read_limits()
        self._try_to_write()
        self._purge = ServerPurge(client, self._name, partial(self._errors, writes=True))
        self._streams = ThreadPoolExecutor(_STREAMS, thread_name_prefix="qdrant")

    @classmethod
    def connect(
        cls,
        url: str,
        api_key: str | None,
        collection: str,
        encoder: EncoderInfo,
        indexes: Mapping[str, str],
        claim: common.Claim = common.no_claim,
        *,
        grpc_port: int | None = None,
        ca: Path | None = None,
    ) -> "ServerStore":
        """Raises as `connect` of `server_connection.py` does, too."""
        client = connect(url, api_key, grpc_port, ca)
        try:
            return cls(client, collection, encoder, indexes, claim)
        except BaseException:
            client.close()
            raise

    @property
    def encoder(self) -> EncoderInfo:
        return self._encoder

    def upsert(self, points: Points) -> None:
        """Several batches are on their way at once. If one fails, none is when this raises."""
        common.check_points(points, self._encoder.dimensions)
        size = least(common.BATCH, self._allowed().points)
        parts = [slice(at, at + size) for at in range(0, len(points.ids), size)]
        if len({*points.ids}) == len(points.ids):
            self._together([partial(self._upsert, points, part) for part in parts])
        else:  # the last one of an id is to stay
            for part in parts:
                self._upsert(points, part)

    def _upsert(self, points: Points, part: slice) -> None:
        batch = models.Batch(
            ids=[str(point) for point in points.ids[part]],
            vectors=points.vectors[part],  # as an array, which it takes too
            payloads=[*points.payloads[part]],
        )
        with self._errors(writes=True):
            self._client.upsert(self._name, points=batch, wait=True)

    def set_payloads(self, payloads: Mapping[UUID, Payload]) -> None:
        updates = [_overwrite(point, payload) for point, payload in payloads.items()]
        for start in range(0, len(updates), common.BATCH):
            part = updates[start : start + common.BATCH]
            with self._errors(writes=True):
                self._client.batch_update_points(self._name, update_operations=part, wait=True)

    def query(self, queries: Sequence[Query]) -> list[list[ScoredPoint]]:
        common.check_queries(queries, self._encoder.dimensions)
        if not queries:
            return []
        return self._within(partial(self._query, queries))

    def _query(self, queries: Sequence[Query], limits: Limits) -> list[list[ScoredPoint]]:
        """A query for more results than the server gives at once is asked in several parts."""
        parts = [(n, part) for n, query in enumerate(queries) for part in _parts(query, limits)]
        found: list[list[ScoredPoint]] = [[] for _ in queries]
        for at, size in windows(0, len(parts), limits.searches):
            some = parts[at : at + size]
            with self._errors(("filter",), [part.filter for _, part in some]):
                params = self._params()
                requests = [_request(part, params) for _, part in some]
                answers = self._client.query_batch_points(self._name, requests=requests)
            for (n, _), answer in zip(some, answers, strict=False):
                found[n] += map(_scored, answer.points)
        return [_best(points, query) for points, query in zip(found, queries, strict=True)]

    def retrieve(self, ids: Sequence[UUID], *, vectors: bool = False) -> dict[UUID, Record]:
        if not ids:
            return {}
        with self._errors():
            records = self._client.retrieve(
                self._name,
                ids=[str(point) for point in ids],
                with_payload=True,
                with_vectors=vectors,
            )
        return {record.id: record for record in map(_record, records)}

    def scroll(
        self,
        limit: int,
        *,
        filter: Filter | None = None,  # noqa: A002 - Qdrant's own word
        cursor: UUID | None = None,
        vectors: bool = False,
        scan: bool = False,
    ) -> tuple[list[Record], UUID | None]:
        try:
            return self._within(partial(self._page, limit, filter, cursor, vectors))
        except InvalidQuery:
            if not scan or filter is None:
                raise
        return self._scan(limit, filter, cursor, vectors)

    def _page(
        self,
        limit: int,
        wanted: Filter | None,
        cursor: UUID | None,
        vectors: bool,
        limits: Limits,
    ) -> tuple[list[Record], UUID | None]:
        """Of several pages of the server, if it does not give as many at once."""
        page: list[Record] = []
        while True:
            with self._errors(("filter",), [wanted]):
                records, following = self._client.scroll(
                    self._name,
                    scroll_filter=_filter(wanted),
                    limit=least(limit - len(page), limits.results),
                    offset=None if cursor is None else str(cursor),
                    with_payload=True,
                    with_vectors=vectors,
                )
            page += map(_record, records)
            cursor = None if following is None else UUID(str(following))
            if cursor is None or len(page) >= limit:
                return page, cursor

    def _scan(
        self, limit: int, wanted: Filter, cursor: UUID | None, vectors: bool
    ) -> tuple[list[Record], UUID | None]:
        """Matches the filter here: against the points that it names, else against some of all."""
        read, following = self._candidates_of(wanted, cursor, vectors)
        fitting = [record for record in read if matches(wanted, record)]
        rest = fitting[limit:]
        return fitting[:limit], rest[0].id if rest else following

    def _candidates_of(
        self, wanted: Filter, cursor: UUID | None, vectors: bool
    ) -> tuple[list[Record], UUID | None]:
        points = named(wanted)
        if points is None:
            return self.scroll(_SCANNED, cursor=cursor, vectors=vectors)
        ids = sorted(point for point in points if cursor is None or point >= cursor)
        stored = self.retrieve(ids, vectors=vectors)
        return [stored[point] for point in ids if point in stored], None

    def count(self, filter: Filter | None = None) -> int:  # noqa: A002
        with self._errors(("filter",), [filter]):
            answer = self._client.count(self._name, count_filter=_filter(filter), exact=True)
        return answer.count

    def facet(
        self,
        field: str,
        limit: int = 100,
        filter: Filter | None = None,  # noqa: A002
    ) -> list[tuple[str | int | bool, int]]:
        common.check_facet(field, self._indexes)
        with self._errors(("field",), [filter]):
            answer = self._client.facet(
                self._name,
                key=json_path(field),
                facet_filter=_filter(filter),
                limit=least(limit, self._allowed().results),
                exact=True,
            )
        return [(hit.value, hit.count) for hit in answer.hits if hit.count]

    def bounds(
        self,
        field: str,
        filter: Filter | None = None,  # noqa: A002
    ) -> tuple[float, float] | None:
        common.check_bounds(field, self._indexes)
        least = self._first(field, models.Direction.ASC, filter)
        greatest = self._first(field, models.Direction.DESC, filter)
        return None if least is None or greatest is None else (least, greatest)

    def _first(
        self, field: str, direction: models.Direction, wanted: Filter | None
    ) -> float | None:
        with self._errors(("filter",), [wanted]):
            records, _ = self._client.scroll(
                self._name,
                scroll_filter=_filter(wanted),
                limit=1,
                order_by=models.OrderBy(key=json_path(field), direction=direction),
                with_payload=False,
            )
        value = records[0].order_value if records else None
        return None if value is None else float(value)

    def delete(self, ids: Sequence[UUID]) -> None:
        if not ids:
            return
        points = models.PointIdsList(points=[str(point) for point in ids])
        self._purge.note()
        with self._errors(writes=True):
            self._client.delete(self._name, points_selector=points, wait=True)
        self._purge.note()

    @property
    def purge_due(self) -> bool:
        """After deletions. What was overwritten alone goes with the next purge."""
        return self._purge.is_due

    def purge(self, tick: Callable[[], None] | None = None) -> None:
        """Has the server write its files anew; it cuts off its log some seconds later.

        On a cluster, only the node that answers is waited for. Raises StoreUnavailable, with the
        purge still due, if the server does not do it.
        """
        self._purge.run(tick or _no_tick)

    def flush(self) -> None:
        """Nothing is left to do: every write waits for the server, which keeps a log of its own."""

    def close(self) -> None:
        self._streams.shutdown()
        self._client.close()

    # --- the collection ----------------------------------------------------------------------

    def _open(self, collection: str, claim: common.Claim) -> None:
        """Makes the collection and its alias where they are missing.

        Workers that start together may all do this: the losers find what the first one made.
        """
        self._check(collection)
        claim()
        aliased = self._check(collection)  # again: until the claim, another encoder could fill it
        if not self._client.collection_exists(self._name):
            self._create()
        if aliased != self._name:
            self._alias(collection, replacing=aliased)

    def _check(self, collection: str) -> str | None:
        """What the alias names. Raises Conflict or EncoderMismatch."""
        aliased = self._aliased(collection)
        if aliased is None and self._client.collection_exists(collection):
            # The name is an alias, too, which another worker made between the two questions.
            aliased = self._aliased(collection)
            if aliased is None:
                raise Conflict(
                    f"Qdrant has a collection {collection!r} that Kindred did not make. Choose "
                    "another name (KINDRED_COLLECTION)."
                )
        if aliased is not None and aliased != self._name:
            self._adopt_or_refuse(collection, aliased)
        return aliased

    def _aliased(self, collection: str) -> str | None:
        aliases = self._client.get_aliases().aliases
        return next((a.collection_name for a in aliases if a.alias_name == collection), None)

    def _adopt_or_refuse(self, collection: str, aliased: str) -> None:
        """By what is recorded: older versions hashed the model's path into the name too."""
        recorded = (self._client.get_collection(aliased).config.metadata or {}).get("encoder")
        theirs = EncoderInfo.model_validate(recorded) if recorded else None
        if theirs and theirs.identity == self._encoder.identity:
            self._name = aliased
        elif self._client.count(aliased, exact=True).count:
            raise common.mismatch(f"the collection {collection!r}", theirs, self._encoder)

    def _create(self) -> None:
        vectors = models.VectorParams(
            size=self._encoder.dimensions, distance=models.Distance.COSINE
        )
        metadata = {"encoder": self._encoder.model_dump(mode="json")}
        try:
            self._client.create_collection(self._name, vectors_config=vectors, metadata=metadata)
        except ERRORS:
            if not self._client.collection_exists(self._name):
                raise

    def _alias(self, collection: str, replacing: str | None) -> None:
        """In one request, so that readers never find the alias missing."""
        delete = models.DeleteAlias(alias_name=collection)
        create = models.CreateAlias(collection_name=self._name, alias_name=collection)
        replaced = [models.DeleteAliasOperation(delete_alias=delete)] if replacing else []
        self._client.update_collection_aliases(
            change_aliases_operations=[*replaced, models.CreateAliasOperation(create_alias=create)]
        )

    def _try_to_write(self) -> None:
        """A key that may only read is a wrong setting. A full disk is not: searches work."""
        nobody = models.PointIdsList(points=[str(uuid4())])
        with suppress(StoreUnavailable, InvalidQuery), errors_at_start():
            self._client.delete(self._name, points_selector=nobody, wait=True)

    # --- each request ------------------------------------------------------------------------

    @contextmanager
    def _errors(
        self,
        path: tuple[str | int, ...] = (),
        filters: Sequence[Filter | None] = (),
        *,
        writes: bool = False,
    ) -> Iterator[None]:
        errors = server_errors(path, filters, writes=writes)
        try:
            with self.outage.watching(writes=writes), errors:
                yield
        except (InvalidQuery, StoreUnavailable):
            self._limits = None  # they may have become others
            raise

    def _together(self, calls: Sequence[Callable[[], None]]) -> None:
        """Runs them in several threads. Raises what one raises, when all have ended."""
        if len(calls) <= 1:
            for call in calls:
                call()
            return
        running = [self._streams.submit(call) for call in calls]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:
            for each in running:
                each.cancel()  # unless it has begun
            wait(running)
        for each in running:
            if not each.cancelled():
                each.result()

    def _within(self, call: Callable[[Limits], T]) -> T:
        """Calls it with the server's limits; again, if it is refused and they are others now."""
        limits = self._allowed()
        try:
            return call(limits)
        except InvalidQuery:
            if self._allowed() == limits:
                raise
        return call(self._allowed())

    def _allowed(self) -> Limits:
        """What strict mode allows, as it was read at the start or after a refusal."""
        limits = self._limits
        if limits is None:
            with self._errors():
                limits = self._limits = self._read_limits()
        return limits

    def _read_limits(self) -> Limits:
        return Limits.of(self._client.get_collection(self._name))

    def _params(self) -> models.SearchParams | None:
        """How to search, by the size of the collection. None: as the server does by itself."""
        if time.monotonic() - self._counted >= _COUNT_AGAIN:
            self._counted = time.monotonic()
            self._candidates = _candidates(self._client.get_collection(self._name))
        return None if self._candidates is None else models.SearchParams(hnsw_ef=self._candidates)


def _no_tick() -> None:
    """For a caller that needs no heartbeat."""


# --- the client's classes ------------------------------------------------------------------------


def _filter(wanted: Filter | None) -> models.Filter | None:
    return None if wanted is None else models.Filter.model_validate(wanted.to_qdrant())


def _candidates(info: models.CollectionInfo) -> int | None:
    """As many as the server's strict mode allows."""
    points, strict = info.points_count or 0, info.config.strict_mode_config
    wanted = next((candidates for least, candidates in _CANDIDATES if points >= least), None)
    most = strict.search_max_hnsw_ef if strict and strict.enabled else None
    return wanted if wanted is None or most is None else min(wanted, most)


def _parts(query: Query, limits: Limits) -> list[Query]:
    runs = windows(query.offset, query.offset + query.limit, limits.results)
    return [replace(query, offset=offset, limit=size) for offset, size in runs]


def _best(points: Sequence[ScoredPoint], query: Query) -> list[ScoredPoint]:
    """Parts of a query may overlap, since the index is walked further for the later ones."""
    found: dict[UUID, ScoredPoint] = {}
    for point in points:
        found.setdefault(point.id, point)
    return sorted(found.values(), key=lambda point: -point.score)[: query.limit]


def _request(query: Query, params: models.SearchParams | None) -> models.QueryRequest:
    return models.QueryRequest(
        query=_target(query.target),
        limit=query.limit,
        offset=query.offset,
        filter=_filter(query.filter),
        score_threshold=query.score_threshold,
        with_payload=_selection(query),
        params=models.SearchParams(exact=True) if query.exact else params,
    )


def _target(target: Vectors | Examples) -> list[float] | models.RecommendQuery:
    if isinstance(target, Examples):
        examples = models.RecommendInput(
            positive=target.positive.tolist(),
            negative=target.negative.tolist(),
            strategy=models.RecommendStrategy.BEST_SCORE,
        )
        return models.RecommendQuery(recommend=examples)
    vector: list[float] = target.tolist()
    return vector


def _selection(query: Query) -> bool | models.PayloadSelector:
    if query.include is not None:
        include = [json_path(field) for field in query.include]
        return models.PayloadSelectorInclude(include=include)
    if query.exclude is not None:
        exclude = [json_path(field) for field in query.exclude]
        return models.PayloadSelectorExclude(exclude=exclude)
    return True


def _overwrite(point: UUID, payload: Payload) -> models.UpdateOperation:
    """By filter, because by id Qdrant refuses the whole request for a point that is gone by now."""
    stored = models.Filter(must=[models.HasIdCondition(has_id=[str(point)])])
    change = models.SetPayload(payload=payload, filter=stored)
    return models.OverwritePayloadOperation(overwrite_payload=change)


def _scored(point: models.ScoredPoint) -> ScoredPoint:
    return ScoredPoint(UUID(str(point.id)), point.score, point.payload or {})


def _record(record: models.Record) -> Record:
    vector = None if record.vector is None else np.asarray(record.vector, np.float32)
    return Record(UUID(str(record.id)), record.payload or {}, vector)
