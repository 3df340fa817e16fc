"""The ledger's promises: whatever is lost or repeated, totals reconcile."""

import time

import pytest

from pipeline.base.errors import Conflict, LedgerUnavailable, NotFound
from pipeline.ledger import PLAN, Claim, Lease, Ledger, Ledgers, Progress, Timing
from pipeline.ledger.replies import named
from tests.fleet import CLOCK, set_clock
from tests.ledger_steps import INGEST, OTHER, US, begin_all, planned, work, worker
from tests.system import until
from tests.unit.conftest import COLLECTION, Backend


def test_a_job_ends_when_all_its_rows_are_accounted_for(ledger: Ledger) -> None:
    planned(ledger, "job", total=130, shard_size=64)

    for item in work(ledger):
        rows = item.stop - item.start
        ledger.jobs.checkpoint(
            item.lease,
            Progress(item.stop, item.stop, {"embedded": rows - 2, "unchanged": 1, "rejected": 1}),
            f"rejected from {item.start} on",
        )
        ledger.jobs.finish(item.lease)

    job = ledger.jobs.get("job")
    assert job.state == "completed_with_rejections"
    assert (job.total, job.counts) == (130, {"embedded": 124, "unchanged": 3, "rejected": 3})
    assert ledger.jobs.rejected_parts("job", 0, 100) == [
        ("rejected from 0 on", 64), ("rejected from 64 on", 128), ("rejected from 128 on", 130)
    ]  # fmt: skip
    assert ledger.jobs.rejected_parts("job", 64, 1) == [("rejected from 64 on", 128)]


def test_a_repeated_checkpoint_overwrites_and_never_adds(ledger: Ledger) -> None:
    planned(ledger, "job", total=64, shard_size=64)
    [item] = begin_all(ledger, US)
    for _ in range(3):
        assert ledger.jobs.checkpoint(
            item.lease, Progress(8, 16, {"embedded": 7, "rejected": 1}), "rejected"
        )

    job = ledger.jobs.get("job")
    assert job.counts == {"embedded": 7, "rejected": 1}
    assert len(ledger.jobs.rejected_parts("job", 0, 100)) == 1


def test_a_message_delivered_twice_begins_once(ledger: Ledger) -> None:
    ledger.jobs.create("job", *INGEST)
    [lease] = ledger.jobs.dispatch()

    assert ledger.jobs.begin(lease, US) is not None
    assert ledger.jobs.begin(lease, US) is None
    assert ledger.jobs.begin(Lease("job", PLAN, "another token"), OTHER) is None


def test_a_worker_that_lost_its_lease_can_write_no_more(ledger: Ledger) -> None:
    planned(ledger, "job", total=64, shard_size=64)
    [stale] = begin_all(ledger, US)
    ledger.jobs.checkpoint(stale.lease, Progress(8, 24, {"embedded": 8}))
    ledger.jobs.reclaim(alone=OTHER)
    [item] = begin_all(ledger, OTHER)

    assert item.progress.cursor == 8
    assert (ledger.jobs.holds(stale.lease), ledger.jobs.holds(item.lease)) == (False, True)
    assert not ledger.jobs.checkpoint(stale.lease, Progress(64, 64, {"embedded": 64}))
    ledger.jobs.finish(stale.lease)
    job = ledger.jobs.get("job")
    assert (job.state, job.counts) == ("running", {"embedded": 8})


def test_jobs_take_turns_and_searches_find_room(ledger: Ledger) -> None:
    ledger.workers.beat(worker(US, lanes=2))
    ledger.jobs.create("giant", *INGEST)
    ledger.jobs.create("small", *INGEST)
    giant, small = ledger.jobs.dispatch()
    for plan, total in ((giant, 10_000), (small, 3)):
        ledger.jobs.begin(plan, US)
        ledger.jobs.planned(plan, total, shard_size=1)

    taken: list[str] = []
    for _ in range(3):
        leases = ledger.jobs.dispatch()
        assert len(leases) == 2, "as many as the live workers have lanes"
        for lease in leases:
            assert ledger.jobs.begin(lease, US)
            taken.append(lease.job)
            ledger.jobs.finish(lease)

    assert sorted(taken) == ["giant"] * 3 + ["small"] * 3
    assert ledger.jobs.get("small").state == "succeeded"


def test_many_leases_come_of_many_short_calls_and_are_those_of_a_long_one(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis does nothing else during a call."""
    leased = {}
    for most in (2, 1000):
        monkeypatch.setattr("pipeline.ledger.jobs._LEASES", most)
        ledger = backend.ledgers().of(f"at-most-{most}")
        ledger.workers.beat(worker(US, lanes=3))
        for job in ("one", "two", "three"):
            ledger.jobs.create(job, *INGEST)
        for plan in ledger.jobs.dispatch():
            ledger.jobs.begin(plan, US)
            ledger.jobs.planned(plan, 7, shard_size=1)
        for name, lanes in ((US, 3), (OTHER, 5), ("worker-c", 9)):
            ledger.workers.beat(worker(name, lanes))
        first = ledger.jobs._script("dispatch", 60, 60, most)
        rest = ledger.jobs.dispatch()
        assert len(first) == min(most, 17), "as many as there are lanes"
        found = [*map(named, first), *(vars(lease) for lease in rest)]
        leased[most] = [(one["job"], int(one["item"]), one["worker"]) for one in found]

    assert leased[2] == leased[1000]
    assert len({(job, item) for job, item, _ in leased[2]}) == 17


def test_what_a_dead_worker_held_is_dispatched_again(backend: Backend, ledger: Ledger) -> None:
    hasty = backend.ledger(heartbeat=0.01)
    planned(ledger, "job", total=4, shard_size=4)
    begin_all(ledger, US)

    until(lambda: hasty.jobs.reclaim() == 1, "the end of the heartbeat")

    ledger.workers.leave(US)
    ledger.workers.beat(worker(OTHER, lanes=1))
    assert [(lease.item, lease.worker) for lease in ledger.jobs.dispatch()] == [(1, OTHER)]


def test_a_message_that_was_lost_is_sent_again(backend: Backend, ledger: Ledger) -> None:
    hasty = backend.ledger(lease=0.01)
    hasty.jobs.create("job", *INGEST)
    assert len(hasty.jobs.dispatch()) == 1
    assert hasty.jobs.dispatch() == []

    until(lambda: hasty.jobs.reclaim() == 1, "the end of the lease")

    assert len(hasty.jobs.dispatch()) == 1


def test_what_a_worker_says_it_is_at_stays_with_it(backend: Backend, ledger: Ledger) -> None:
    """As a source that is opened for an hour, or a batch whose previews are written slowly."""
    hasty = backend.ledger(lease=0.05)
    ledger.workers.beat(worker(US, lanes=2))
    for job in ("quick", "slow"):
        ledger.jobs.create(job, *INGEST)
    leases = hasty.jobs.dispatch()
    for lease in leases:
        assert hasty.jobs.begin(lease, US)

    stale = Lease("quick", PLAN, "stale")
    ledger.workers.beat(worker(US, lanes=2), held=[leases[1], stale])  # for a minute

    assert until(ledger.jobs.reclaim, "the end of a lease") == 1
    assert [lease.job for lease in ledger.jobs.dispatch()] == ["quick"]


def test_a_worker_that_no_message_reaches_learns_of_it(backend: Backend, ledger: Ledger) -> None:
    """Its heartbeats go on while its connection to the broker is dead. Others get the work."""
    hasty = backend.ledger(lease=0.01)
    info = worker(US, lanes=2)
    assert ledger.workers.beat(info) == 0
    for job in ("one", "two"):
        hasty.jobs.create(job, *INGEST)
    assert len(hasty.jobs.dispatch()) == 2
    until(hasty.jobs.reclaim, "the end of the leases")

    assert ledger.workers.beat(info) == 2
    assert [lease.worker for lease in hasty.jobs.dispatch()] == [US], "one, to see if it lives"
    ledger.workers.beat(worker(OTHER, lanes=2))
    [lease] = ledger.jobs.dispatch()
    assert lease.worker == OTHER

    until(hasty.jobs.reclaim, "the end of the lease")
    assert ledger.workers.beat(info) == 3
    again = [lease for lease in ledger.jobs.dispatch() if lease.worker == US]
    assert all(ledger.jobs.begin(lease, US) for lease in again)
    ledger.workers.leave(OTHER)
    assert ledger.workers.beat(info) == (0 if again else 3)


def test_leases_name_the_worker_with_the_most_free_lanes(ledger: Ledger) -> None:
    ledger.workers.beat(worker(US, lanes=2))
    ledger.workers.beat(worker(OTHER, lanes=4))
    planned(ledger, "job", total=1000, shard_size=1)

    first = ledger.jobs.dispatch()
    assert sorted(lease.worker for lease in first) == [US] * 2 + [OTHER] * 4
    assert ledger.jobs.dispatch() == []

    for lease in first:
        assert ledger.jobs.begin(lease, lease.worker)
    for lease in (one for one in first if one.worker == US):
        ledger.jobs.finish(lease)
    assert [lease.worker for lease in ledger.jobs.dispatch()] == [US] * 2


def test_nothing_goes_to_a_worker_that_has_left_or_whose_heartbeat_is_late(
    backend: Backend, ledger: Ledger
) -> None:
    ledger.workers.beat(worker(OTHER, lanes=1))
    ledger.workers.leave(US)
    planned(ledger, "job", total=10, shard_size=1)
    assert [lease.worker for lease in ledger.jobs.dispatch()] == [OTHER]

    ledger.jobs.create("another", *INGEST)
    ledger.workers.beat(worker(US, lanes=1))
    late = backend.ledger(heartbeat=0.001)
    until(lambda: not late.workers.alive(), "the end of all heartbeats")
    assert late.jobs.dispatch() == []
    assert ledger.workers.departed() == []
    ledger.workers.leave(OTHER)
    assert ledger.workers.departed() == [OTHER]


def test_leases_that_another_version_has_ended_are_no_longer_counted(
    backend: Backend, ledger: Ledger
) -> None:
    planned(ledger, "job", total=2, shard_size=1)
    [lease] = ledger.jobs.dispatch()
    backend.redis.zrem(f"{ledger.namespace}:leases:{INGEST[1]}", f"job:{lease.item}")
    assert ledger.jobs.dispatch() == []

    ledger.jobs.reclaim()

    assert len(ledger.jobs.dispatch()) == 1


def test_one_reclaims_for_all(ledger: Ledger) -> None:
    ledger.jobs.create("job", *INGEST)
    [lease] = ledger.jobs.dispatch()
    ledger.jobs.begin(lease, US)
    assert ledger.jobs.reclaim() == 0

    assert ledger.jobs.reclaim(alone=OTHER, pause=60) == 0
    assert ledger.jobs.reclaim(alone=OTHER) == 1


def test_a_job_whose_source_has_changed_begins_anew(ledger: Ledger) -> None:
    ledger.workers.beat(worker(US, lanes=2))
    planned(ledger, "job", total=128, shard_size=64)
    first, second = begin_all(ledger, US)
    ledger.jobs.checkpoint(first.lease, Progress(8, 16, {"embedded": 7, "rejected": 1}))

    assert ledger.jobs.replan(second.lease) == 1

    job = ledger.jobs.get("job")
    assert (job.state, job.total, job.done) == ("planning", None, 0)
    assert not ledger.jobs.checkpoint(
        first.lease, Progress(16, 24, {"embedded": 15, "rejected": 1})
    )
    assert ledger.jobs.replan(second.lease) == 0, "it holds no lease any more"
    [plan] = ledger.jobs.dispatch()
    ledger.jobs.begin(plan, US)
    ledger.jobs.planned(plan, 3, 64, "of three files")
    [item] = begin_all(ledger, US)
    assert (item.version, item.stop) == ("of three files", 3)


def test_the_row_that_ends_its_workers_is_found(ledger: Ledger) -> None:
    """A batch of eight is in flight when the worker dies; row 5 is what kills it."""
    planned(ledger, "job", total=64, shard_size=64)
    poison, deaths = 5, 0
    while True:
        [item] = begin_all(ledger, US)
        if item.crashes >= 3:
            break
        cursor = item.progress.cursor
        while True:
            in_flight = cursor + (1 if cursor < item.quarantined else 8)
            ledger.jobs.checkpoint(item.lease, Progress(cursor, in_flight, {"embedded": cursor}))
            if cursor <= poison < in_flight:
                break
            cursor = in_flight
        deaths += 1
        ledger.jobs.reclaim(alone=OTHER)

    assert item.progress.cursor == poison
    assert deaths == 4  # once with its batch, three times alone


def test_a_row_is_blamed_only_for_a_death_that_it_was_alone_in(ledger: Ledger) -> None:
    """Two items are in flight when their worker dies. One worker takes each alone, and the others
    go on with everything else."""
    ledger.workers.beat(worker(US, lanes=2))
    planned(ledger, "bystander", total=1000, shard_size=1)
    ledger.jobs.transition("bystander", "pause")
    planned(ledger, "job", total=128, shard_size=64)
    dead = begin_all(ledger, US)
    for item in dead:
        ledger.jobs.checkpoint(item.lease, Progress(item.start, item.start + 8))
    ledger.workers.leave(US)
    ledger.jobs.transition("bystander", "resume")
    ledger.workers.beat(worker("worker-c", lanes=2))
    [busy, other] = ledger.jobs.dispatch()
    assert ledger.jobs.reclaim() == 2
    ledger.workers.beat(worker(OTHER, lanes=2))

    alone = ledger.jobs.dispatch()
    assert [(lease.job, lease.worker) for lease in alone] == [("job", OTHER)]
    assert ledger.jobs.dispatch() == []
    ledger.jobs.begin(busy, "worker-c")
    ledger.jobs.finish(busy)
    assert ledger.jobs.dispatch() == [], "it gets ready to take the second one alone"

    item = ledger.jobs.begin(alone[0], OTHER)
    assert item is not None
    assert (item.crashes, item.quarantined) == (0, item.start + 8)
    ledger.jobs.checkpoint(item.lease, Progress(item.start + 8, item.start + 16, {"embedded": 8}))
    [beside] = ledger.jobs.dispatch()
    assert (beside.job, beside.worker) == ("bystander", OTHER), "it is no longer quarantined"

    ledger.jobs.begin(other, "worker-c")
    ledger.jobs.finish(other)
    assert [(lease.job, lease.worker) for lease in ledger.jobs.dispatch()] == [("job", "worker-c")]


def test_a_plan_is_no_suspect_for_others(ledger: Ledger) -> None:
    ledger.workers.beat(worker(US, lanes=2))
    ledger.jobs.create("hour", *INGEST)
    [plan] = ledger.jobs.dispatch()
    ledger.jobs.begin(plan, US)
    ledger.jobs.checkpoint(plan, Progress(0, 1))  # as workers of an older version do
    ledger.jobs.reclaim(alone=OTHER)

    ledger.jobs.create("other", *INGEST)
    leases = ledger.jobs.dispatch()

    assert [lease.job for lease in leases] == ["hour", "other"]
    item = ledger.jobs.begin(leases[0], US)
    assert item is not None
    assert item.deaths == 1


@pytest.mark.parametrize("end", ["cancel", "pause"])
def test_what_is_quarantined_stops_with_its_job(ledger: Ledger, end: str) -> None:
    planned(ledger, "job", total=64, shard_size=64)
    [item] = begin_all(ledger, US)
    ledger.jobs.checkpoint(item.lease, Progress(8, 16, {"embedded": 8}))
    ledger.jobs.reclaim(alone=OTHER)

    ledger.jobs.transition("job", "cancel" if end == "cancel" else "pause")
    assert ledger.jobs.dispatch() == []

    ledger.jobs.transition("job", "retry" if end == "cancel" else "resume")
    if end == "cancel":
        [plan] = ledger.jobs.dispatch()
        ledger.jobs.begin(plan, US)
        ledger.jobs.planned(plan, 64, 64)
    [again] = begin_all(ledger, US)
    assert again.progress.cursor == (0 if end == "cancel" else 8)
    assert again.quarantined == (0 if end == "cancel" else 16)


def test_a_worker_that_dies_before_it_touches_a_row_blames_none(ledger: Ledger) -> None:
    planned(ledger, "job", total=64, shard_size=64)
    [item] = begin_all(ledger, US)
    ledger.jobs.checkpoint(item.lease, Progress(0, 8))
    for _ in range(4):
        ledger.jobs.reclaim(alone=OTHER)
        [item] = begin_all(ledger, US)

    assert (item.crashes, item.deaths) == (0, 4)
    ledger.jobs.checkpoint(item.lease, Progress(1, 2, {"embedded": 1}))
    ledger.jobs.release(item.lease)
    [item] = begin_all(ledger, US)
    assert item.deaths == 0, "it counts from the last row that was done"


HOUR = 3600.0


@pytest.mark.parametrize("jump", [-HOUR, HOUR, 24 * HOUR])
def test_a_clock_that_jumps_kills_nobody_and_keeps_nobody_alive(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """Set by hand, after a failover, or since nobody could call: Redis was away, or frozen."""
    set_clock(monkeypatch)
    ledger, clock = backend.ledger(heartbeat=3, lease=60), Clock(backend)
    ledger.workers.beat(worker(US, lanes=1))
    ledger.workers.beat(worker(OTHER, lanes=1))
    planned(ledger, "job", total=2, shard_size=1)
    for lease in ledger.jobs.dispatch():
        assert ledger.jobs.begin(lease, lease.worker)
    ledger.requests.create("search", "search")
    ledger.requests.claim("search", OTHER)
    ledger.requests.create("waits", "search")

    clock.jump(jump)

    assert ledger.jobs.reclaim() == 0
    assert ledger.requests.reclaim() == []
    assert ledger.requests.expired() == [], "nobody has answered them yet"
    assert backend.redis.ttl(f"{ledger.namespace}:request:waits") == -1, "Redis would not wait"
    assert len(ledger.workers.alive()) == 2

    for _ in range(8):  # OTHER is dead
        clock.pass_time(2)
        ledger.workers.beat(worker(US, lanes=1))
    assert ledger.jobs.reclaim() == 1
    assert [info.name for info in ledger.workers.alive()] == [US]
    assert set(ledger.requests.reclaim()) == {("search", "search"), ("waits", "search")}
    assert ledger.requests.get("waits").state == "queued", "it has waited for seconds"
    ledger.requests.claim("waits", US)
    assert ledger.requests.succeed("waits")
    assert ledger.requests.expired() == [], "its answer stays as long as any other"
    assert backend.redis.ttl(f"{ledger.namespace}:request:waits") > 600


class Clock:
    """Redis' clock, for ledgers that are opened after `set_clock`."""

    def __init__(self, backend: Backend) -> None:
        self._redis, self._now = backend.redis, time.time()
        self.jump(0)

    def jump(self, seconds: float) -> None:
        self._now += seconds
        self._redis.set(CLOCK, self._now)

    pass_time = jump


@pytest.mark.story
@pytest.mark.parametrize("_backend", ["redis"], indirect=True)
def test_a_redis_that_takes_no_writes_is_away(backend: Backend, ledger: Ledger) -> None:
    """As when its disk is full (MISCONF) or its memory (OOM)."""
    redis = backend.redis
    redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(LedgerUnavailable):
            ledger.jobs.create("job", *INGEST)
    finally:
        redis.config_set("maxmemory", "0")
    ledger.jobs.create("job", *INGEST)


def test_a_stopped_job_dispatches_nothing_and_goes_on_where_it_was(ledger: Ledger) -> None:
    planned(ledger, "job", total=128, shard_size=64)
    items = begin_all(ledger, US)
    ledger.jobs.transition("job", "pause")

    for item in items:
        assert not ledger.jobs.checkpoint(
            item.lease, Progress(item.start + 8, item.stop, {"embedded": 8})
        )
        ledger.jobs.release(item.lease)
    assert ledger.jobs.dispatch() == []

    ledger.jobs.transition("job", "resume")
    again = begin_all(ledger, US)
    assert [item.progress.cursor - item.start for item in again] == [8]
    assert ledger.jobs.get("job").counts == {"embedded": 8 * len(items)}


def test_a_cancelled_job_is_final(ledger: Ledger) -> None:
    planned(ledger, "job", total=64, shard_size=64)
    [item] = begin_all(ledger, US)

    assert ledger.jobs.transition("job", "cancel").state == "cancelled"

    assert not ledger.jobs.checkpoint(item.lease, Progress(8, 16, {"embedded": 8}))
    ledger.jobs.release(item.lease)
    assert ledger.jobs.dispatch() == []
    with pytest.raises(Conflict):
        ledger.jobs.transition("job", "resume")
    with pytest.raises(NotFound):
        ledger.jobs.transition("another", "cancel")


def test_a_retried_job_begins_every_shard_anew(ledger: Ledger) -> None:
    """Also one that waited to be dispatched again when the job ended."""
    planned(ledger, "job", total=4, shard_size=4)
    [item] = begin_all(ledger, US)
    ledger.jobs.checkpoint(item.lease, Progress(2, 4, {"embedded": 2}))
    ledger.jobs.release(item.lease)
    ledger.jobs.transition("job", "cancel")

    ledger.jobs.transition("job", "retry")
    [plan] = ledger.jobs.dispatch()
    ledger.jobs.begin(plan, US)
    ledger.jobs.planned(plan, 4, 4)
    [again] = begin_all(ledger, US)

    assert again.progress.cursor == 0
    ledger.jobs.checkpoint(again.lease, Progress(4, 4, {"embedded": 4}))
    ledger.jobs.finish(again.lease)
    job = ledger.jobs.get("job")
    assert (job.state, job.counts) == ("succeeded", {"embedded": 4})


def test_a_service_that_was_away_delays_a_shard_and_blames_nobody(ledger: Ledger) -> None:
    planned(ledger, "job", total=64, shard_size=64)
    [item] = begin_all(ledger, US)
    ledger.jobs.checkpoint(item.lease, Progress(0, 16))
    ledger.jobs.retry_later(item.lease, 0.01, "Qdrant is away")
    assert ledger.jobs.get("job").notice == "Qdrant is away"

    until(lambda: ledger.jobs.reclaim() == 1, "the end of the delay")

    [again] = begin_all(ledger, US)
    assert (again.crashes, again.quarantined) == (0, 0)


def test_a_job_leaves_workers_alone_whose_hosts_lack_its_source(ledger: Ledger) -> None:
    ledger.workers.beat(worker(US, lanes=2))
    planned(ledger, "job", total=64, shard_size=16)
    first, second = begin_all(ledger, US)
    ledger.jobs.retry_later(first.lease, 0, "not here", elsewhere=True)
    ledger.jobs.retry_later(second.lease, 0, "not here", elsewhere=True)
    until(lambda: ledger.jobs.reclaim() or True, "the end of the delay")
    ledger.jobs.create("other", *INGEST)

    assert [lease.job for lease in ledger.jobs.dispatch()] == ["other"], "its own worker is free"
    ledger.workers.beat(worker(OTHER, lanes=2))
    assert [(each.job, each.worker) for each in ledger.jobs.dispatch()] == [("job", OTHER)] * 2


def test_no_worker_waits_for_a_row_in_quarantine_while_it_opens_a_source(ledger: Ledger) -> None:
    """That can take an hour, and its other lanes would be idle for as long."""
    planned(ledger, "job", total=64, shard_size=16)
    [item] = begin_all(ledger, US)
    ledger.jobs.checkpoint(item.lease, Progress(0, 8))
    ledger.jobs.transition("job", "pause")
    ledger.workers.beat(worker(OTHER, lanes=2))
    ledger.jobs.create("hour", *INGEST)
    [plan] = ledger.jobs.dispatch()
    assert ledger.jobs.begin(plan, OTHER)
    ledger.jobs.transition("job", "resume")
    ledger.workers.leave(US)
    assert ledger.jobs.reclaim() == 1

    assert [lease.worker for lease in ledger.jobs.dispatch()] == [OTHER], "for another shard"


def quarantine_elsewhere(ledger: Ledger) -> None:
    """An item with rows in quarantine, whose source the only worker's host lacks."""
    planned(ledger, "job", total=64, shard_size=16)
    [item] = begin_all(ledger, US)
    ledger.jobs.checkpoint(item.lease, Progress(0, 8))
    ledger.jobs.release(item.lease, crashed=True)
    [alone] = begin_all(ledger, US)
    ledger.jobs.retry_later(alone.lease, 0, "not here", elsewhere=True)
    until(lambda: ledger.jobs.reclaim() == 1, "the end of the delay")


def test_a_row_in_quarantine_is_tried_where_its_source_is(ledger: Ledger) -> None:
    """A host that lacks it has free lanes all the time, and would get the row again and again."""
    quarantine_elsewhere(ledger)
    ledger.workers.beat(worker(OTHER, lanes=1))

    assert [(each.item, each.worker) for each in ledger.jobs.dispatch()] == [(1, OTHER)]


def test_a_row_in_quarantine_that_no_host_can_try_keeps_no_other_from_work(ledger: Ledger) -> None:
    quarantine_elsewhere(ledger)
    ledger.jobs.create("other", *INGEST)

    assert [each.job for each in ledger.jobs.dispatch()] == ["other"]


def test_a_host_that_lacked_a_source_is_asked_again_though_the_clock_goes_back(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch)
    ledger, clock = backend.ledger(heartbeat=3, lease=60), Clock(backend)
    ledger.workers.beat(worker(US, lanes=1))
    planned(ledger, "job", total=2, shard_size=1)
    [item] = begin_all(ledger, US)
    ledger.jobs.retry_later(item.lease, 0, "not here", elsewhere=True)

    clock.jump(-HOUR)
    for _ in range(25):
        assert ledger.jobs.dispatch() == []
        clock.pass_time(2)
        ledger.workers.beat(worker(US, lanes=1))
    for _ in range(10):
        clock.pass_time(2)
        ledger.workers.beat(worker(US, lanes=1))

    assert [lease.job for lease in ledger.jobs.dispatch()] == ["job"]


def test_what_a_job_waits_for_is_said_until_one_of_its_rows_is_done(ledger: Ledger) -> None:
    ledger.workers.beat(worker(US, lanes=2))
    planned(ledger, "job", total=64, shard_size=16)
    waiting, other = begin_all(ledger, US)
    ledger.jobs.retry_later(waiting.lease, 60, "Qdrant is away")

    ledger.jobs.checkpoint(other.lease, Progress(other.start, other.start + 8))
    assert ledger.jobs.get("job").notice == "Qdrant is away", "an item that begins proves nothing"

    done = Progress(other.start + 8, other.stop, {"embedded": 8})
    ledger.jobs.checkpoint(other.lease, done)
    assert ledger.jobs.get("job").notice is None


def test_a_request_is_claimed_once_and_answered_once(ledger: Ledger) -> None:
    ledger.requests.create("one", "search")

    assert ledger.requests.claim("one", US) == Claim("search", epoch=0)
    assert ledger.requests.claim("one", OTHER) is None
    assert ledger.requests.claim("one", US) == Claim("search", epoch=0), (
        "the reply to the first was lost"
    )
    ledger.requests.succeed("one")
    assert ledger.requests.claim("one", OTHER) is None
    assert ledger.requests.get("one").state == "succeeded"


def test_a_request_is_sent_again_when_its_worker_dies_but_not_for_ever(ledger: Ledger) -> None:
    ledger.requests.create("one", "search")

    for _ in range(2):
        assert ledger.requests.claim("one", US)
        assert ledger.requests.reclaim(alone=OTHER) == [("one", "search")]
    assert ledger.requests.claim("one", US)
    assert ledger.requests.reclaim(alone=OTHER) == []

    failed = ledger.requests.get("one")
    assert failed.state == "failed"
    assert failed.error is not None


def test_a_request_that_nobody_claims_fails(backend: Backend, ledger: Ledger) -> None:
    hasty = backend.ledger(request_ttl=0.01)
    hasty.requests.create("one", "search")
    time.sleep(0.02)

    hasty.requests.reclaim()

    assert hasty.requests.get("one").state == "failed"


def test_redis_away_is_said_in_our_words() -> None:
    ledgers = Ledgers("unix:///nowhere/redis.sock", Timing())
    nowhere = ledgers.of(COLLECTION)

    with pytest.raises(LedgerUnavailable):
        nowhere.jobs.create("job", *INGEST)
    with pytest.raises(LedgerUnavailable):
        nowhere.jobs.get("job")
    ledgers.close()


def test_of_two_rows_with_one_image_the_first_keeps_it_until_the_job_ends(ledger: Ledger) -> None:
    ledger.jobs.create("job", "ingest", "ingest", "{}")
    assert ledger.jobs.claim_ids("job", {"a": "row 1", "b": "row 2"}) == ["row 1", "row 2"]

    assert ledger.jobs.claim_ids("job", {"b": "row 9", "c": "row 3"}) == ["row 2", "row 3"]
    assert ledger.jobs.claim_ids("another", {"b": "row 9"}) == ["row 9"]
    assert ledger.jobs.claim_ids("job", {}) == []

    ledger.jobs.transition("job", "cancel")
    assert ledger.jobs.claim_ids("job", {"b": "row 9"}) == ["row 9"]


def test_a_job_that_has_ended_is_to_be_put_away_unless_it_begins_anew(ledger: Ledger) -> None:
    ledger.jobs.create("job", "ingest", "ingest", "{}")
    assert ledger.jobs.ended() == []

    ledger.jobs.transition("job", "cancel")
    assert ledger.jobs.ended() == ["job"]
    ledger.jobs.transition("job", "retry")
    assert ledger.jobs.ended() == []

    ledger.jobs.transition("job", "cancel")
    ledger.jobs.tidied("job")
    assert ledger.jobs.ended() == []


def test_what_a_source_skips_is_a_part_of_its_job_until_it_is_planned_anew(ledger: Ledger) -> None:
    ledger.jobs.create("job", "ingest", "ingest", "{}")
    ledger.workers.beat(worker(US, lanes=1, queue="ingest"))
    [lease] = ledger.jobs.dispatch()
    ledger.jobs.begin(lease, US)
    ledger.jobs.planned(lease, 3, 10, "v1", {"pdf": 2, "hidden": 1})
    assert ledger.jobs.get("job").skipped == {"pdf": 2, "hidden": 1}

    ledger.jobs.transition("job", "cancel")
    ledger.jobs.transition("job", "retry")
    assert ledger.jobs.get("job").skipped == {}
