"""The whole ledger, over one connection pool."""

from pipeline.base.settings import Settings
from pipeline.ledger.asks import RequestLedger
from pipeline.ledger.jobs import JobLedger
from pipeline.ledger.script import Script, reachable
from pipeline.ledger.sessions import CallLedger, SessionLedger
from pipeline.ledger.tombstones import Tombstones
from pipeline.ledger.workers import WorkerLedger


class Ledger:
    """`jobs`, `asks` and `workers` share one Lua script, and all of it one connection pool.

    `patience`: for how many seconds a change waits for Redis to come back; a worker has some.
    """

    def __init__(self, settings: Settings, patience: float = 0) -> None:
        self._script = Script(settings.redis_url, patience)
        self.workers = WorkerLedger(self._script, settings.heartbeat_seconds)
        self.jobs = JobLedger(self._script, self.workers, settings.lease_seconds)
        self.tombstones = Tombstones(self._script)
        self.asks = RequestLedger(
            self._script,
            self.workers,
            ttl=settings.search_ttl,
            keep=settings.result_ttl,
            lease=settings.lease_seconds,
        )
        self.sessions = SessionLedger(self._script.redis)
        self.calls = CallLedger(self._script.redis)

    def ping(self) -> None:
        """Raises LedgerUnavailable when Redis is away."""
        with reachable():
            self._script.redis.ping()

    def queue_length(self, queue: str) -> int:
        """Messages that wait on a Celery queue."""
        with reachable():
            return int(self._script.redis.llen(queue))

    def close(self) -> None:
        self._script.redis.close()
