"""What the routes share: settings, ledger, blobs, the queue, and the waiting room for answers."""

import hmac
import logging
from dataclasses import dataclass
from typing import Annotated
from uuid import uuid4

from celery import Celery
from fastapi import Depends, HTTPException, Request
from kombu.exceptions import OperationalError

from api.waiting import WaitingRoom
from pipeline.blobs import Blobs, ask_folder
from pipeline.ledger import Ledger
from pipeline.messages import ASK_TASKS, INGEST_TASK, Ask, Source
from pipeline.settings import Settings, celery_configuration

logger = logging.getLogger("kindred.api")


@dataclass(frozen=True)
class Services:
    settings: Settings
    ledger: Ledger
    blobs: Blobs
    queue: Celery
    waiting: WaitingRoom

    @classmethod
    def open(cls, settings: Settings) -> "Services":
        queue = Celery("kindred", set_as_current=False)
        queue.conf.update(celery_configuration(settings))
        ledger = Ledger(settings)
        waiting = WaitingRoom(settings.redis_url, ledger.asks)
        return cls(settings, ledger, Blobs(settings.blobs), queue, waiting)

    def start_job(self, job: str, source: Source) -> None:
        """Accepted once it is in the ledger; publishing can only make it sooner."""
        self.ledger.jobs.create(job, source)
        self.hand_out()

    def hand_out(self) -> None:
        for lease in self.ledger.jobs.dispatch():
            self._publish(INGEST_TASK, lease.job, lease.unit, lease.token)

    def submit(self, ask: Ask, identifier: str | None = None) -> str:
        """Hands an ask to the workers and returns its id. Its body lies in the blobs only."""
        identifier = identifier or new_id()
        body = ask.model_dump_json(exclude_none=True).encode()
        self.blobs.write(f"{ask_folder(identifier)}/ask.json", body)
        self.ledger.asks.create(identifier, ask.kind)
        self._publish(ASK_TASKS[ask.kind], identifier)
        return identifier

    def _publish(self, task: str, *args: str | int) -> None:
        try:
            self.queue.send_task(task, args=args)
        except OperationalError:
            logger.warning("not published; the reconciler will", extra={"task": task})


def new_id() -> str:
    return str(uuid4())


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]


def require_key(request: Request, services: ServicesDep) -> None:
    """Lets everybody in where no keys are set; the api then listens on the loopback only."""
    keys = services.settings.api_keys
    if not keys:
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # Every key is compared, whether or not one has matched: the time tells nothing.
    matches = [hmac.compare_digest(given.encode(), key.encode()) for key in keys]
    if scheme.lower() != "bearer" or not any(matches):
        raise HTTPException(
            401,
            "Send a key as 'Authorization: Bearer KEY'.",
            headers={"WWW-Authenticate": "Bearer"},
        )
