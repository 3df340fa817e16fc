"""Work that can take longer than a lease without a sign of life, and is to stay ours meanwhile.

A shard says after every batch that it goes on. A source that is being opened says nothing, and can
take an hour: it is downloaded, or prepared on disk. Nor does a deletion of a million images.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Renewals:
    """Call it several times in each lease. Safe to share between threads."""

    def __init__(self) -> None:
        self._under_way: dict[object, Callable[[], None]] = {}

    @contextmanager
    def during(self, renew: Callable[[], None]) -> Iterator[None]:
        this = object()
        self._under_way[this] = renew
        try:
            yield
        finally:
            del self._under_way[this]

    def __call__(self) -> None:
        for renew in list(self._under_way.values()):
            renew()
