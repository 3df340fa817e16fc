"""A Qdrant collection's strict mode: what it allows, and its refusals in our words.

Qdrant Cloud turns it on for new collections: filters by fields with an index only, and 100 indexes.
An operator can limit much more.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from qdrant_client import models

from pipeline.base.errors import ConfigurationError

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Limits:
    """The most that one request may have; None: as many as it likes.

    `results`: points that it answers with; `searches` and `points`: those that it brings.
    """

    results: int | None = None
    searches: int | None = None
    points: int | None = None

    @classmethod
    def of(cls, info: models.CollectionInfo) -> "Limits":
        """Raises ConfigurationError where Kindred cannot work: it counts exactly."""
        strict = info.config.strict_mode_config
        if strict is None or not strict.enabled:
            return cls()
        if strict.search_allow_exact is False:
            raise ConfigurationError(
                [
                    "KINDRED_COLLECTION: its strict mode forbids exact counts; set "
                    "search_allow_exact to true for it on the Qdrant server"
                ]
            )
        return cls(
            strict.max_query_limit or None,
            strict.search_max_batchsize or None,
            strict.upsert_max_batchsize or None,
        )


def least(wanted: int, most: int | None) -> int:
    """`wanted`, or `most` if there is such a limit and it is lower."""
    return wanted if most is None else min(wanted, most)


def windows(start: int, stop: int, most: int | None) -> Iterator[tuple[int, int]]:
    """(offset, size) of runs of `most` that together cover what lies between."""
    size = max(1, least(stop - start, most))
    for offset in range(start, stop, size):
        yield offset, min(size, stop - offset)


# --- refusals ----------------------------------------------------------------------------------

_LIMIT = r'limit exceeded \S+ > (\d+) for "{}"'
_REFUSALS: dict[str, tuple[str, Path]] = {
    _LIMIT.format("limit"): ("allows {} results at most", ("limit",)),
    _LIMIT.format("hnsw_ef"): ("allows a search no more than {} candidates (hnsw_ef)", ()),
    _LIMIT.format("search batch size"): ("allows {} searches at once", ()),
    r"filter condition limit reached \(\d+ > (\d+)\)": (
        "allows {} conditions in a filter, with those that the search adds itself",
        ("filter",),
    ),
    r"condition size limit reached \(\d+ > (\d+)\)": (
        "allows {} values in one condition, ids of images too",
        ("filter",),
    ),
    r"exact search disabled()": ("allows nothing exact", ("exact",)),
}
_FULL = re.compile(
    r"max (points count|vector storage size|payload storage size) limit|usage is at \d+%"
    rf"|{_LIMIT.format('upsert limit')}",
    re.IGNORECASE,
)
_INDEXES = re.compile(r"maximum number of payload indices \((\d+)\)", re.IGNORECASE)


def refusal(text: str) -> tuple[str, Path] | None:
    """What of a query goes beyond a limit, as the end of a sentence, and where in the query."""
    for said, (ours, path) in _REFUSALS.items():
        if found := re.search(said, text, re.IGNORECASE):
            return ours.format(found[1]), path
    return None


def is_full(text: str) -> bool:
    """Whether the server says that the collection may not grow."""
    return bool(_FULL.search(text))


def most_indexes(text: str) -> str | None:
    """How many payload indexes the server allows, if it says that there are too many."""
    found = _INDEXES.search(text)
    return found and found[1]
