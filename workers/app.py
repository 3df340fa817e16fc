"""Celery's tasks. They receive ids and pass them to the runtime, which does the work."""

from celery import Celery

from pipeline.ledger import Lease
from pipeline.operations.registry import with_lifetime
from workers.runtime import Runtime


def register_tasks(app: Celery, runtime: Runtime) -> None:
    """Registers one task for each operation.

    A task always succeeds, whatever the result of its work: the ledger is the record, not Celery.
    """
    for operation in with_lifetime("job"):
        _register_job(app, runtime, operation.task)
    for operation in with_lifetime("query"):
        _register_query(app, runtime, operation.task)


def _register_job(app: Celery, runtime: Runtime, task: str) -> None:
    @app.task(name=task)
    def work(job: str, item: int, token: str) -> None:
        runtime.work(Lease(job, item, token))


def _register_query(app: Celery, runtime: Runtime, task: str) -> None:
    @app.task(name=task)
    def answer(request: str) -> None:
        runtime.answer(request)
