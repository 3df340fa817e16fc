"""Decodes under way, so that one that does not come back is noticed.

A thread inside a decoder cannot be stopped; only its process can. Who looks and ends it is the
worker (`workers/health.py`).
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class DecodeWatch:
    """Safe to share between threads."""

    def __init__(self) -> None:
        self._began: dict[int, float] = {}  # by thread

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Around a decode, in the thread that does it; not to be nested."""
        thread = threading.get_ident()
        self._began[thread] = time.monotonic()
        try:
            yield
        finally:
            del self._began[thread]

    def longest(self) -> float:
        """For how many seconds the oldest decode has been under way; 0 where there is none."""
        now = time.monotonic()
        return max((now - began for began in list(self._began.values())), default=0.0)
