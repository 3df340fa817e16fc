"""Waiting for answers without a thread or a connection a caller: one subscription wakes all."""

import asyncio
import logging
import time
from collections import Counter
from types import TracebackType

import redis.asyncio
from starlette.concurrency import run_in_threadpool

from pipeline.ledger import RequestLedger, RequestRecord

logger = logging.getLogger("kindred.api")

# A wake-up can be lost while the subscription reconnects: look without one this often, in seconds.
LOOK_ANYWAY = 0.5


class WaitingRoom:
    """Use as an async context manager, for as long as the api serves."""

    def __init__(self, redis_url: str, asks: RequestLedger) -> None:
        self._redis = redis.asyncio.Redis.from_url(redis_url, decode_responses=True)
        self._asks = asks
        self._events: dict[str, asyncio.Event] = {}
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
            # redis-py turns a cancellation while it connects into its own TimeoutError, so the
            # listener may not end of this alone: it looks at `_closing` as well.
            self._listener.cancel()
            await asyncio.wait([self._listener], timeout=2)
        await self._redis.aclose()

    async def finished(self, ask: str, seconds: float) -> RequestRecord:
        """The ask's record as soon as it is final, or as it is after so many seconds."""
        deadline = time.monotonic() + seconds
        event = self._events.setdefault(ask, asyncio.Event())
        self._waiting[ask] += 1
        try:
            while True:
                record = await run_in_threadpool(self._asks.get, ask)
                left = deadline - time.monotonic()
                if record.final or left <= 0:
                    return record
                await _wait(event, min(left, LOOK_ANYWAY))
        finally:
            self._waiting[ask] -= 1
            if not self._waiting[ask]:
                del self._waiting[ask], self._events[ask]

    async def _listen(self) -> None:
        while not self._closing:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.psubscribe("kindred:ask:*")
                    async for message in channel.listen():
                        event = self._events.get(str(message["channel"]).rpartition(":")[2])
                        if event is not None:
                            event.set()
            except redis.RedisError:
                logger.warning("subscription lost")
            await asyncio.sleep(1)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
        event.clear()
    except TimeoutError:
        return
