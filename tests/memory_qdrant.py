"""qdrant-client's in-memory stand-in, with what else of a server the store needs."""

import threading
from typing import Any

from qdrant_client import QdrantClient, models


class MemoryQdrant(QdrantClient):
    """Threads may write at once. It keeps nothing in files, so none is ever to be rewritten."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self._writing = threading.Lock()

    def upsert(self, *arguments: Any, **named: Any) -> models.UpdateResult:
        with self._writing:
            return super().upsert(*arguments, **named)

    def get_optimizations(self, *_: Any, **__: Any) -> models.OptimizationsResponse:
        summary = models.OptimizationsSummary(
            queued_optimizations=0, queued_segments=0, queued_points=0, idle_segments=0
        )
        return models.OptimizationsResponse(summary=summary, running=[])
