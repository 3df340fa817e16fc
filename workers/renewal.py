"""Renews the leases of work that does not checkpoint before its lease expires.

A shard checkpoints after every batch. Opening a source has no checkpoint and can take an hour, if
the source is downloaded or prepared on disk. Neither has a deletion while it plans a million images
or purges the store.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Renewals:
    """Renews all running work. Call it several times in each lease; threads can share it."""

    def __init__(self) -> None:
        self._running: dict[object, Callable[[], None]] = {}

    @contextmanager
    def during(self, renew: Callable[[], None]) -> Iterator[None]:
        work = object()
        self._running[work] = renew
        try:
            yield
        finally:
            del self._running[work]

    def __call__(self) -> None:
        for renew in list(self._running.values()):
            renew()
