"""The ledgers of all collections, over one connection pool."""

import re
from typing import Any

from pipeline.base.errors import NotFound
from pipeline.base.settings import Timing
from pipeline.ledger.connection import connect, reachable
from pipeline.ledger.decisions import Decisions
from pipeline.ledger.eviction import check_eviction
from pipeline.ledger.incoming import IncomingLedger
from pipeline.ledger.jobs import JobLedger
from pipeline.ledger.moves import MoveLedger
from pipeline.ledger.pseudonyms import PseudonymLedger
from pipeline.ledger.receivers import ReceiverLedger
from pipeline.ledger.requests import RequestLedger
from pipeline.ledger.retention import Retention
from pipeline.ledger.schema import check_schema
from pipeline.ledger.script import Script
from pipeline.ledger.sessions import CallLedger, SessionLedger
from pipeline.ledger.tombstones import Tombstones
from pipeline.ledger.uploads import UploadLedger
from pipeline.ledger.withheld import WithheldLedger
from pipeline.ledger.workers import WorkerLedger
from pipeline.messages import EncoderInfo

COLLECTIONS_KEY = "kindred:collections"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

# Names of keys that belong to no collection.
_RESERVED = frozenset({"calls", "collections", "schema", "session"})


class Ledger:
    """What one collection owes and has done. Its keys begin with `namespace`."""

    def __init__(self, collection: str, redis: Any, timing: Timing, patience: float) -> None:
        self.collection = collection
        self.namespace = namespace_of(collection)
        self._redis = redis
        script = Script(redis, self.namespace, patience)
        self.workers = WorkerLedger(script, timing.heartbeat, timing.lease)
        self.jobs = JobLedger(script, self.workers, timing.lease)
        self.tombstones = Tombstones(script)
        self.retention = Retention(script)
        self.uploads = UploadLedger(script)
        self.decisions = Decisions(script)
        self.withheld = WithheldLedger(script)
        self.incoming = IncomingLedger(script)
        self.moves = MoveLedger(redis, self.namespace)
        self.receivers = ReceiverLedger(redis, self.namespace)
        self.pseudonyms = PseudonymLedger(redis, self.namespace)
        self.requests = RequestLedger(
            script,
            self.workers,
            ttl=timing.request_ttl,
            keep=timing.result_ttl,
            lease=timing.lease,
        )

    def claim_encoder(self, worker: str, encoder: EncoderInfo) -> EncoderInfo | None:
        """None, or the other encoder that has this collection: `WorkerLedger.claim_encoder`."""
        return self.workers.claim_encoder(worker, encoder)

    def register(self) -> None:
        """Makes the collection one of those that `Ledgers.names` lists."""
        with reachable():
            self._redis.sadd(COLLECTIONS_KEY, self.collection)


class Ledgers:
    """All collections of one Redis, over one connection pool.

    `patience`: for how many seconds a change waits for Redis to come back; a worker has some.
    `redis`: a client that is ready, in the place of one for `redis_url`; its replies are text.
    """

    def __init__(
        self, redis_url: str, timing: Timing, patience: float = 0, redis: Any | None = None
    ) -> None:
        self._redis = connect(redis_url) if redis is None else redis
        self._timing, self._patience = timing, patience
        self._said_unknown = False  # that the eviction policy could not be read
        self._ledgers: dict[str, Ledger] = {}
        self.sessions = SessionLedger(self._redis)
        self.calls = CallLedger(self._redis)

    def of(self, collection: str) -> Ledger:
        """The ledger of a collection, registered or not. Raises NotFound for what is no name."""
        if collection not in self._ledgers:
            if not _NAME.fullmatch(collection) or collection in _RESERVED:
                raise NotFound("There can be no collection of this name.")
            ledger = Ledger(collection, self._redis, self._timing, self._patience)
            return self._ledgers.setdefault(collection, ledger)
        return self._ledgers[collection]

    def names(self) -> list[str]:
        """All collections that were registered, in order."""
        with reachable():
            return sorted(self._redis.smembers(COLLECTIONS_KEY))

    def check_schema(self) -> None:
        """Call it before anything else. Raises SchemaMismatch, saying what to do."""
        with reachable():
            check_schema(self._redis)

    def check_eviction(self) -> None:
        """Raises LedgerMisconfigured if this Redis may throw away what it has."""
        with reachable():
            self._said_unknown = check_eviction(self._redis, warn=not self._said_unknown)

    def ping(self) -> None:
        """Raises LedgerUnavailable when Redis is unavailable."""
        with reachable():
            self._redis.ping()

    def queue_length(self, queue: str) -> int:
        """Messages that wait on a Celery queue."""
        with reachable():
            return int(self._redis.llen(queue))

    def close(self) -> None:
        self._redis.close()


def namespace_of(collection: str) -> str:
    return f"kindred:{collection}"
