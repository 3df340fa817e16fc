"""The services that a worker cannot work without: which of them are away, and for how long.

While one is, the worker takes no work, since it could only give it back, and asks the service
again and again whether it is well.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

from pipeline import metrics
from pipeline.base.asking import Asked, ask_blobs
from pipeline.base.blobs import Blobs
from pipeline.base.errors import BlobsUnavailable, StoreUnavailable, Unavailable
from pipeline.base.outage import Away
from pipeline.ledger.workers import SERVICES
from pipeline.store import Store

LOOK_SECONDS = 1.0  # between two looks; while a service is away, also between two questions to it

_NOBODY = UUID(int=0)  # a point that no image has

_ERRORS: Mapping[str, type[Unavailable]] = {"store": StoreUnavailable, "blobs": BlobsUnavailable}


@dataclass
class Services:
    """Without any, as in a test, nothing is ever away."""

    _asked: Mapping[str, Asked] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, blobs: Blobs) -> "Services":
        return cls(
            {
                "store": Asked(store.outage, partial(ask_store, store)),
                "blobs": Asked(blobs.outage, partial(ask_blobs, blobs)),
            }
        )

    @property
    def away(self) -> dict[str, Away]:
        """Those that are away, by name."""
        found = {name: service.outage.look() for name, service in self._asked.items()}
        return {name: away for name, away in found.items() if away is not None}

    def look(self) -> None:
        """Call it often: it asks those that seem to be unavailable."""
        for name, service in self._asked.items():
            is_up = service.look() is None
            text = "Whether this process reaches what it depends on"
            metrics.gauge("kindred_dependency_up", text, is_up, dependency=name)

    def note(self, error: Unavailable) -> None:
        """Work has met this error, which may be no service's."""
        for name, service in self._asked.items():
            if isinstance(error, _ERRORS[name]) and service.outage.look() is None:
                service.outage.fails(str(error), writes=True)

    def refuse(self, *, reading: bool = False) -> None:
        """Raises the error of one that is away, instead of calling it once more.

        `reading`: a store that only takes no writes will do.
        """
        for error in self._errors(reading):
            raise error

    def why_unanswered(self) -> Unavailable | None:
        """What no query can be answered without now."""
        return next(self._errors(reading=True), None)

    def seconds(self) -> float:
        """For how long no query could be answered; 0 if one can."""
        return max((time.time() - away.since for _, away in self._hindering(True)), default=0.0)

    def _errors(self, reading: bool) -> Iterator[Unavailable]:
        for name, away in self._hindering(reading):
            yield _ERRORS[name](away.sentence(SERVICES[name]))

    def _hindering(self, reading: bool) -> Iterator[tuple[str, Away]]:
        """An answer is a blob that is written."""
        for name, away in self.away.items():
            if not (reading and name == "store" and away.writes_only):
                yield name, away


def ask_store(store: Store) -> None:
    """Reads; if that is not what fails, it writes. Raises StoreUnavailable."""
    store.retrieve([_NOBODY])
    if store.outage.look() is not None:
        store.set_payloads({_NOBODY: {}})  # changes nothing, and passes through the server's log
