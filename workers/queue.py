"""The queue: configures Celery and publishes work. The api uses this module too."""

from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue

from pipeline.ledger import Lease
from pipeline.operations.base import LEASED_QUEUES, Operation, queue_name, worker_queue


def make_app(broker_url: str, *, current: bool = True) -> Celery:
    """A Celery app without tasks. `current`: whether it is the process's own app."""
    app = Celery("kindred", set_as_current=current)
    app.conf.update(_configuration(broker_url))
    return app


def publish_query(app: Celery, collection: str, operation: Operation, request: str) -> None:
    """Messages carry only ids."""
    queue = queue_name(collection, operation.queue)
    app.send_task(operation.task, args=[request], queue=queue)


def publish_lease(app: Celery, collection: str, operation: Operation, lease: Lease) -> None:
    """Publishes a work item to the one worker that it is leased to."""
    name = worker_queue(collection, operation.queue, lease.worker)
    # The worker declares its queues. Publishers would remember each of them for good.
    queue = _queue(name, exchange="", no_declare=True, auto_delete=True)
    app.send_task(operation.task, args=[lease.job, lease.item, lease.token], queue=queue)


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


def _configuration(broker_url: str) -> dict[str, Any]:
    """Messages are acknowledged early. The ledger, not the broker, records unfinished work, and the
    reconciler sends it again after a worker has died."""
    return {
        "broker_url": broker_url,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {
            "queue_order_strategy": "priority",  # serve queues in the given order
            "socket_connect_timeout": 1,
            "socket_keepalive": True,
        },
        # A publisher must learn within a second that Redis is unavailable (the api then answers
        # 503).
        "task_publish_retry": False,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,  # results are in the ledger and the blobs
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        # A worker takes a search only if it has a free thread for it (`workers/pool.py`).
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "enable_utc": True,
    }
