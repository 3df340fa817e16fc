"""The store in the worker's own process: Qdrant's engine (qdrant-edge) in a folder.

The binding holds Python's interpreter lock in every call, so calls of several threads run one after
the other; writes and batches are cut small for it. Few points are compared with one by one, which
is exact. For many, an index (HNSW) is built aside, in another process (`edge_generations.py`),
since the engine would hold the lock for minutes; what is written later is compared with beside it.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from pipeline.base.errors import InvalidQuery, KindredError, StoreUnavailable
from pipeline.base.outage import Outage
from pipeline.messages import EncoderInfo, Payload
from pipeline.messages.filters import Filter, json_path
from pipeline.store import common, edge_folder
from pipeline.store.base import Examples, Points, Query, Record, ScoredPoint, Vectors
from pipeline.store.edge_current import Current
from pipeline.store.edge_due import PurgeDue
from pipeline.store.edge_filters import to_edge
from pipeline.store.edge_folder import Folder
from pipeline.store.edge_generations import Generations, Stopped
from pipeline.store.edge_index import Indexer

# Comparisons of a query with a point in one call, during which all other threads wait: measured, a
# call takes 3 ms, and 70 ms more for a million of them.
_COMPARISONS = 500_000

# How many candidates a search keeps while it walks the graph; more of them find more of the
# nearest. A filter tears holes into the graph. ACORN looks past them, a step further, which finds
# more for more work; if most points match, more candidates find as much for less. Measured on a
# million: docs/scale.md.
_WIDE = edge.SearchParams(hnsw_ef=1024)
_PAST_HOLES = edge.SearchParams(
    hnsw_ef=240, acorn=edge.AcornSearchParams(enable=True, max_selectivity=1.0)
)
_EXACT = edge.SearchParams(exact=True)
_MOST = 0.6  # of all points
_WALK_COMPARISONS = 20_000  # about; they are of points that lie apart in memory


class EdgeStore:
    """`folder` is created where it is missing; `indexes` maps payload fields to index types.

    With `index_from` points or more, searches walk a graph that is built aside (0: never).

    Raises StoreLocked when another worker owns the folder, and EncoderMismatch when another encoder
    has filled the collection.
    """

    def __init__(
        self,
        folder: Path,
        collection: str,
        encoder: EncoderInfo,
        indexes: Mapping[str, str],
        index_from: int = 0,
    ) -> None:
        generations = Folder(folder, collection, encoder)
        self._folder = folder
        self._encoder = encoder
        self._indexes = indexes
        self._lock: int | None = edge_folder.own(folder)
        try:
            path, shard = generations.open()
            edge_folder.add_indexes(shard, indexes)
        except BaseException as error:
            self._release()
            if isinstance(error, KindredError) or not isinstance(error, Exception):
                raise
            # A full disk, say; the engine raises bare Exceptions.
            raise StoreUnavailable(f"the store in {folder} cannot be opened") from error
        self.outage = Outage()
        self._current = Current(shard)
        self._due = PurgeDue(folder)
        self._generations = Generations(
            generations, path, self._current, self._due, indexes, index_from
        )
        self._indexer = Indexer(self._generations, self._current, index_from)
        self._indexer.maybe_build()

    @property
    def encoder(self) -> EncoderInfo:
        return self._encoder

    def upsert(self, points: Points) -> None:
        common.check_points(points, self._encoder.dimensions)
        for start in range(0, len(points.ids), common.BATCH):
            part = slice(start, start + common.BATCH)
            # Lists cross into the engine faster than arrays: 7 ms against 8 for 256 x 384.
            rows = zip(
                points.ids[part], points.vectors[part].tolist(), points.payloads[part], strict=True
            )
            operation = edge.UpdateOperation.upsert_points([edge.Point(*row) for row in rows])
            self._update(operation, points.ids[part])
        self._indexer.maybe_build()

    def set_payloads(self, payloads: Mapping[UUID, Payload]) -> None:
        for point, payload in payloads.items():
            # By filter, because by id the engine raises for a point that is gone by now.
            stored = edge.Filter(must=[edge.HasIdCondition({point})])
            self._update(edge.UpdateOperation.overwrite_payload_by_filter(stored, payload), [point])

    def query(self, queries: Sequence[Query]) -> list[list[ScoredPoint]]:
        common.check_queries(queries, self._encoder.dimensions)
        found: list[list[ScoredPoint]] = []
        while len(found) < len(queries):
            with self._reading() as shard:  # between two calls it may be exchanged
                info = shard.info()
                exact = any(query.exact for query in queries)
                size = max(1, _COMPARISONS // _comparisons(info, exact))
                some = queries[len(found) : len(found) + size]
                requests = [_request(query, shard, info) for query in some]
                answers = shard.query_batch(edge.QueryBatchRequest(requests))
            found += ([_scored(point) for point in answer] for answer in answers)
        return found

    def retrieve(self, ids: Sequence[UUID], *, vectors: bool = False) -> dict[UUID, Record]:
        with self._reading() as shard:
            records = shard.retrieve([*ids], with_payload=True, with_vector=vectors)
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
        with self._reading() as shard:
            records, following = shard.scroll(
                edge.ScrollRequest(
                    offset=cursor,
                    limit=limit,
                    filter=_filter(filter),
                    with_payload=True,
                    with_vector=vectors,
                )
            )
        return [_record(record) for record in records], cast("UUID | None", following)

    def count(self, filter: Filter | None = None) -> int:  # noqa: A002
        with self._reading() as shard:
            return shard.count(edge.CountRequest(exact=True, filter=_filter(filter)))

    def facet(
        self,
        field: str,
        limit: int = 100,
        filter: Filter | None = None,  # noqa: A002
    ) -> list[tuple[str | int | bool, int]]:
        common.check_facet(field, self._indexes)
        request = edge.FacetRequest(json_path(field), limit, exact=True, filter=_filter(filter))
        with self._reading() as shard:
            answer = shard.facet(request)
        # The engine's index remembers values that no point has any more, with a count of 0.
        return [(hit.value, hit.count) for hit in answer.hits if hit.count]

    def bounds(
        self,
        field: str,
        filter: Filter | None = None,  # noqa: A002
    ) -> tuple[float, float] | None:
        common.check_bounds(field, self._indexes)
        least = self._first(field, edge.Direction.Asc, filter)
        greatest = self._first(field, edge.Direction.Desc, filter)
        return None if least is None or greatest is None else (least, greatest)

    def _first(self, field: str, direction: edge.Direction, wanted: Filter | None) -> float | None:
        request = edge.ScrollRequest(
            limit=1,
            order_by=edge.OrderBy(json_path(field), direction),
            filter=_filter(wanted),
            with_payload=False,
        )
        with self._reading() as shard:
            records, _ = shard.scroll(request)
        return records[0].order_value if records else None

    def delete(self, ids: Sequence[UUID]) -> None:
        self._update(edge.UpdateOperation.delete_points([*ids]), ids)

    def flush(self) -> None:
        with self._writing() as shard:
            shard.flush()

    @property
    def purge_due(self) -> bool:
        return bool(self._due)

    def purge(self, tick: Callable[[], None] | None = None) -> None:
        """Copies all points into a new shard, in this thread; searches and writes go on meanwhile.

        With 384 dimensions and ten payload fields it takes 1.5 s of processor time for 10,000
        points, 18 s for 100,000, and so in proportion; where there is an index, the time to build
        it comes on top. An index that is being built goes first. A call that finds another purge
        under way waits for it, and does one more if something was deleted after that one began.

        Raises StoreUnavailable, with the purge still due, when the disk has no room for the copy or
        the store is closed meanwhile; what `tick` raises ends the purge, too.
        """
        try:
            self._generations.purge(tick or _no_tick)
        except Stopped:
            raise StoreUnavailable(f"the store in {self._folder} is closed") from None
        except Exception as error:
            if type(error) is Exception or isinstance(error, OSError):  # the engine's, the disk's
                raise StoreUnavailable(f"the store in {self._folder} is not purged") from error
            raise

    def wait_until_idle(self) -> None:
        """Returns when no index is being built."""
        self._indexer.wait_until_idle()

    def close(self) -> None:
        """A second call does nothing; any other call after it raises StoreUnavailable."""
        if self._lock is None:
            return
        try:
            self._indexer.close()
            self._current.shard.flush()
            self._current.shard.close()
        finally:
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _update(self, operation: edge.UpdateOperation, ids: Sequence[UUID]) -> None:
        """In the write-ahead log when it returns, so that no kill of the process loses it."""
        with self.outage.watching(writes=True):
            edge_folder.check_free(self._folder)
            with self._writing(ids) as shard:
                self._due.note(shard, ids)
                shard.update(operation)

    @contextmanager
    def _writing(self, ids: Sequence[UUID] = ()) -> Iterator[edge.EdgeShard]:
        try:
            with self._current.writing(ids) as shard:
                yield shard
        except Exception as error:  # the engine raises bare Exceptions
            raise StoreUnavailable("the embedded store takes no writes") from error

    @contextmanager
    def _reading(self) -> Iterator[edge.EdgeShard]:
        with self.outage.watching():
            try:
                with self._current.reading() as shard:
                    yield shard
            except (TypeError, ValueError, OverflowError):
                raise InvalidQuery("the engine does not take this query", ("filter",)) from None
            except Exception as error:  # the engine raises bare Exceptions
                raise StoreUnavailable("the embedded store cannot be read") from error


def _no_tick() -> None:
    """For a caller that needs no heartbeat."""


# --- the engine's classes ------------------------------------------------------------------------


def _filter(wanted: Filter | None) -> edge.Filter | None:
    return None if wanted is None else to_edge(wanted)


def _comparisons(info: "edge.ShardInfo", exact: bool) -> int:
    """Of one query."""
    if exact:
        return max(1, info.points_count)
    walked = min(info.indexed_vectors_count, _WALK_COMPARISONS)
    return max(1, walked + info.points_count - info.indexed_vectors_count)


def _request(query: Query, shard: edge.EdgeShard, info: "edge.ShardInfo") -> edge.QueryRequest:
    fitting = _filter(query.filter)
    return edge.QueryRequest(
        query=_target(query.target),
        limit=query.limit,
        offset=query.offset,
        filter=fitting,
        score_threshold=query.score_threshold,
        with_payload=_selection(query),
        params=_EXACT if query.exact else _walk(fitting, shard, info),
    )


def _walk(
    fitting: edge.Filter | None, shard: edge.EdgeShard, info: "edge.ShardInfo"
) -> edge.SearchParams:
    """Without a graph it does not matter. The engine estimates how many fit, in a millisecond."""
    if fitting is None or not info.indexed_vectors_count:
        return _WIDE
    estimate = shard.count(edge.CountRequest(exact=False, filter=fitting))
    return _WIDE if estimate > _MOST * info.points_count else _PAST_HOLES


def _target(target: Vectors | Examples) -> edge.Query:
    if isinstance(target, Examples):
        examples = edge.RecommendQuery(target.positive.tolist(), target.negative.tolist())
        return edge.Query.RecommendBestScore(examples)
    return edge.Query.Nearest(target.tolist())


def _selection(query: Query) -> bool | edge.PayloadSelector:
    if query.include is not None:
        return edge.PayloadSelector.Include([json_path(field) for field in query.include])
    if query.exclude is not None:
        return edge.PayloadSelector.Exclude([json_path(field) for field in query.exclude])
    return True


def _scored(point: edge.ScoredPoint) -> ScoredPoint:
    return ScoredPoint(cast(UUID, point.id), point.score, point.payload or {})


def _record(record: edge.Record) -> Record:
    vector = None if record.vector is None else np.asarray(record.vector, np.float32)
    return Record(cast(UUID, record.id), record.payload or {}, vector)
