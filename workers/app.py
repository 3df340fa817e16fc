"""Celery's tasks. They receive ids and pass them to the runtime, which does the work."""

import logging
from collections.abc import Callable

from celery import Celery
from celery.exceptions import Retry

from pipeline.base.errors import LedgerUnavailable
from pipeline.ledger import Lease
from pipeline.operations.registry import with_lifetime
from workers.runtime import Result, Runtime, given_back

logger = logging.getLogger("kindred.worker")


class Failed(Exception):
    """A job or a query has failed; its record in the ledger says why. It names no image."""


class GivenBack(Exception):
    """The ledger has the work again, and will send it again. It names no image."""


def register_tasks(app: Celery, runtime: Runtime) -> None:
    """Registers one task for each operation.

    A task ends as its work did, since people watch tasks in Flower. The record is the ledger:
    Celery neither stores these ends nor sends anything again.
    """
    for operation in with_lifetime("job"):
        _register_job(app, runtime, operation.task)
    for operation in with_lifetime("query"):
        _register_query(app, runtime, operation.task)


def _register_job(app: Celery, runtime: Runtime, task: str) -> None:
    @app.task(name=task, shared=False, throws=(Failed,))
    def work(job: str, item: int, token: str) -> None:
        _end_as(lambda: runtime.work(Lease(job, item, token)))


def _register_query(app: Celery, runtime: Runtime, task: str) -> None:
    @app.task(name=task, shared=False, throws=(Failed,))
    def answer(request: str) -> None:
        _end_as(lambda: runtime.answer(request))


def _end_as(run: Callable[[], Result]) -> None:
    """Raises what Celery takes for a failed or a retried task; an expected error is no ERROR line.

    Raising Retry sends nothing: only `Task.retry` does that, before it raises.
    """
    result = _unless_redis_is_away(run)
    if result.state == "failed":
        raise Failed(result.reason)
    if result.state == "given back":
        raise Retry(result.reason, GivenBack(result.reason))


def _unless_redis_is_away(run: Callable[[], Result]) -> Result:
    """What the ledger could not be told, it finds out: leases end, and the work is sent again."""
    try:
        return run()
    except LedgerUnavailable as error:
        logger.warning("ledger unavailable, work left to its lease")
        return given_back(error.title)
