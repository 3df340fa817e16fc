"""A fleet of which nobody knows what it does next: a seeded walk over the real ledger.

Workers come, leave, die, fall asleep and wake up late; messages are lost or come twice; jobs are
paused, cancelled, retried and planned anew; hosts lack sources; rows end their workers; the clock
jumps. After each step the ledger is looked at as a whole.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.base.errors import Conflict
from pipeline.base.states import FINAL_STATES
from pipeline.ledger import Lease, Ledger, Progress, WorkItem
from pipeline.ledger.records import PLAN, JobRecord
from tests.fleet import BEAT, CLOCK, POISON_TRIES, RECONCILE, START
from tests.ledger_steps import INGEST, worker

BATCH, SHARD = 4, 16
REPLANS = 5
SLEEP = 6 * BEAT  # seconds after which a worker without a heartbeat counts as dead, and some more


@dataclass
class Work:
    """An item in a worker's hands; its rows [cursor, stop) are being worked on."""

    item: WorkItem
    cursor: int
    stop: int


@dataclass(eq=False)
class Worker:
    name: str
    host: int
    lanes: int
    wakes: float = 0
    beats: float = 0
    reconciles: float = 0
    inbox: list[Lease] = field(default_factory=list)
    held: dict[str, Work] = field(default_factory=dict)


class Walk:
    """By job, `lacks` has the hosts that do not have its source, and `poison` its deadly rows."""

    def __init__(self, ledger: Ledger, redis: Any, seed: int, hosts: int, jobs: int) -> None:
        self.ledger, self.random = ledger, random.Random(seed)
        self.time, self.jumped = 0.0, -BEAT
        self.workers: list[Worker] = []
        self.jobs: list[str] = []
        self.poison: dict[str, frozenset[int]] = {}
        self.lacks: dict[str, frozenset[int]] = {}
        self.rejected: set[tuple[str, int]] = set()
        self.done: Counter[str] = Counter()
        self._hosts, self._most, self._offset = hosts, jobs, START
        self._redis, self._starts = redis, 0
        self._set_clock()
        for host in range(hosts):
            self.join(host)

    # --- the world --------------------------------------------------------------------------------

    def step(self) -> None:
        """One thing that can happen, and time."""
        actions: tuple[tuple[int, Callable[[], object]], ...] = (
            (30, self.work), (20, self.deliver), (20, self.tick), (3, self.create), (2, self.kill),
            (2, self.fall_asleep), (1, self.leave), (3, self.join_again), (2, self.lose_a_message),
            (2, self.repeat_a_message), (2, self.give_back), (2, self.replan), (4, self.steer),
            (2, self.jump),
        )  # fmt: skip
        weights = [weight for weight, _ in actions]
        [(_, act)] = self.random.choices(actions, weights)
        act()
        self.done[act.__name__] += 1

    def calm_down(self, most: int) -> int:
        """No more faults but the poison. Returns after how many steps all jobs had ended."""
        for steps in range(most):
            for job in self.open_jobs():
                if job.state == "paused":
                    self.ledger.jobs.transition(job.id, "resume")
            if not self.open_jobs():
                return steps
            self.join_again()
            self.tick()
            for each in self._awake():
                while each.inbox:
                    self._begin(each, each.inbox.pop(0))
                for token in [*each.held]:
                    if each in self.workers and token in each.held:
                        self._work(each, token)
        raise AssertionError(f"not ended: {[job.id for job in self.open_jobs()]}")

    def open_jobs(self) -> list[JobRecord]:
        return [job for job in map(self.ledger.jobs.get, self.jobs) if not job.final]

    def tick(self) -> None:
        self.time += self.random.uniform(0.05, 1.0)
        self._set_clock()
        for each in self._awake():
            if each.beats <= self.time:
                each.beats = self.time + BEAT
                held = [work.item.lease for work in each.held.values()]
                self.ledger.workers.beat(worker(each.name, each.lanes), held=held)
            if each.reconciles <= self.time:
                each.reconciles = self.time + RECONCILE
                self.ledger.jobs.reclaim(pause=RECONCILE / 2)
                self._dispatch()

    def jump(self) -> None:
        """By up to eleven days. Workers beat before the next one."""
        if self.time - self.jumped > 2 * BEAT:
            self.jumped = self.time
            size = 10 ** self.random.uniform(-1, 6)
            self._offset += size * self.random.choice((-1, 1))
            self._set_clock()

    def create(self) -> None:
        if len(self.open_jobs()) < self._most:
            job = f"job-{len(self.jobs)}"
            rows, some = range(self.rows_of(job)), self.random.randrange(4)
            first = self.random.choice(rows)
            near = [row for row in range(first, first + 6) if row in rows]
            self.jobs.append(job)
            self.poison[job] = frozenset(self.random.sample(near, min(some, len(near))))
            lacking = self.random.sample(range(self._hosts), self.random.randrange(self._hosts))
            self.lacks[job] = frozenset(lacking) if self.random.random() < 0.3 else frozenset()
            self.ledger.jobs.create(job, *INGEST)
            self._dispatch()

    def rows_of(self, job: str) -> int:
        return 5 + sum(job.encode()) * 7 % 100

    def steer(self) -> None:
        """Somebody presses a button."""
        if self.jobs:
            job = self.random.choice(self.jobs[-2 * self._most :])
            action = self.random.choice(("pause", "resume", "resume", "retry", "cancel"))
            with suppress(Conflict):
                self.ledger.jobs.transition(job, action)  # type: ignore[arg-type]

    # --- messages ---------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        by_name = {each.name: each for each in self.workers}
        for lease in self.ledger.jobs.dispatch():
            if lease.worker in by_name:
                by_name[lease.worker].inbox.append(lease)

    def deliver(self) -> None:
        if each := self._any(each for each in self._awake() if each.inbox):
            position = self.random.randrange(len(each.inbox))
            self._begin(each, each.inbox.pop(position))

    def lose_a_message(self) -> None:
        if each := self._any(each for each in self.workers if each.inbox):
            each.inbox.pop(self.random.randrange(len(each.inbox)))

    def repeat_a_message(self) -> None:
        if each := self._any(each for each in self.workers if each.held):
            work = self.random.choice([*each.held.values()])
            self._any(iter(self.workers)).inbox.append(work.item.lease)  # type: ignore[union-attr]

    # --- workers ----------------------------------------------------------------------------------

    def join(self, host: int) -> None:
        self._starts += 1
        lanes = self.random.choice((1, 2, 3))
        self.workers.append(Worker(f"worker-{host}-{self._starts}", host, lanes))

    def join_again(self) -> None:
        missing = {*range(self._hosts)}.difference(each.host for each in self.workers)
        if missing:
            self.join(self.random.choice(sorted(missing)))

    def kill(self) -> None:
        if each := self._any(filter(self._spares_the_innocent, self.workers)):
            self.workers.remove(each)

    def fall_asleep(self) -> None:
        """For a moment, or for so long that the others take it for dead."""
        if each := self._any(filter(self._spares_the_innocent, self._awake())):
            each.wakes = self.time + self.random.uniform(0, 2 * SLEEP)

    def leave(self) -> None:
        """It was told to stop: it releases what it has."""
        if each := self._any(self._awake()):
            for token in [*each.held]:
                self.ledger.jobs.release(each.held.pop(token).item.lease)
            self.ledger.workers.leave(each.name)
            self.workers.remove(each)

    def _awake(self) -> Iterator[Worker]:
        return (each for each in [*self.workers] if each.wakes <= self.time)

    def _any(self, some: Iterable[Worker]) -> Worker | None:
        found = [*some]
        return self.random.choice(found) if found else None

    def _spares_the_innocent(self, each: Worker) -> bool:
        """A row that is alone whenever its worker dies is rejected, and it should: so chance may
        not hit the same row so often."""
        return not any(
            work.cursor < work.item.quarantined and work.item.crashes for work in each.held.values()
        )

    # --- work -------------------------------------------------------------------------------------

    def _begin(self, each: Worker, lease: Lease) -> None:
        item = self.ledger.jobs.begin(lease, each.name)
        if item is None:
            return
        assert lease.token not in each.held, "the same lease was begun twice"
        work = each.held[lease.token] = Work(item, item.progress.cursor, item.progress.cursor)
        if each.host in self.lacks[lease.job]:
            self._retry_later(each, work, elsewhere=True)
        elif lease.item != PLAN:
            if item.crashes >= POISON_TRIES and work.cursor < item.stop:
                self._reject(work)
            self._record(each, work)

    def _reject(self, work: Work) -> None:
        job, row, counts = work.item.lease.job, work.cursor, dict(work.item.progress.counts)
        assert row in self.poison[job], f"row {row} of {job} is innocent"
        self.rejected.add((job, row))
        counts["rejected"] = counts.get("rejected", 0) + 1
        work.item = replace(work.item, progress=Progress(row, 0, counts), crashes=0)
        work.cursor += 1

    def work(self) -> None:
        if each := self._any(each for each in self._awake() if each.held):
            self._work(each, self.random.choice([*each.held]))

    def _work(self, each: Worker, token: str) -> None:
        work = each.held[token]
        job = work.item.lease.job
        if work.item.lease.item == PLAN:
            self.ledger.jobs.planned(work.item.lease, self.rows_of(job), SHARD)
            self._end(each, token)
        elif self.poison[job].intersection(range(work.cursor, work.stop)):
            self.workers.remove(each)
        else:
            work.cursor = work.stop
            self._record(each, work)

    def _record(self, each: Worker, work: Work) -> None:
        item = work.item
        size = 1 if work.cursor < item.quarantined else BATCH
        work.stop = min(item.stop, work.cursor + size)
        in_flight = work.stop if size == 1 else min(item.stop, work.stop + BATCH)
        counts = dict(item.progress.counts)
        counts["embedded"] = work.cursor - item.start - counts.get("rejected", 0)
        progress = Progress(work.cursor, in_flight, counts)
        going = self.ledger.jobs.checkpoint(item.lease, progress)
        work.item = replace(item, crashes=0)
        if not going:
            self.ledger.jobs.release(item.lease)
            self._end(each, item.lease.token)
        elif work.cursor == item.stop:
            self.ledger.jobs.finish(item.lease)
            self._end(each, item.lease.token)

    def _end(self, each: Worker, token: str) -> None:
        del each.held[token]
        self._dispatch()

    def _retry_later(self, each: Worker, work: Work, *, elsewhere: bool) -> None:
        delay = self.random.choice((0.5, 10))
        self.ledger.jobs.retry_later(work.item.lease, delay, "away", elsewhere=elsewhere)
        self._end(each, work.item.lease.token)

    def give_back(self) -> None:
        """A service was away; the worker is to stop; or an error that nobody expected."""
        each = self._any(each for each in self._awake() if each.held)
        if each and self._spares_the_innocent(each):
            work = self.random.choice([*each.held.values()])
            if self.random.random() < 0.5:
                self._retry_later(each, work, elsewhere=self.random.random() < 0.3)
            else:
                crashed = self.random.random() < 0.5
                self.ledger.jobs.release(work.item.lease, crashed=crashed)
                self._end(each, work.item.lease.token)

    def replan(self) -> None:
        if each := self._any(each for each in self._awake() if each.held):
            work = self.random.choice([*each.held.values()])
            if work.item.lease.item != PLAN and self.random.random() < 0.3:
                self.ledger.jobs.replan(work.item.lease)
                self.ledger.jobs.release(work.item.lease)
                self._end(each, work.item.lease.token)

    def _set_clock(self) -> None:
        self._redis.set(CLOCK, repr(self.time + self._offset))


# --- what always holds --------------------------------------------------------------------------


def check(walk: Walk, redis: Any, namespace: str) -> None:
    """Looks at everything. One item is in one place, and one lane has one item."""
    queue = INGEST[1]
    leases = redis.zrange(f"{namespace}:leases:{queue}", 0, -1)
    waiting = redis.zrange(f"{namespace}:waiting", 0, -1)
    quarantine = redis.lrange(f"{namespace}:quarantine:{queue}", 0, -1)
    active = redis.lrange(f"{namespace}:active:{queue}", 0, -1)
    assert len(active) == len({*active})
    places = [*leases, *waiting, *quarantine]
    for job in walk.jobs:
        found = redis.hgetall(f"{namespace}:job:{job}")
        returned = redis.lrange(f"{namespace}:job:{job}:returned", 0, -1)
        places += [f"{job}:{item}" for item in returned]
        mine = [place for place in places if place.startswith(f"{job}:")]
        if found["state"] in FINAL_STATES:
            assert not returned and job not in active
            assert not [one for one in quarantine if one.startswith(f"{job}:")]
            if found["state"] not in ("cancelled", "failed"):
                counts = redis.hgetall(f"{namespace}:job:{job}:counts")
                assert sum(map(int, counts.values())) == int(found["total"])
        else:
            out = int(found["next_item"]) - int(found["finished_items"])
            assert len(mine) == out, (job, found, mine)
            owed = returned or int(found["next_item"]) < int(found["items"])
            assert not owed or found["state"] == "paused" or job in active, (job, found)
    assert len(places) == len({*places}), Counter(places).most_common(3)
    _check_load(redis, namespace, queue, leases)


def _check_load(redis: Any, namespace: str, queue: str, leases: list[str]) -> None:
    expected: Counter[str] = Counter()
    for member in leases:
        item = redis.hgetall(f"{namespace}:item:{member}")
        assert item["token"] and item["worker"], (member, item)
        expected[item["worker"]] += int(item["weight"])
    known = redis.zrange(f"{namespace}:workers", 0, -1)
    load = redis.hgetall(f"{namespace}:workers:load:{queue}")
    lanes = redis.hgetall(f"{namespace}:workers:lanes:{queue}")
    for name in known:
        assert int(load.get(name, 0)) == expected[name], (name, load, expected)
        assert expected[name] <= int(lanes.get(name, 0)), (name, expected, lanes)


def check_end(walk: Walk, redis: Any, namespace: str) -> None:
    """When all jobs have ended, nothing of their work is left."""
    for job in map(walk.ledger.jobs.get, walk.jobs):
        rejected = job.counts.get("rejected", 0)
        assert rejected <= len(walk.poison[job.id])
        if job.state in ("succeeded", "completed_with_rejections"):
            assert rejected == len({row for row in walk.poison[job.id] if row < (job.total or 0)})
