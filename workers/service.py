"""A worker's life: it opens the runtime, then serves the queues until it is told to stop."""

import gc
import sys
from typing import Any

from celery import Celery
from celery.signals import worker_ready, worker_shutting_down

from pipeline.base import logs
from pipeline.base.errors import KindredError
from pipeline.base.settings import (
    EXIT_CONFIGURATION,
    INGEST_QUEUE,
    SEARCH_QUEUE,
    load_settings,
    warn_of_unknown_variables,
)
from pipeline.lifecycle.sweep import SWEEP_SECONDS, Sweep
from workers.app import make_app, publish_lease, register_tasks
from workers.background import Reconciler, Repeating
from workers.health import EXIT_TRY_AGAIN, PROBE_SECONDS, WATCH_SECONDS, Watchdog
from workers.restore import refuse_half_a_restore
from workers.runtime import Runtime


def main() -> int:
    try:
        settings = load_settings()
        logs.configure(settings.log_level)
        warn_of_unknown_variables()
        app = make_app(settings)
        refuse_half_a_restore(settings)
        runtime = Runtime.open(settings, lambda lease: publish_lease(app, lease))
    except KindredError as error:
        print(f"kindred worker: {error.title}: {error}", file=sys.stderr)
        return EXIT_TRY_AGAIN if error.retryable else EXIT_CONFIGURATION
    register_tasks(app, runtime)
    gc.freeze()  # modules and model stay for as long as the process
    gc.enable()
    try:
        serve(app, runtime)
    finally:
        runtime.ledger.workers.leave(runtime.name)
        runtime.close()
    return 0


def serve(app: Celery, runtime: Runtime) -> None:
    """Runs Celery's worker in this thread; returns after a warm shutdown."""
    settings, plan = runtime.settings, runtime.encoder.sizing
    beat = Repeating(
        "heartbeat",
        settings.heartbeat_seconds,
        lambda: runtime.ledger.workers.beat(runtime.info),
    )
    watchdog = Watchdog(runtime.watch, runtime.probe, settings.decode_seconds)
    background = (
        beat,
        Repeating("reconciler", settings.reconcile_seconds, Reconciler(app, runtime)),
        Repeating("renewals", settings.lease_seconds / 4, runtime.renewals),
        Repeating(
            "sweep", SWEEP_SECONDS, Sweep(runtime.blobs, settings, runtime.answers.deletions)
        ),
        Repeating("probe", PROBE_SECONDS, runtime.probe),
        Repeating("watchdog", WATCH_SECONDS, watchdog),
    )

    @worker_ready.connect(weak=False)
    def ready(**_: Any) -> None:
        for thread in background:
            thread.start()

    @worker_shutting_down.connect(weak=False)
    def stop(**_: Any) -> None:
        runtime.stopping.set()  # lanes give their shards back at the next batch

    app.Worker(
        hostname=f"kindred@{runtime.name}",
        pool="threads",
        concurrency=plan.lanes + settings.search_threads,
        queues=[SEARCH_QUEUE, INGEST_QUEUE],
        without_gossip=True,
        without_mingle=True,
        loglevel=settings.log_level,
        task_events=True,
    ).start()
    for thread in reversed(background):
        thread.stop()
