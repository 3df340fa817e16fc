"""The store's interface: vectors with payloads, by point id. One collection, read by its alias.

Both backends (`edge.py` in the process, `server.py` over the network) pass one conformance suite,
`tests/unit/test_store.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from pipeline.base.outage import Outage
from pipeline.messages import EncoderInfo, Payload
from pipeline.messages.filters import Filter

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Points:
    """`vectors` is float32 of shape (n, dimensions); `ids` and `payloads` run beside its rows."""

    ids: Sequence[UUID]
    vectors: Vectors
    payloads: Sequence[Payload]


@dataclass(frozen=True)
class Examples:
    """Like these and unlike those: float32 of shapes (n, dimensions), n > 0, and (m, dimensions).

    Scored by Qdrant's best_score: of a point's highest cosines p to a positive and n to a negative
    example, s(p) if p > n, else -s(n), with s(x) = (x / (1 + |x|) + 1) / 2.
    """

    positive: Vectors
    negative: Vectors


@dataclass(frozen=True)
class Query:
    """`target` is a vector, float32 of shape (dimensions,), scored by cosine; or examples.

    `include` and `exclude` name payload fields. `exact`: without an index, by comparing
    with every point.
    """

    target: Vectors | Examples
    limit: int
    filter: Filter | None = None
    offset: int = 0
    score_threshold: float | None = None
    include: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    exact: bool = False


@dataclass(frozen=True)
class ScoredPoint:
    id: UUID
    score: float
    payload: Payload


@dataclass(frozen=True)
class Record:
    """`vector` is there when it was asked for, scaled to length 1 (the engine keeps cosine so)."""

    id: UUID
    payload: Payload
    vector: Vectors | None = None


class Store(Protocol):
    """Safe to call from several threads.

    Every method raises StoreUnavailable when Qdrant cannot be reached, and InvalidQuery, with the
    path of the fault, when it will not take a query.
    """

    @property
    def encoder(self) -> EncoderInfo:
        """What filled this collection."""
        ...

    @property
    def outage(self) -> Outage:
        """Whether its calls succeed, and since when they do not."""
        ...

    def upsert(self, points: Points) -> None:
        """Returns when the points are stored: a repeat changes nothing, a kill loses nothing."""
        ...

    def set_payloads(self, payloads: Mapping[UUID, Payload]) -> None:
        """Replaces whole payloads of points that are stored; their vectors stay."""
        ...

    def query(self, queries: Sequence[Query]) -> list[list[ScoredPoint]]:
        """The best first, one list a query."""
        ...

    def retrieve(self, ids: Sequence[UUID], *, vectors: bool = False) -> dict[UUID, Record]:
        """Those of the points that are stored."""
        ...

    def scroll(
        self,
        limit: int,
        *,
        filter: Filter | None = None,  # noqa: A002 - Qdrant's own word
        cursor: UUID | None = None,
        vectors: bool = False,
        scan: bool = False,
    ) -> tuple[list[Record], UUID | None]:
        """A page in the order of point ids, and the cursor of the next one (None: the last).

        With `scan`, a filter that a server's strict mode refuses is matched by reading all points:
        page by page, so a page can have fewer than `limit`, or none, and yet a cursor.
        """
        ...

    def count(self, filter: Filter | None = None) -> int:  # noqa: A002
        """Exact."""
        ...

    def facet(
        self,
        field: str,
        limit: int = 100,
        filter: Filter | None = None,  # noqa: A002
    ) -> list[tuple[str | int | bool, int]]:
        """Values of an indexed keyword, integer or bool field with exact counts, most first."""
        ...

    def bounds(
        self,
        field: str,
        filter: Filter | None = None,  # noqa: A002
    ) -> tuple[float, float] | None:
        """Least and greatest value of an indexed integer or float field; None if it has none."""
        ...

    def delete(self, ids: Sequence[UUID]) -> None:
        """Ignores ids that are not stored. The points' bytes may stay in files until `purge`."""
        ...

    @property
    def purge_due(self) -> bool:
        """Whether `purge` has something to do. It outlives the process, a kill too."""
        ...

    def purge(self, tick: Callable[[], None] | None = None) -> None:
        """Returns when the store's files hold nothing that was deleted or overwritten before.

        What is deleted or overwritten while it runs is due again. It rewrites the whole store, so
        its time grows with all that is stored; if nothing is due, it returns at once. `tick` is
        called in this thread as the work goes on, many times a second or every second, and may
        raise in order to end it. A server's log keeps it some seconds longer (`server_purge.py`).
        """
        ...

    def flush(self) -> None:
        """Returns when everything upserted so far would survive a power cut."""
        ...

    def close(self) -> None: ...
