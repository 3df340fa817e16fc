"""The Celery app. Its tasks take ids and hand them to the runtime, which does the work."""

from celery import Celery

from pipeline.base.settings import Settings, celery_configuration
from pipeline.ledger import Lease
from pipeline.messages import ASK_TASKS, INGEST_TASK
from workers.runtime import Runtime


def make_app(settings: Settings) -> Celery:
    """Knows the queues, and no task yet."""
    app = Celery("kindred", set_as_current=True)
    app.conf.update(celery_configuration(settings))
    return app


def register_tasks(app: Celery, runtime: Runtime) -> None:
    """A task ends well whatever becomes of its work: the ledger, not Celery, is the record."""

    @app.task(name=INGEST_TASK)
    def ingest(job: str, unit: int, token: str) -> None:
        runtime.work(Lease(job, unit, token))

    for name in sorted(set(ASK_TASKS.values())):

        @app.task(name=name)
        def answer(ask: str) -> None:
            runtime.answer(ask)


def publish_lease(app: Celery, lease: Lease) -> None:
    app.send_task(INGEST_TASK, args=[lease.job, lease.unit, lease.token])


def publish_ask(app: Celery, ask: str, kind: str) -> None:
    app.send_task(ASK_TASKS[kind], args=[ask])
