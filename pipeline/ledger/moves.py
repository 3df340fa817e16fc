"""Which series of an archive have been sent to us, so that a retrieval goes on where it ended."""

from collections.abc import Sequence
from typing import Any

from pipeline.ledger.connection import reachable


class MoveLedger:
    """Series are named by keyed hashes of their UIDs. Every method raises LedgerUnavailable."""

    def __init__(self, redis: Any, namespace: str) -> None:
        self._redis, self._name = redis, f"{namespace}:moved"

    def done(self, series: Sequence[str]) -> list[int | None]:
        """How many objects of each have come; None for one that was not sent whole."""
        if not series:
            return []
        with reachable():
            found = self._redis.hmget(self._name, series)
        return [None if text is None else int(text) for text in found]

    def add(self, series: str, objects: int) -> None:
        with reachable():
            self._redis.hset(self._name, series, objects)
