"""Who has signed in by the page, and who calls how often: what all processes of an api share."""

import secrets
import time
from hashlib import sha256
from typing import Any

from pipeline.ledger.connection import reachable

SESSION_SECONDS = 12 * 3600  # a working day
WINDOW = 60  # seconds in which calls are counted


class SessionLedger:
    """Sessions by the SHA-256 of their tokens: who reads Redis cannot use them."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis

    def open(self, key: str) -> str:
        """The token of a new session for the key of this id."""
        token = secrets.token_urlsafe(32)
        with reachable():
            self._redis.set(_name(token), key, ex=SESSION_SECONDS)
        return token

    def key_of(self, token: str) -> str | None:
        """The id of the key that was signed in with."""
        with reachable():
            found: str | None = self._redis.get(_name(token))
        return found

    def close(self, token: str) -> None:
        with reachable():
            self._redis.delete(_name(token))


class CallLedger:
    """Counts in fixed windows of a minute: twice the limit can pass around the turn of one."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis

    def count(self, who: str) -> tuple[int, int]:
        """Calls in this minute, with this one, and the seconds until the next minute."""
        now = int(time.time())
        name = f"kindred:calls:{who}:{now // WINDOW}"
        with reachable():
            pipe = self._redis.pipeline()
            pipe.incr(name)
            pipe.expire(name, 2 * WINDOW)
            calls, _ = pipe.execute()
        return int(calls), WINDOW - now % WINDOW


def _name(token: str) -> str:
    return f"kindred:session:{sha256(token.encode()).hexdigest()}"
