"""kombu's transport over Redis, with one client a channel: kombu makes one for each of its calls.

Making a client takes as long as the call itself: 8 % of what a search cost its worker.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis


class _OneClient:
    """A channel has one user at a time, and its client takes connections from the channel's pool.

    After a fork, or once the connection has ended, there is another pool, and so another client.
    """

    _own: Any = None

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        yield client or self._client_of_pool()

    def _client_of_pool(self: Any) -> Any:
        if self._own is None or self._own.connection_pool is not self.pool:
            self._own = self._create_client()
        return self._own


class Channel(_OneClient, redis.Channel):
    """Of a single Redis."""


class SentinelChannel(_OneClient, redis.SentinelChannel):
    """Of the master that Sentinels name."""


class Transport(redis.Transport):
    Channel = Channel


class SentinelTransport(redis.SentinelTransport):
    Channel = SentinelChannel


def install() -> None:
    """From now on kombu takes these for its own, by the scheme of the broker's URL.

    Celery's setting `broker_transport` does not reach a broker behind a socket, whose URL names
    its transport itself.
    """
    TRANSPORT_ALIASES.update(
        redis=f"{__name__}:Transport",
        rediss=f"{__name__}:Transport",
        sentinel=f"{__name__}:SentinelTransport",
    )
