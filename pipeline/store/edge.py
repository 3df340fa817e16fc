"""The store in the worker's own process: Qdrant's engine (qdrant-edge) in a folder.

    DATA/store/{collection}/
        lock                           held by the one worker that owns the folder
        alias.json                     {"shard": "{collection}-{fingerprint}"}: what is read
        {collection}-{fingerprint}/    one encoder's vectors
            encoder.json               which encoder that is
            edge_config.json, segments/, wal/    the engine's

The binding holds Python's interpreter lock in every call, so calls of several threads run one after
the other and need no lock of ours; writes and batches are cut small for it. `optimize()` would
hold it for tens of seconds and is never called: without an HNSW graph, search is exact.
"""

import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from pipeline.errors import InvalidQuery, KindredError, StoreLocked, StoreUnavailable
from pipeline.filters import Filter, json_path
from pipeline.messages import EncoderInfo, Payload
from pipeline.store import common
from pipeline.store.base import Examples, Points, Query, Record, ScoredPoint, Vectors
from pipeline.store.edge_filters import to_edge

# What must be free on the disk for a write. The engine writes through mapped files, so a disk that
# is full does not fail a call: it ends the process (SIGBUS). One segment of its log takes 32 MiB.
_LEAST_FREE = 64 * 2**20

# Comparisons of a query with a point in one call, during which all other threads wait: measured, a
# call takes 3 ms, and 70 ms more for a million of them.
_COMPARISONS = 500_000


class EdgeStore:
    """`folder` is created where it is missing; `indexes` maps payload fields to index types.

    Raises StoreLocked when another worker owns the folder, and EncoderMismatch when another encoder
    has filled the collection.
    """

    def __init__(
        self, folder: Path, collection: str, encoder: EncoderInfo, indexes: Mapping[str, str]
    ) -> None:
        common.check_indexes(indexes)
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._encoder = encoder
        self._indexes = indexes
        self._lock: int | None = _own(folder)
        try:
            self._shard = _open(folder, collection, encoder)
            _index(self._shard, indexes)
        except BaseException:
            self._release()
            raise

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
            self._update(edge.UpdateOperation.upsert_points([edge.Point(*row) for row in rows]))

    def set_payloads(self, payloads: Mapping[UUID, Payload]) -> None:
        for point, payload in payloads.items():
            # By filter, because by id the engine raises for a point that is gone by now.
            held = edge.Filter(must=[edge.HasIdCondition({point})])
            self._update(edge.UpdateOperation.overwrite_payload_by_filter(held, payload))

    def query(self, queries: Sequence[Query]) -> list[list[ScoredPoint]]:
        common.check_queries(queries, self._encoder.dimensions)
        found: list[list[ScoredPoint]] = []
        with self._reading():
            size = max(1, _COMPARISONS // max(1, self._shard.info().points_count))
        for start in range(0, len(queries), size):
            with self._reading():
                requests = [_request(query) for query in queries[start : start + size]]
                answers = self._shard.query_batch(edge.QueryBatchRequest(requests))
            found += ([_scored(point) for point in answer] for answer in answers)
        return found

    def retrieve(self, ids: Sequence[UUID], *, vectors: bool = False) -> dict[UUID, Record]:
        with self._reading():
            records = self._shard.retrieve([*ids], with_payload=True, with_vector=vectors)
        return {record.id: record for record in map(_record, records)}

    def scroll(
        self,
        limit: int,
        *,
        filter: Filter | None = None,  # noqa: A002 - Qdrant's own word
        cursor: UUID | None = None,
        vectors: bool = False,
    ) -> tuple[list[Record], UUID | None]:
        with self._reading():
            records, following = self._shard.scroll(
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
        with self._reading():
            return self._shard.count(edge.CountRequest(exact=True, filter=_filter(filter)))

    def facet(
        self,
        field: str,
        limit: int = 100,
        filter: Filter | None = None,  # noqa: A002
    ) -> list[tuple[str | int | bool, int]]:
        common.check_facet(field, self._indexes)
        request = edge.FacetRequest(json_path(field), limit, exact=True, filter=_filter(filter))
        with self._reading():
            answer = self._shard.facet(request)
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
        with self._reading():
            records, _ = self._shard.scroll(request)
        return records[0].order_value if records else None

    def delete(self, ids: Sequence[UUID]) -> None:
        self._update(edge.UpdateOperation.delete_points([*ids]))

    def flush(self) -> None:
        with self._writing():
            self._shard.flush()

    def close(self) -> None:
        """A second call does nothing; any other call after it raises StoreUnavailable."""
        if self._lock is None:
            return
        try:
            self._shard.flush()
            self._shard.close()
        finally:
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _update(self, operation: edge.UpdateOperation) -> None:
        """In the write-ahead log when it returns, so that no kill of the process loses it."""
        if shutil.disk_usage(self._folder).free < _LEAST_FREE:
            raise StoreUnavailable(f"the disk of the store in {self._folder} is full")
        with self._writing():
            self._shard.update(operation)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the engine raises bare Exceptions
            raise StoreUnavailable(f"the store in {self._folder} takes no writes") from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (TypeError, ValueError, OverflowError):
            raise InvalidQuery("the engine does not take this query", ("filter",)) from None
        except Exception as error:  # the engine raises bare Exceptions
            raise StoreUnavailable(f"the store in {self._folder} cannot be read") from error


# --- the folder --------------------------------------------------------------------------------


def _own(folder: Path) -> int:
    """A descriptor that keeps other processes out until it is closed, by us or by our death."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock, 200, 0).decode(errors="replace") or "another process"
        os.close(lock)
        raise _locked(folder, owner) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    return lock


def _locked(folder: Path, owner: str) -> StoreLocked:
    return StoreLocked(
        f"another worker ({owner}) owns the embedded store in {folder}. One worker can open it: "
        "stop that one, or give this one another KINDRED_DATA, or let both use a Qdrant server "
        "(KINDRED_QDRANT_URL)."
    )


def _open(folder: Path, collection: str, encoder: EncoderInfo) -> edge.EdgeShard:
    """The encoder's shard, made and aliased where it is missing.

    Each step is whole or absent on disk, and a start that was cut off is finished by the next one.
    """
    name = common.data_name(collection, encoder)
    alias = folder / "alias.json"
    aliased = _read_json(alias).get("shard")
    if aliased and aliased != name:
        _refuse_unless_empty(folder / aliased, encoder)
    if not (folder / name).exists():
        _create(folder / name, encoder)
    shard = _load(folder / name)
    if aliased != name:
        _write_json(alias, {"shard": name})
    return shard


def _refuse_unless_empty(path: Path, ours: EncoderInfo) -> None:
    """Raises EncoderMismatch when the shard that another encoder made holds points."""
    if not path.exists():
        return
    shard = _load(path)
    held = shard.count(edge.CountRequest(exact=True))
    shard.close()
    if held:
        recorded = _read_json(path / "encoder.json")
        theirs = EncoderInfo.model_validate(recorded) if recorded else None
        raise common.mismatch(f"the embedded store in {path.parent}", theirs, ours)


def _create(path: Path, encoder: EncoderInfo) -> None:
    """Built aside and renamed, since the engine neither opens nor replaces half a shard."""
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    _write_json(part / "encoder.json", encoder.model_dump(mode="json"))
    vectors = edge.EdgeVectorParams(size=encoder.dimensions, distance=edge.Distance.Cosine)
    shard = edge.EdgeShard.create(str(part), edge.EdgeConfig(vectors=vectors, wal_enabled=True))
    shard.flush()
    shard.close()
    part.rename(path)


def _load(path: Path) -> edge.EdgeShard:
    try:
        return edge.EdgeShard.load(str(path))
    except Exception as error:
        # The engine's own lock, on its log: a program other than ours has the shard open.
        if "WouldBlock" in str(error):
            raise _locked(path, "a program that is not Kindred") from error
        raise KindredError(f"the shard in {path} cannot be opened: {error}") from error


def _index(shard: edge.EdgeShard, indexes: Mapping[str, str]) -> None:
    """Adds the payload indexes that are missing, and replaces those of another type."""
    held = shard.info().payload_schema
    for field, kind in indexes.items():
        path, wanted = json_path(field), getattr(edge.PayloadSchemaType, kind.capitalize())
        if path in held and held[path].data_type == wanted:
            continue
        if path in held:
            shard.update(edge.UpdateOperation.delete_field_index(path))
        shard.update(edge.UpdateOperation.create_field_index(path, wanted))


def _read_json(path: Path) -> dict[str, Any]:
    """What is not there reads as empty."""
    try:
        value: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return value


def _write_json(path: Path, value: dict[str, Any]) -> None:
    """Whole or not at all, also across a power cut."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


# --- the engine's classes ------------------------------------------------------------------------


def _filter(wanted: Filter | None) -> edge.Filter | None:
    return None if wanted is None else to_edge(wanted)


def _request(query: Query) -> edge.QueryRequest:
    return edge.QueryRequest(
        query=_target(query.target),
        limit=query.limit,
        offset=query.offset,
        filter=_filter(query.filter),
        score_threshold=query.score_threshold,
        with_payload=_selection(query),
    )


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
