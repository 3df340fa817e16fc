"""Heartbeats of the processes that receive by C-STORE, for `/readyz` and `/metrics`."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.ledger.connection import reachable

BEAT = 3.0  # seconds between two heartbeats
_ALIVE = 15  # seconds for which one counts


class ReceiverInfo(BaseModel):
    """What a process says of itself. `host` and `port` are those that it listens on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    title: str
    host: str
    port: int
    associations: int = 0


class ReceiverLedger:
    """Every method raises LedgerUnavailable."""

    def __init__(self, redis: Any, namespace: str) -> None:
        self._redis, self._names = redis, f"{namespace}:receivers"

    def beat(self, info: ReceiverInfo, metrics: str) -> None:
        text = json.dumps([info.model_dump(), metrics])
        with reachable():
            pipe = self._redis.pipeline(transaction=True)
            pipe.set(self._key(info.name), text, ex=_ALIVE)
            pipe.sadd(self._names, info.name)
            pipe.execute()

    def leave(self, name: str) -> None:
        with reachable():
            self._redis.delete(self._key(name))
            self._redis.srem(self._names, name)

    def alive(self) -> list[tuple[ReceiverInfo, str]]:
        """Each with its metrics, as text."""
        with reachable():
            names = sorted(self._redis.smembers(self._names))
            texts = self._redis.mget([self._key(name) for name in names]) if names else []
            gone = [name for name, text in zip(names, texts, strict=True) if text is None]
            if gone:
                self._redis.srem(self._names, *gone)
        found = [json.loads(text) for text in texts if text is not None]
        return [(ReceiverInfo.model_validate(info), metrics) for info, metrics in found]

    def _key(self, name: str) -> str:
        return f"{self._names}:{name}"
