"""The api itself over a ledger in memory: no Redis, no worker, no waiting.

A test plays the worker: it answers what the ledger holds, before or after it calls.
"""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.access import AccessControl
from api.app import create_app
from api.services import Services
from pipeline.base.blobs import Blobs, request_folder
from pipeline.base.keys import Keys
from pipeline.base.settings import Settings
from pipeline.ledger import Ledger
from pipeline.sources.allowed import AllowedSources
from tests.memory_ledger import memory_ledgers
from workers.queue import make_app


class _Waiting:
    """Looks once, however long the caller would wait; before that, `play` can act as a worker."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.play: Any = lambda identifier: None

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...

    def told(self, identifier: str) -> str:
        return ""

    async def finished(self, get: Any, identifier: str, seconds: float, begin: Any = None) -> Any:
        self.seconds.append(seconds)
        if begin is not None:
            begin()
        self.play(identifier)
        return get(identifier)


class MemoryApi:
    """`waited` has the seconds that each call was ready to wait."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings = Settings(data=folder, sources=("/",), **settings)
        keys = Keys.of(self.settings.keys_file, ())
        ledgers = memory_ledgers()
        self._waiting = _Waiting()
        waiting: Any = self._waiting
        services = Services(
            settings=self.settings,
            ledgers=ledgers,
            queue=make_app("memory://", current=False),
            waiting=waiting,
            access=AccessControl(keys, ledgers.sessions, ledgers.calls, rate_limit=0),
            allowed=AllowedSources.of(self.settings.sources),
        )
        self.services = services
        self.ledger: Ledger = ledgers.of(self.settings.collection)
        self.blobs = Blobs(self.settings.blobs_of(self.settings.collection))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Services, "open", lambda *_: services)
            app = create_app(self.settings, keys)
        self.http = TestClient(app, "http://127.0.0.1", raise_server_exceptions=False)

    @property
    def waited(self) -> list[float]:
        return self._waiting.seconds

    def answer_at_once(self, answer: bytes) -> None:
        """From now on every search is finished as soon as a call looks at it."""

        def play(request: str) -> None:
            if self.ledger.requests.claim(request, "worker"):
                self.blobs.write(f"{request_folder(request)}/answer.json", answer)
                self.ledger.requests.succeed(request)

        self._waiting.play = play
