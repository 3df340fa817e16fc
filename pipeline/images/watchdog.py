"""Keeps the start time of every running decode, to detect one that hangs.

Nobody can stop a thread inside a decoder; only its process can be ended. The worker checks the
times and ends itself (`workers/health.py`).
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class DecodeWatch:
    """Knows how long each decode has been running. Threads can share it."""

    def __init__(self) -> None:
        self._began: dict[int, float] = {}  # by thread

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Wraps a decode, in the thread that runs it. Do not nest it."""
        thread = threading.get_ident()
        self._began[thread] = time.monotonic()
        try:
            yield
        finally:
            del self._began[thread]

    def longest(self) -> float:
        """How many seconds the longest decode has been running; 0 if none is."""
        now = time.monotonic()
        return max((now - began for began in list(self._began.values())), default=0.0)
