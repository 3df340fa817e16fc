"""The store on a Qdrant server: one node, a cluster or the cloud, through qdrant-client.

Vectors lie in the collection `{collection}-{fingerprint}`, whose metadata holds the encoder. The
alias `{collection}` says which encoder's collection is in use; it is followed once, at the start,
because vectors of this encoder mean nothing in another one's collection.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from uuid import UUID

import numpy as np
from grpc import Call, RpcError, StatusCode  # type: ignore[import-untyped]
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from pipeline.base.errors import Conflict, InvalidQuery, StoreUnavailable
from pipeline.messages import EncoderInfo, Payload
from pipeline.messages.filters import Filter, json_path
from pipeline.store import common
from pipeline.store.base import Examples, Points, Query, Record, ScoredPoint, Vectors

_TIMEOUT = 30  # seconds a request; the client's own 5 are short for a write to a busy cluster


class ServerStore:
    """`indexes` maps payload fields to index types. The client is closed with the store.

    Raises EncoderMismatch when another encoder has filled the collection, Conflict when its name is
    taken, and StoreUnavailable when the server cannot be reached.
    """

    def __init__(
        self,
        client: QdrantClient,
        collection: str,
        encoder: EncoderInfo,
        indexes: Mapping[str, str],
    ) -> None:
        self._client = client
        self._encoder = encoder
        self._indexes = indexes
        self._name = common.data_name(collection, encoder)
        with _errors():
            self._open(collection)
            self._index()

    @classmethod
    def connect(
        cls,
        url: str,
        api_key: str | None,
        collection: str,
        encoder: EncoderInfo,
        indexes: Mapping[str, str],
    ) -> "ServerStore":
        """Over gRPC, which Qdrant serves on port 6334 beside HTTP on the port of `url`."""
        client = QdrantClient(
            url=url,
            api_key=api_key,
            prefer_grpc=True,
            timeout=_TIMEOUT,
            check_compatibility=False,  # a request of its own, whose failure is but a warning
        )
        return cls(client, collection, encoder, indexes)

    @property
    def encoder(self) -> EncoderInfo:
        return self._encoder

    def upsert(self, points: Points) -> None:
        common.check_points(points, self._encoder.dimensions)
        for start in range(0, len(points.ids), common.BATCH):
            part = slice(start, start + common.BATCH)
            batch = models.Batch(
                ids=[str(point) for point in points.ids[part]],
                vectors=points.vectors[part].tolist(),
                payloads=[*points.payloads[part]],
            )
            with _errors():
                self._client.upsert(self._name, points=batch, wait=True)

    def set_payloads(self, payloads: Mapping[UUID, Payload]) -> None:
        updates = [_overwrite(point, payload) for point, payload in payloads.items()]
        for start in range(0, len(updates), common.BATCH):
            part = updates[start : start + common.BATCH]
            with _errors():
                self._client.batch_update_points(self._name, update_operations=part, wait=True)

    def query(self, queries: Sequence[Query]) -> list[list[ScoredPoint]]:
        common.check_queries(queries, self._encoder.dimensions)
        if not queries:
            return []
        requests = [_request(query) for query in queries]
        with _errors(("filter",)):
            answers = self._client.query_batch_points(self._name, requests=requests)
        return [[_scored(point) for point in answer.points] for answer in answers]

    def retrieve(self, ids: Sequence[UUID], *, vectors: bool = False) -> dict[UUID, Record]:
        if not ids:
            return {}
        with _errors():
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
    ) -> tuple[list[Record], UUID | None]:
        with _errors(("filter",)):
            records, following = self._client.scroll(
                self._name,
                scroll_filter=_filter(filter),
                limit=limit,
                offset=None if cursor is None else str(cursor),
                with_payload=True,
                with_vectors=vectors,
            )
        page = [_record(record) for record in records]
        return page, None if following is None else UUID(str(following))

    def count(self, filter: Filter | None = None) -> int:  # noqa: A002
        with _errors(("filter",)):
            answer = self._client.count(self._name, count_filter=_filter(filter), exact=True)
        return answer.count

    def facet(
        self,
        field: str,
        limit: int = 100,
        filter: Filter | None = None,  # noqa: A002
    ) -> list[tuple[str | int | bool, int]]:
        common.check_facet(field, self._indexes)
        with _errors(("field",)):
            answer = self._client.facet(
                self._name,
                key=json_path(field),
                facet_filter=_filter(filter),
                limit=limit,
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
        with _errors(("filter",)):
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
        with _errors():
            self._client.delete(self._name, points_selector=points, wait=True)

    @property
    def purge_due(self) -> bool:
        """Never: there is nothing that a client could do."""
        return False

    def purge(self, tick: Callable[[], None] | None = None) -> None:
        """Does nothing. A deleted point's bytes stay in the server's files until its optimizer
        rewrites the segment, and in its log until that is cut off; the API can force neither."""

    def flush(self) -> None:
        """Nothing is left to do: every write waits for the server, which keeps a log of its own."""

    def close(self) -> None:
        self._client.close()

    # --- the collection ----------------------------------------------------------------------

    def _open(self, collection: str) -> None:
        """Makes the collection and its alias where they are missing.

        Workers that start together may all do this: the losers find what the first one made.
        """
        aliased = self._aliased(collection)
        if aliased is None and self._client.collection_exists(collection):
            raise Conflict(
                f"Qdrant has a collection {collection!r} that Kindred did not make. Choose another "
                "name (KINDRED_COLLECTION)."
            )
        if aliased is not None and aliased != self._name:
            self._adopt_or_refuse(collection, aliased)
        if not self._client.collection_exists(self._name):
            self._create()
        if aliased != self._name:
            self._alias(collection, replacing=aliased)

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
        except (RpcError, UnexpectedResponse):
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

    def _index(self) -> None:
        """Adds the payload indexes that are missing, and replaces those of another type."""
        existing = self._client.get_collection(self._name).payload_schema
        for field, kind in self._indexes.items():
            path, wanted = json_path(field), models.PayloadSchemaType(kind)
            if path in existing and existing[path].data_type == wanted:
                continue
            if path in existing:
                self._client.delete_payload_index(self._name, path, wait=True)
            self._client.create_payload_index(self._name, path, wanted, wait=True)


@contextmanager
def _errors(path: tuple[str | int, ...] = ()) -> Iterator[None]:
    """Qdrant's errors as ours. What a server says is left out: it can repeat a filter's values."""
    try:
        yield
    except (RpcError, ApiException, ResourceExhaustedResponse) as error:
        refused, reason = _read(error)
        if refused:
            raise InvalidQuery(f"Qdrant does not take this request ({reason})", path) from None
        raise StoreUnavailable(f"Qdrant did not do as asked ({reason})") from None


def _read(error: Exception) -> tuple[bool, str]:
    """Whether the request itself is at fault, and the error's name."""
    if isinstance(error, Call):
        code = error.code()
        return code in (StatusCode.INVALID_ARGUMENT, StatusCode.OUT_OF_RANGE), code.name
    if isinstance(error, UnexpectedResponse):
        return error.status_code in (400, 422), f"HTTP {error.status_code}"
    return False, type(error).__name__


# --- the client's classes ------------------------------------------------------------------------


def _filter(wanted: Filter | None) -> models.Filter | None:
    return None if wanted is None else models.Filter.model_validate(wanted.to_qdrant())


def _request(query: Query) -> models.QueryRequest:
    return models.QueryRequest(
        query=_target(query.target),
        limit=query.limit,
        offset=query.offset,
        filter=_filter(query.filter),
        score_threshold=query.score_threshold,
        with_payload=_selection(query),
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
