"""What the routes share: settings, ledger, blobs, the queue, and the waiting room for answers."""

import logging
from dataclasses import dataclass
from typing import Annotated
from uuid import uuid4

from celery import Celery
from fastapi import Depends, Request
from kombu.exceptions import OperationalError
from redis import RedisError

from api.access import AccessControl
from api.waiting import WaitingRoom
from pipeline.base.blobs import Blobs, request_folder
from pipeline.base.errors import RateLimited
from pipeline.base.keys import Keys
from pipeline.base.settings import SEARCH_QUEUE, Settings, celery_configuration
from pipeline.ledger import Ledger
from pipeline.messages import ASK_TASKS, INGEST_TASK, Ask, Source
from pipeline.sources.allowed import AllowedSources

logger = logging.getLogger("kindred.api")

BACKLOG_SECONDS = 5  # until who was refused for the queue's length should try again


@dataclass(frozen=True)
class Services:
    settings: Settings
    ledger: Ledger
    blobs: Blobs
    queue: Celery
    waiting: WaitingRoom
    access: AccessControl
    allowed: AllowedSources

    @classmethod
    def open(cls, settings: Settings, keys: Keys) -> "Services":
        queue = Celery("kindred", set_as_current=False)
        queue.conf.update(celery_configuration(settings))
        ledger = Ledger(settings)
        waiting = WaitingRoom(settings.redis_url, ledger.asks)
        access = AccessControl(keys, ledger.sessions, ledger.calls, settings.rate_limit)
        allowed = AllowedSources.of(settings.sources)
        return cls(settings, ledger, Blobs(settings.blobs), queue, waiting, access, allowed)

    def start_job(self, job: str, source: Source) -> None:
        """Accepted once it is in the ledger; publishing can only make it sooner."""
        self.ledger.jobs.create(job, source)
        self.hand_out()

    def hand_out(self) -> None:
        for lease in self.ledger.jobs.dispatch():
            self._publish(INGEST_TASK, lease.job, lease.unit, lease.token)

    def refuse_when_full(self) -> None:
        """Before anything is kept of an ask. Raises RateLimited while too many wait already."""
        if self.ledger.queue_length(SEARCH_QUEUE) >= self.settings.search_backlog:
            raise RateLimited("More searches wait than can be answered soon.", BACKLOG_SECONDS)

    def submit(self, ask: Ask, identifier: str | None = None) -> str:
        """Hands an ask to the workers and returns its id. Its body lies in the blobs only."""
        identifier = identifier or new_id()
        body = ask.model_dump_json(exclude_none=True).encode()
        self.blobs.write(f"{request_folder(identifier)}/ask.json", body)
        self.ledger.asks.create(identifier, ask.kind)
        self._publish(ASK_TASKS[ask.kind], identifier)
        return identifier

    def _publish(self, task: str, *args: str | int) -> None:
        try:
            self.queue.send_task(task, args=args)
        except (OperationalError, RedisError):  # kombu names only what fails as it connects
            logger.warning("not published; the reconciler will", extra={"task": task})


def new_id() -> str:
    return str(uuid4())


async def _services(request: Request) -> Services:  # FastAPI gives what is not async a thread
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]
