"""The connection to Redis, and the one Lua script through which the ledger changes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline.base.errors import LedgerUnavailable

# Redis answers in well under a millisecond. A caller must learn soon that it is away, but a server
# that is only busy rewriting its append-only file must not look dead.
CONNECT_TIMEOUT = 1.0
SOCKET_TIMEOUT = 5.0

PAUSE = 0.5  # between two tries


# Redis takes no writes: its memory or its disk is full, or it has become a replica. For the disk,
# redis-py has no class.
_REFUSALS = (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError)


class Script:
    """Calls one command of `ledger.lua`. Safe to share between threads.

    `patience` is for how many seconds a call waits for Redis to come back. Repeating a command is
    safe: what a lost answer leaves behind is a lease, and leases end.
    """

    def __init__(self, url: str, patience: float = 0) -> None:
        # redis-py's annotations do not know that decode_responses makes every answer text
        self.redis: Any = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_connect_timeout=CONNECT_TIMEOUT,
            socket_timeout=SOCKET_TIMEOUT,
            health_check_interval=30,
            retry=Retry(NoBackoff(), 1),  # a connection that a restart cut is opened once more
        )
        source = files("pipeline.ledger").joinpath("ledger.lua").read_text("utf-8")
        self._script = self.redis.register_script(source)
        self._patience = patience

    def once(self, command: str, *args: str | float) -> Any:
        """Raises LedgerUnavailable at once when Redis is away."""
        with reachable():
            return self._script(args=[command, *args])

    def __call__(self, command: str, *args: str | float) -> Any:
        """Raises LedgerUnavailable when Redis stays away."""
        give_up = time.monotonic() + self._patience
        while True:
            try:
                return self.once(command, *args)
            except LedgerUnavailable:
                if time.monotonic() + PAUSE > give_up:
                    raise
                time.sleep(PAUSE)


@contextmanager
def reachable() -> Iterator[None]:
    """Names what redis-py raises in our words."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.BusyLoadingError) as error:
        raise LedgerUnavailable(
            "Redis does not answer. Nothing was lost; try again in a moment."
        ) from error
    except redis.ResponseError as error:
        if not isinstance(error, _REFUSALS) and not str(error).startswith("MISCONF"):
            raise
        raise LedgerUnavailable(
            "Redis takes no writes; its disk or its memory may be full. Nothing was lost."
        ) from error
