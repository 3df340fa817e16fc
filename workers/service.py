"""The life of a worker: it opens the runtime, then serves the queues until it is stopped."""

import gc
import logging
import os
import sys
from functools import partial
from typing import Any

from celery import Celery
from celery.signals import worker_ready, worker_shutting_down

from pipeline.base import logs
from pipeline.base.errors import KindredError
from pipeline.base.logs import where
from pipeline.base.schema import check_folder
from pipeline.base.settings import (
    EXIT_CONFIGURATION,
    Settings,
    load_settings,
    warn_of_unknown_variables,
)
from pipeline.encoding.device import hide_other_cards
from pipeline.ledger import Lease
from pipeline.lifecycle.sweep import SWEEP_SECONDS, TURN_SECONDS
from pipeline.operations.base import queue_name
from pipeline.operations.registry import operation
from pipeline.sources.cache import trim
from workers.app import register_tasks
from workers.background import (
    Cleaner,
    Reconciler,
    Repeating,
    delete_queues_of_departed_workers,
)
from workers.health import EXIT_TRY_AGAIN, PROBE_SECONDS, WATCH_SECONDS, Watchdog
from workers.intake import Intake, Watch
from workers.names import short
from workers.opening import open_runtime
from workers.queue import make_app, publish_lease, queues_of
from workers.restore import refuse_half_a_restore
from workers.runtime import Runtime
from workers.services import LOOK_SECONDS

logger = logging.getLogger("kindred.worker")


def main() -> int:
    """0 after a stop that was asked for, 78 for a wrong setting, 75 where a new start can help."""
    try:
        settings = load_settings()
        logs.configure(settings.log_level, _label(settings))
        hide_other_cards(settings.device)
        warn_of_unknown_variables()
        app = make_app(settings.redis_url)
        check_folder(settings.data.absolute())
        refuse_half_a_restore(settings)
        publish = partial(_publish, app, settings.collection)
        runtime = open_runtime(settings, publish)
    except KindredError as error:
        # In one piece: other workers can write to the same pipe.
        sys.stderr.write(f"kindred worker: {error.title}: {error}\n")
        return EXIT_TRY_AGAIN if error.retryable else EXIT_CONFIGURATION
    register_tasks(app, runtime)
    gc.freeze()  # modules and model stay as long as the process
    gc.enable()
    reason = "Celery's worker gave up"  # it returns all the same
    try:
        serve(app, runtime, settings)
    except Exception as error:  # noqa: BLE001 - a supervisor starts it again
        reason = where(error)
    finally:
        runtime.ledger.workers.leave(runtime.name)
        runtime.close()
    if runtime.stopping.is_set():
        return 0
    logger.critical("worker ends", extra={"reason": reason})
    return EXIT_TRY_AGAIN


def _label(settings: Settings) -> str:
    """A part of its name, which each of its log lines says where several workers write them."""
    return f"{short(settings.device)}-{os.getpid()}" if settings.processes > 1 else ""


def _publish(app: Celery, collection: str, lease: Lease) -> None:
    publish_lease(app, collection, operation(lease.operation), lease)


def serve(app: Celery, runtime: Runtime, settings: Settings) -> None:
    """Runs Celery's worker in this thread; returns after a warm shutdown."""
    heartbeat = Repeating("heartbeat", settings.heartbeat_seconds, runtime.beat)
    intake = Intake(queue_name(settings.collection, "search"))
    watch = Watch(runtime, intake, heartbeat.hasten)
    background = (
        heartbeat,
        Repeating("services", LOOK_SECONDS, watch),
        *_background(app, runtime, settings),
    )

    @worker_ready.connect(weak=False)
    def ready(**_: Any) -> None:
        for thread in background:
            thread.start()

    @worker_shutting_down.connect(weak=False)
    def stop(**_: Any) -> None:
        runtime.stopping.set()  # lanes release their shards at the next batch
        heartbeat.hasten()  # and nobody leases them new ones, which would wait in vain

    worker = app.Worker(
        hostname=f"kindred@{runtime.name}",
        pool="workers.pool:ThreadPool",
        concurrency=sum(runtime.lanes.values()) + settings.search_threads,
        queues=queues_of(settings.collection, runtime.name),
        without_gossip=True,
        without_mingle=True,
        loglevel=settings.log_level,
        task_events=True,
    )
    intake.of(worker)
    worker.start()
    for thread in reversed(background):
        thread.stop()


def _background(app: Celery, runtime: Runtime, settings: Settings) -> tuple[Repeating, ...]:
    """In the order in which they start; they stop in reverse."""
    return (
        Repeating(
            "reconciler",
            settings.reconcile_seconds,
            Reconciler(app, runtime, settings.reconcile_seconds / 2),
        ),
        Repeating("cleaner", settings.reconcile_seconds, Cleaner(runtime)),
        Repeating(
            "queues",
            SWEEP_SECONDS,
            partial(delete_queues_of_departed_workers, app, runtime.ledger),
        ),
        Repeating("sweep", TURN_SECONDS, runtime.context.sweep),
        Repeating("cache", SWEEP_SECONDS, partial(trim, settings.cache_gb)),
        Repeating("probe", PROBE_SECONDS, runtime.probe),
        Repeating("watchdog", WATCH_SECONDS, Watchdog(runtime.probe)),
    )
