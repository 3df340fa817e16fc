"""The queue: configures Celery and publishes work. The api uses this module too."""

import logging
from typing import Any
from urllib.parse import quote

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import BatchPublishError, OperationalError
from redis import RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline.base.redis_url import RedisAddress, parse_redis_url
from pipeline.ledger import Lease
from pipeline.ledger.connection import CONNECT_TIMEOUT, SOCKET_TIMEOUT, sentinel_options
from pipeline.operations.base import LEASED_QUEUES, Operation, queue_name, worker_queue
from workers import transport

logger = logging.getLogger("kindred.queue")

IN_MEMORY = "memory://"  # for tests


def make_app(redis_url: str, *, current: bool = True) -> Celery:
    """A Celery app without tasks. `current`: whether it is the process's own app.

    `redis_url` is that of the settings, or IN_MEMORY.
    """
    transport.install()
    app = Celery("kindred", set_as_current=current)
    app.conf.update(_CONFIGURATION)
    app.conf.update(_in_memory() if redis_url == IN_MEMORY else broker_of(redis_url))
    return app


def publish_query(app: Celery, collection: str, operation: Operation, request: str) -> None:
    """Messages carry only ids. Without a broker, the reconciler publishes it later."""
    _send(app, operation, [request], queue_name(collection, operation.queue))


def publish_lease(app: Celery, collection: str, operation: Operation, lease: Lease) -> None:
    """Publishes a work item to the one worker that it is leased to."""
    name = worker_queue(collection, operation.queue, lease.worker)
    # The worker declares its queues. Publishers would remember each of them for good.
    queue = _queue(name, exchange="", no_declare=True, auto_delete=True)
    _send(app, operation, [lease.job, lease.item, lease.token], queue)


def queues_of(collection: str, worker: str) -> list[str]:
    """The queues that a worker consumes, in this order: a person waits for a search."""
    own = [worker_queue(collection, queue, worker) for queue in LEASED_QUEUES]
    return [queue_name(collection, "search"), *own]


def delete_queues(app: Celery, collection: str, worker: str) -> None:
    """Deletes the queues of a worker that has gone: its name does not come back."""
    with app.connection_for_write() as connection:
        for queue in LEASED_QUEUES:
            name = worker_queue(collection, queue, worker)
            bound = _queue(name, exchange=name)(connection.default_channel)
            bound.declare()  # what is to be unbound must be known to this process
            bound.delete()


def _queue(name: str, exchange: str, **options: bool) -> Any:
    return Queue(name, Exchange(exchange), name, **options)  # type: ignore[no-untyped-call]


def _send(app: Celery, operation: Operation, args: list[Any], queue: Any) -> None:
    """The ledger has the work already; a message only makes it start sooner."""
    try:
        # The message and its event for Flower, in one call to Redis.
        with app.producer_or_acquire() as producer, producer.batch():
            app.send_task(operation.task, args=args, queue=queue, producer=producer)
    except (BatchPublishError, OperationalError, RedisError):  # kombu wraps some
        logger.warning("not published; the reconciler will", extra={"operation": operation.name})


# Messages are acknowledged early. The ledger, not the broker, records unfinished work, and the
# reconciler sends it again after a worker has died.
_CONFIGURATION: dict[str, Any] = {
    "broker_connection_retry_on_startup": True,
    # A worker waits for Redis for ever, since a new start mends nothing. A refusal, as while a
    # script blocks Redis, counts as a lost connection; else it would end the worker.
    "broker_connection_max_retries": None,
    "broker_channel_error_retry": True,
    # A publisher must learn within a second that Redis is unavailable (the api then answers 503).
    "task_publish_retry": False,
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "task_ignore_result": True,  # results are in the ledger and the blobs
    "worker_send_task_events": True,
    "task_send_sent_event": True,
    # A worker takes a search only if it has a free thread for it (`workers/pool.py`).
    "worker_disable_prefetch": True,
    "worker_consumer": "workers.events:Consumer",
    "worker_prefetch_multiplier": 1,
    "worker_hijack_root_logger": False,
    "enable_utc": True,
}

_TRANSPORT: dict[str, Any] = {
    "queue_order_strategy": "priority",  # serve queues in the given order
    "socket_connect_timeout": CONNECT_TIMEOUT,
    # Else a publisher waits for ever for a Redis whose host has gone without a word.
    "socket_timeout": SOCKET_TIMEOUT,
    "socket_keepalive": True,
}


def _in_memory() -> dict[str, Any]:
    return {"broker_url": f"{IN_MEMORY}localhost//", "broker_transport_options": {}}


def broker_of(redis_url: str) -> dict[str, Any]:
    """Celery's settings for the Redis that the ledger uses, with the same checks of certificates.

    kombu takes the name of the Sentinels' master and their login as options, and verifies nothing
    unless it is told to.
    """
    address = parse_redis_url(redis_url)
    options = dict(_TRANSPORT)
    if address.service:
        options["master_name"] = address.service
        options["sentinel_kwargs"] = sentinel_options(address, Retry(NoBackoff(), 0))
    return {
        "broker_url": _spelled_for_kombu(address),
        "broker_transport_options": options,
        "broker_use_ssl": False if address.tls is None else dict(address.tls),
    }


def _spelled_for_kombu(address: RedisAddress) -> str:
    login = ""
    if address.username or address.password:
        login = f"{_quoted(address.username)}:{_quoted(address.password)}@"
    if address.socket:
        return f"redis+socket://{login}{address.socket}?virtual_host={address.database}"
    scheme = "sentinel" if address.service else "redis" if address.tls is None else "rediss"
    return ";".join(
        f"{scheme}://{login}{f'[{host}]' if ':' in host else host}:{port}/{address.database}"
        for host, port in address.hosts
    )


def _quoted(text: str | None) -> str:
    return quote(text or "", safe="")
