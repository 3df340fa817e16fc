"""Fifty workers without their work: the real ledger, real Redis, and a clock that the test moves.

Nothing here depends on how fast the machine is: the ledger takes its time from a key that the fleet
sets before each call, and what happens next is the next event in line.
"""

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest

from pipeline.ledger import Lease, Ledger, Progress, WorkItem
from pipeline.ledger.script import source
from tests.ledger_steps import INGEST, worker

BATCH, SHARD, LANES = 8, 64, 2
ROW = 0.1  # seconds of a lane
BEAT, RECONCILE = 3.0, 2.0  # seconds, as by default
RESTART = 10.0  # seconds until a worker that died is back
CLOCK = "test:now"
START = 1_800_000_000.0

POISON_TRIES = 3


def set_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on ledgers that are opened have the time of the key CLOCK, where it is set."""
    real = "local time = call('TIME')"
    ours = f"local set = call('GET', '{CLOCK}')\nlocal time = set and {{ set, 0 }} or call('TIME')"
    changed = source().replace(real, ours)
    assert changed != source()
    monkeypatch.setattr("pipeline.ledger.script.source", lambda: changed)


@dataclass
class Worker:
    """Its `name` is another after each start, as that of a real one."""

    number: int
    name: str = ""
    starts: int = 0
    lanes: dict[str, Lease] = field(default_factory=dict)  # what it has begun, by token

    @property
    def alive(self) -> bool:
        return bool(self.name)


class Fleet:
    """`poison` are rows that end the worker that embeds them; `rows` counts those that are done."""

    def __init__(self, ledger: Ledger, redis: Any, size: int, poison: frozenset[int] = frozenset()):
        self.ledger, self.poison = ledger, poison
        self.workers = [Worker(number) for number in range(size)]
        self.rows: Counter[int] = Counter()  # by worker
        self.rejected: list[int] = []
        self.most_held = 0
        self.deaths = 0
        self.now = START
        self._redis = redis
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        for each in self.workers:
            self._after(each.number * BEAT / size, lambda each=each: self.start(each))  # type: ignore[misc]

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), act))

    def run(self, seconds: float) -> int:
        """Lets time pass. Returns the rows that were done meanwhile."""
        before, until = self.rows.total(), self.now + seconds
        while self._events and self._events[0][0] <= until:
            self.now, _, act = heapq.heappop(self._events)
            self._redis.set(CLOCK, self.now)
            act()
        self.now = until
        return self.rows.total() - before

    # --- workers ------------------------------------------------------------------------------

    def start(self, each: Worker) -> None:
        each.starts += 1
        each.name = f"worker-{each.number:03}-{each.starts}"
        self._beat(each, each.name)
        self._reconcile(each, each.name)

    def kill(self, each: Worker) -> None:
        self.deaths += 1
        each.name = ""
        each.lanes.clear()
        self._after(RESTART, lambda: self.start(each))

    def _beat(self, each: Worker, name: str) -> None:
        if each.name == name:
            self.ledger.workers.beat(worker(name, LANES), held=list(each.lanes.values()))
            self._after(BEAT, lambda: self._beat(each, name))

    def _reconcile(self, each: Worker, name: str) -> None:
        if each.name == name:
            self.ledger.jobs.reclaim(pause=RECONCILE / 2)
            self.dispatch()
            self._after(RECONCILE, lambda: self._reconcile(each, name))

    def dispatch(self) -> None:
        for lease in self.ledger.jobs.dispatch():
            self._after(0.001, lambda lease=lease: self._begin(lease))  # type: ignore[misc]

    def _begin(self, lease: Lease) -> None:
        each = next((one for one in self.workers if one.name == lease.worker), None)
        if each is None:
            return  # the message lies in the queue of a worker that is dead
        item = self.ledger.jobs.begin(lease, each.name)
        if item is None:
            return
        each.lanes[lease.token] = lease
        self.most_held = max(self.most_held, len(each.lanes))
        if item.crashes >= POISON_TRIES:
            self.rejected.append(item.progress.cursor)
            self.rows[each.number] += 1
            item = _behind_one(item)
        self._batch(each, each.name, item, item.progress.cursor)

    def _batch(self, each: Worker, name: str, item: WorkItem, cursor: int) -> None:
        """Records what is done so far, and works on the next rows."""
        if each.name != name:
            return
        size = 1 if cursor < item.quarantined else BATCH
        stop = min(item.stop, cursor + size)
        done = {"embedded": cursor - item.start}
        if not self.ledger.jobs.checkpoint(item.lease, Progress(cursor, stop, done)):
            self._leave(each, item)
        elif cursor == item.stop:
            self.ledger.jobs.finish(item.lease)
            self._leave(each, item)
        else:
            deadly = any(row in self.poison for row in range(cursor, stop))
            after = self._die if deadly else self._done
            self._after(ROW * (stop - cursor), lambda: after(each, name, item, cursor, stop))

    def _done(self, each: Worker, name: str, item: WorkItem, cursor: int, stop: int) -> None:
        if each.name == name:
            self.rows[each.number] += stop - cursor
            self._batch(each, name, item, stop)

    def _die(self, each: Worker, name: str, *_: object) -> None:
        if each.name == name:
            self.kill(each)

    def _leave(self, each: Worker, item: WorkItem) -> None:
        del each.lanes[item.lease.token]
        self.dispatch()


def submit(fleet: Fleet, job: str, rows: int) -> None:
    """A job that is planned already."""
    fleet.ledger.jobs.create(job, *INGEST)
    while not (leases := fleet.ledger.jobs.dispatch()):
        fleet.run(0.1)
    for lease in leases:
        assert fleet.ledger.jobs.begin(lease, lease.worker)
        fleet.ledger.jobs.planned(lease, rows, SHARD)
    fleet.dispatch()


def _behind_one(item: WorkItem) -> WorkItem:
    progress = replace(item.progress, cursor=item.progress.cursor + 1)
    return replace(item, progress=progress, crashes=0)
