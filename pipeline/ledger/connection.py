"""The connection to Redis, and what it raises, in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline.base.errors import LedgerUnavailable

# Redis answers in well under a millisecond. A caller must learn soon that it is unavailable, but a
# server that is only busy rewriting its append-only file must not look dead.
CONNECT_TIMEOUT = 1.0
SOCKET_TIMEOUT = 5.0

# Redis takes no writes: its memory or its disk is full, or it has become a replica. For the disk,
# redis-py has no class.
_REFUSALS = (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError)


def connect(url: str) -> Any:  # redis-py's annotations do not know that every answer is text
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=SOCKET_TIMEOUT,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 1),  # a connection that a restart cut is opened once more
    )


@contextmanager
def reachable() -> Iterator[None]:
    """Raises LedgerUnavailable in the place of what redis-py raises."""
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
