"""qdrant-client's in-memory stand-in, with what else of a server the store needs."""

import threading
from collections.abc import Iterator
from typing import Any

from grpc import Call, RpcError, StatusCode  # type: ignore[import-untyped]
from qdrant_client import QdrantClient, models


class Refused(RpcError):  # type: ignore[misc]
    """As grpc raises it: an error that is also the call."""

    def __init__(self, details: str) -> None:
        self._details = details

    def code(self) -> StatusCode:
        return StatusCode.INVALID_ARGUMENT

    def details(self) -> str:
        return self._details


Call.register(Refused)


class MemoryQdrant(QdrantClient):
    """Threads may write at once. It keeps nothing in files, so none is ever to be rewritten.

    Strict mode refuses as Qdrant 1.18's does, in its words.
    """

    def __init__(self) -> None:
        super().__init__(":memory:")
        self._writing = threading.Lock()
        self._strict: Any = models.StrictModeConfig()
        self._indexed: set[str] = set()

    def get_optimizations(self, *_: Any, **__: Any) -> models.OptimizationsResponse:
        summary = models.OptimizationsSummary(
            queued_optimizations=0, queued_segments=0, queued_points=0, idle_segments=0
        )
        return models.OptimizationsResponse(summary=summary, running=[])

    def get_collection(self, *arguments: Any, **named: Any) -> models.CollectionInfo:
        info = super().get_collection(*arguments, **named)
        strict = models.StrictModeConfigOutput(**self._strict.model_dump())
        info.config.strict_mode_config = strict
        return info

    def update_collection(self, name: str, *_: Any, **named: Any) -> bool:
        if (strict := named.pop("strict_mode_config", None)) is not None:
            given = {**self._strict.model_dump(), **strict.model_dump(exclude_none=True)}
            self._strict = models.StrictModeConfig(**given)
        return super().update_collection(name, **named)

    def create_payload_index(self, name: str, path: str, *rest: Any, **named: Any) -> Any:
        self._most(len({*self._indexed, path}), "max_payload_index_count")
        self._indexed.add(path)
        return super().create_payload_index(name, path, *rest, **named)

    def upsert(self, *arguments: Any, **named: Any) -> models.UpdateResult:
        self._limit(len(named["points"].ids), "upsert_max_batchsize", "upsert limit")
        with self._writing:
            return super().upsert(*arguments, **named)

    def query_batch_points(self, name: str, requests: Any, **named: Any) -> Any:
        self._limit(len(requests), "search_max_batchsize", "search batch size")
        for request in requests:
            self._read(request.filter, request.limit)
        return super().query_batch_points(name, requests=requests, **named)

    def scroll(self, name: str, scroll_filter: Any = None, limit: int = 10, **named: Any) -> Any:
        self._read(scroll_filter, limit)
        return super().scroll(name, scroll_filter=scroll_filter, limit=limit, **named)

    def count(self, name: str, count_filter: Any = None, **named: Any) -> Any:
        self._read(count_filter)
        return super().count(name, count_filter=count_filter, **named)

    def facet(self, name: str, facet_filter: Any = None, limit: int = 10, **named: Any) -> Any:
        self._read(facet_filter, limit)
        return super().facet(name, facet_filter=facet_filter, limit=limit, **named)

    def _read(self, wanted: models.Filter | None, limit: int | None = None) -> None:
        if limit is not None:
            self._limit(limit, "max_query_limit", "limit")
        conditions = [] if wanted is None else [*_conditions(wanted.model_dump(exclude_none=True))]
        if self._setting("unindexed_filtering_retrieve") is False:
            for key in (key for each in conditions if (key := _key(each)) is not None):
                if key not in self._indexed:
                    raise Refused(
                        f'Bad request: Index required but not found for "{key}" of one of the '
                        "following types: [keyword]. Help: Create an index for this key."
                    )
        self._most(len(conditions), "filter_max_conditions")
        for each in conditions:
            self._most(len(each.get("has_id", ())), "condition_max_size")

    def _limit(self, value: int, setting: str, name: str) -> None:
        most = self._setting(setting)
        if most is not None and value > most:
            raise Refused(f'Bad request: Limit exceeded {value} > {most} for "{name}". Help: Less.')

    def _most(self, value: int, setting: str) -> None:
        most = self._setting(setting)
        if most is not None and value > most:
            raise Refused(_SAID[setting].format(value=value, most=most))

    def _setting(self, name: str) -> Any:
        return getattr(self._strict, name) if self._strict.enabled else None


_SAID = {
    "filter_max_conditions": "Bad request: Filter condition limit reached ({value} > {most}).",
    "condition_max_size": "Bad request: Condition size limit reached ({value} > {most}).",
    "max_payload_index_count": "Bad request: Collection already has the maximum number of payload "
    "indices ({most}).",
}


def _conditions(part: Any) -> Iterator[dict[str, Any]]:
    """All conditions of a filter's JSON that hold no others."""
    for clause in ("must", "should", "must_not"):
        listed = part.get(clause) or []
        for each in listed if isinstance(listed, list) else [listed]:
            nested = {"must", "should", "must_not"} & each.keys()
            yield from _conditions(each) if nested else [each]


def _key(condition: dict[str, Any]) -> str | None:
    named = condition.get("is_empty") or condition.get("is_null") or condition
    key: str | None = named.get("key") if isinstance(named, dict) else condition.get("key")
    return key
