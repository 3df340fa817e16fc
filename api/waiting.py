"""Waits for the end of jobs and requests. One subscription wakes all callers.

So a waiting caller needs neither a thread nor a connection to Redis.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TypeVar

import redis
from starlette.concurrency import run_in_threadpool

from pipeline.ledger.connection import connect_async

logger = logging.getLogger("kindred.api")

# A wake-up can be lost while the subscription reconnects, so look this often anyway, in seconds.
LOOK_ANYWAY = 0.5

# Seconds of silence after which the subscription asks whether Redis is still there: one whose host
# has gone, or whose place another has taken, can be silent for ever.
SILENCE = 5.0


class Finishing(Protocol):
    """A job or a request, as the ledger records it."""

    @property
    def final(self) -> bool: ...


Record = TypeVar("Record", bound=Finishing)


class WaitingRoom:
    """Use as an async context manager, for as long as the api serves."""

    def __init__(self, redis_url: str) -> None:
        self._redis = connect_async(redis_url)
        self._events: dict[str, asyncio.Event] = {}
        self._told: dict[str, str] = {}
        self._waiting: Counter[str] = Counter()
        self._listener: asyncio.Task[None] | None = None
        self._closing = False

    async def __aenter__(self) -> "WaitingRoom":
        self._listener = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        if self._listener is not None:
            # redis-py turns a cancellation while it connects into its own TimeoutError. So a
            # cancellation may not end the listener, which therefore checks `_closing` as well.
            self._listener.cancel()
            await asyncio.wait([self._listener], timeout=2)
        await self._redis.aclose()

    async def finished(
        self,
        get: Callable[[str], Record],
        identifier: str,
        seconds: float,
        begin: Callable[[], None] | None = None,
    ) -> Record:
        """The record as soon as it is final, or after so many seconds at the latest.

        `begin` starts what is waited for: then there is nothing to see before it is heard of.
        """
        event = self._events.setdefault(identifier, asyncio.Event())
        self._waiting[identifier] += 1
        try:
            if begin is not None:
                await run_in_threadpool(begin)
            deadline = time.monotonic() + seconds
            if begin is not None and seconds > 0:
                await _wait(event, min(seconds, LOOK_ANYWAY))
            while True:
                record = await run_in_threadpool(get, identifier)
                left = deadline - time.monotonic()
                if record.final or left <= 0:
                    return record
                await _wait(event, min(left, LOOK_ANYWAY))
        finally:
            self._waiting[identifier] -= 1
            if not self._waiting[identifier]:
                del self._waiting[identifier], self._events[identifier]
                self._told.pop(identifier, None)

    def told(self, identifier: str) -> str:
        """What was said when it ended, if somebody waits for it and that was heard; else ""."""
        return self._told.get(identifier, "")

    async def _listen(self) -> None:
        while not self._closing:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.psubscribe("kindred:*:finished")
                    await self._hear(channel)
            except (redis.RedisError, OSError):
                logger.warning("subscription lost")
            await asyncio.sleep(1)

    async def _hear(self, channel: Any) -> None:
        """Returns when an answer to a ping stays away."""
        asked = False
        while True:
            message = await channel.get_message(timeout=SILENCE)
            if message is None and asked:
                return
            if message is None:
                await channel.ping()
            else:
                self._wake(str(message["data"]))
            asked = message is None

    def _wake(self, message: str) -> None:
        """Of a job the message is its id; of a request more follows."""
        identifier, _, told = message.partition(" ")
        event = self._events.get(identifier)
        if event is not None:
            self._told[identifier] = told
            event.set()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
        event.clear()
    except TimeoutError:
        return
