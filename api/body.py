"""Receives the body of a call: whole, not too large and not too slow, else it raises a refusal."""

import asyncio
import logging

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from pipeline import metrics
from pipeline.messages import Problem

logger = logging.getLogger("kindred.api")

# While somebody waits for a body, so many bytes of it must come in so many seconds: about 4 kbit/s.
# A hospital's slowest line has more; who sends a byte now and then has less.
LEAST = 16_384
WINDOW = 30.0


class BodyRefused(HTTPException):
    """Starlette's, because FastAPI lets no other error out of its reading of JSON."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status, problem.detail)
        self.problem = problem


class Body:
    """A call's `receive`. Raises BodyRefused, once an answer has begun says `http.disconnect`."""

    def __init__(self, receive: Receive, headers: Headers, most: int) -> None:
        """`most` is in bytes."""
        self._receive, self._most = receive, most
        length = headers.get("Content-Length", "")
        self._declared = int(length) if length.isdecimal() else 0
        # Whether it has come, as there may be none.
        self._whole = not self._declared and "Transfer-Encoding" not in headers
        self.answered = False
        self._size = self._came = 0
        self._waited = 0.0

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        if max(self._declared, self._size) > self._most:
            return self._refuse(_too_large(self._most))
        try:
            message = await self._in_time()
        except TimeoutError:
            return self._refuse(_SLOW)
        if message["type"] == "http.disconnect":
            return self._refuse(_BROKEN_OFF)
        self._whole = not message.get("more_body", False)
        self._size += len(message.get("body", b""))
        return self._refuse(_too_large(self._most)) if self._size > self._most else message

    async def _in_time(self) -> Message:
        """The next part. Raises TimeoutError. Only time counts in which somebody waits for it."""
        now = asyncio.get_running_loop().time
        start = now()
        async with asyncio.timeout(WINDOW - self._waited):
            message = await self._receive()
        self._waited += now() - start
        self._came += len(message.get("body", b""))
        if self._came >= LEAST:
            self._came, self._waited = 0, 0.0
        return message

    def _refuse(self, why: Problem) -> Message:
        metrics.count("kindred_bodies_refused_total", "Bodies not taken whole", reason=why.type)
        logger.debug("body refused", extra={"reason": why.type})
        if self.answered:
            return {"type": "http.disconnect"}
        raise BodyRefused(why)


def _too_large(most: int) -> Problem:
    size = f"{most / 1_000_000:g} MB" if most >= 1_000_000 else f"{most} bytes"
    return Problem(
        type="too-large",
        title="Too large",
        status=413,
        detail=f"A call may have at most {size}. Send fewer or smaller files.",
    )


_SLOW = Problem(
    type="too-slow",
    title="Too slow",
    status=408,
    detail=f"Of its body, less than {LEAST // 1024} KiB came in {WINDOW:.0f} seconds.",
)
_BROKEN_OFF = Problem(
    type="broken-off",
    title="Broken off",
    status=400,
    detail="The body ended before it was whole. Send it again.",
)
