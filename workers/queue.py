"""The queue: configures Celery and publishes work. The api uses this module too."""

from typing import Any

from celery import Celery

from pipeline.ledger import Lease
from pipeline.operations.base import Operation, queue_name


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
    queue = queue_name(collection, operation.queue)
    app.send_task(operation.task, args=[lease.job, lease.item, lease.token], queue=queue)


def _configuration(broker_url: str) -> dict[str, Any]:
    """Messages are acknowledged early. The ledger, not the broker, records unfinished work, and the
    reconciler sends it again after a worker has died."""
    return {
        "broker_url": broker_url,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {
            "queue_order_strategy": "priority",  # serve queues in the given order: searches first
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
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "enable_utc": True,
    }
