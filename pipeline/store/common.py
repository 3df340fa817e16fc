"""What both backends of the store share: names, and the checks that make their answers alike."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipeline.base.errors import EncoderMismatch, InvalidQuery
from pipeline.messages import EncoderInfo
from pipeline.store.base import Examples, Points, Query, Vectors

# Points a write: large enough to amortise it, small enough that a search beside it waits a few
# milliseconds (the embedded engine holds Python's lock while it writes).
BATCH = 256

FACET_TYPES = frozenset({"keyword", "integer", "bool"})
NUMBER_TYPES = frozenset({"integer", "float"})


# Claims the collection for our encoder. Raises EncoderMismatch when another one has it.
Claim = Callable[[], None]


def no_claim() -> None:
    """For a process that opens the collection alone."""


def fingerprint(encoder: EncoderInfo) -> str:
    """12 hex digits that are the same for the same encoder, on every machine, in every process."""
    canonical = json.dumps(encoder.identity, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def data_name(collection: str, encoder: EncoderInfo) -> str:
    """Where the vectors of this encoder lie; the alias `collection` says whose are read."""
    return f"{collection}-{fingerprint(encoder)}"


def mismatch(collection: str, filled_by: EncoderInfo | None, ours: EncoderInfo) -> EncoderMismatch:
    """`collection` is named as the operator knows it; None: nothing is recorded there."""
    theirs = _describe(filled_by) if filled_by else "an encoder that is not recorded"
    return EncoderMismatch(
        f"{collection} was filled by {theirs}; this worker has {_describe(ours)}. Start it with "
        "the encoder that filled the collection, or give the other one a collection of its own "
        "(KINDRED_COLLECTION)."
    )


def in_use(collection: str, other: EncoderInfo, ours: EncoderInfo) -> EncoderMismatch:
    """Another encoder has the empty collection, because a worker with it lives."""
    return EncoderMismatch(
        f"The collection {collection!r} is open for {_describe(other)}; this worker has "
        f"{_describe(ours)}. Start it with that encoder, or give it a collection of its own "
        "(KINDRED_COLLECTION). To change the encoder of an empty collection, stop its workers "
        "first; one that was killed counts as alive for a minute."
    )


def _describe(encoder: EncoderInfo) -> str:
    return (
        f"{encoder.model} (revision {encoder.revision or 'not pinned'}, "
        f"weights {encoder.weights_sha256[:12]}, pooling {encoder.pooling}, "
        f"preprocessing {encoder.preprocessing}, {encoder.dimensions} dimensions)"
    )


def check_points(points: Points, dimensions: int) -> None:
    """Raises ValueError: an encoder that yields NaN must not fill a collection with it."""
    count = len(points.ids)
    if points.vectors.shape != (count, dimensions) or len(points.payloads) != count:
        raise ValueError(
            f"expected {count} payloads and vectors of shape ({count}, {dimensions}), "
            f"got {len(points.payloads)} and {points.vectors.shape}"
        )
    if not np.isfinite(points.vectors).all():
        raise ValueError("a vector holds NaN or infinity")


def check_queries(queries: Sequence[Query], dimensions: int) -> None:
    """Raises InvalidQuery. The engine answers NaN with no results, which would read as "none"."""
    for query in queries:
        for vectors in _targets(query):
            if vectors.shape[1:] != (dimensions,):
                given = vectors.shape[-1]
                raise InvalidQuery(
                    f"expected a vector of {dimensions} numbers, got {given}", ("vector",)
                )
            if not np.isfinite(vectors).all():
                raise InvalidQuery("the vector holds NaN or infinity", ("vector",))


def _targets(query: Query) -> list[Vectors]:
    """All vectors of a query, as arrays of shape (n, dimensions)."""
    target = query.target
    if isinstance(target, Examples):
        return [target.positive, target.negative] if len(target.negative) else [target.positive]
    return [target[None]]


def check_facet(field: str, indexes: Mapping[str, str]) -> None:
    """Raises InvalidQuery: without an index the engine would count by reading every payload."""
    _check_index(field, indexes, FACET_TYPES, "facets need")


def check_bounds(field: str, indexes: Mapping[str, str]) -> None:
    """Raises InvalidQuery: without an index the engine cannot order by the field."""
    _check_index(field, indexes, NUMBER_TYPES, "least and greatest values need")


def _check_index(field: str, indexes: Mapping[str, str], kinds: frozenset[str], what: str) -> None:
    if indexes.get(field) not in kinds:
        listed = ", ".join(sorted(kinds))
        raise InvalidQuery(
            f"{what} a field that KINDRED_INDEXED_FIELDS lists, as one of {listed}", ("field",)
        )
