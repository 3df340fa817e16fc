"""The ledger's promises, against a real Redis: whatever is lost or repeated, accounts close."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.processes import Child, Program
from cli.redis_server import RedisServer, find_redis_server
from pipeline.base.errors import Conflict, LedgerUnavailable, NotFound
from pipeline.base.settings import Settings
from pipeline.ledger import Lease, Ledger, Progress, Unit, WorkerInfo
from pipeline.ledger.jobs import PLAN
from pipeline.messages import DatasetSource, EncoderInfo, Rejection
from tests.system import end, until

SOURCE = DatasetSource(dataset="any")
US, OTHER = "worker-a", "worker-b"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="kindred-test-"))
    server = RedisServer(find_redis_server(), folder, folder / "redis.sock")
    child = Child(Program("redis", server.command, {}, folder / "redis.log"))
    child.start()
    until(server.answers, "an answer of Redis")
    yield server.url
    end(child)
    shutil.rmtree(folder)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ours = Ledger(Settings(redis_url=url))
    _redis(ours).flushall()
    yield ours
    ours.close()


def test_a_job_ends_when_all_its_rows_are_accounted_for(ledger: Ledger) -> None:
    _planned(ledger, "job", total=130, shard_size=64)

    for unit in _work(ledger):
        rejection = Rejection(key=f"row {unit.start}", row=unit.start, reason="broken")
        rows = unit.stop - unit.start
        ledger.jobs.checkpoint(
            unit.lease, Progress(unit.stop, unit.stop, rows - 2, 1, 1), [rejection]
        )
        ledger.jobs.finish(unit.lease)

    job = ledger.jobs.get("job")
    assert job.state == "completed_with_rejections"
    assert (job.total, job.embedded, job.unchanged, job.rejected) == (130, 124, 3, 3)
    assert [r.row for r in ledger.jobs.rejections("job", 0, 100)[0]] == [0, 64, 128]


def test_a_repeated_checkpoint_overwrites_and_never_adds(ledger: Ledger) -> None:
    _planned(ledger, "job", total=64, shard_size=64)
    [unit] = _begin_all(ledger, US)
    rejection = Rejection(key="k", row=3, reason="broken")

    for _ in range(3):
        assert ledger.jobs.checkpoint(unit.lease, Progress(8, 16, 7, 0, 1), [rejection])

    job = ledger.jobs.get("job")
    assert (job.embedded, job.rejected) == (7, 1)
    assert len(ledger.jobs.rejections("job", 0, 100)[0]) == 1


def test_a_message_delivered_twice_begins_once(ledger: Ledger) -> None:
    ledger.jobs.create("job", SOURCE)
    [lease] = ledger.jobs.dispatch()

    assert ledger.jobs.begin(lease, US) is not None
    assert ledger.jobs.begin(lease, US) is None
    assert ledger.jobs.begin(Lease("job", PLAN, "another token"), OTHER) is None


def test_a_worker_that_lost_its_lease_can_write_no_more(ledger: Ledger) -> None:
    _planned(ledger, "job", total=64, shard_size=64)
    [stale] = _begin_all(ledger, US)
    ledger.jobs.checkpoint(stale.lease, Progress(8, 24, 8))
    ledger.jobs.reclaim(alone=OTHER)
    [unit] = _begin_all(ledger, OTHER)

    assert unit.progress.cursor == 8
    assert not ledger.jobs.checkpoint(stale.lease, Progress(64, 64, 64))
    ledger.jobs.finish(stale.lease)
    job = ledger.jobs.get("job")
    assert (job.state, job.embedded) == ("running", 8)


def test_jobs_take_turns_and_searches_find_room(ledger: Ledger) -> None:
    ledger.workers.beat(_worker(US, lanes=2))
    ledger.jobs.create("giant", SOURCE)
    ledger.jobs.create("small", SOURCE)
    giant, small = ledger.jobs.dispatch()
    for plan, total in ((giant, 10_000), (small, 3)):
        ledger.jobs.begin(plan, US)
        ledger.jobs.planned(plan, total, shard_size=1)

    taken: list[str] = []
    for _ in range(3):
        leases = ledger.jobs.dispatch(lanes=1)
        assert len(leases) == 2, "as many as the live workers have lanes"
        for lease in leases:
            assert ledger.jobs.begin(lease, US)
            taken.append(lease.job)
            ledger.jobs.finish(lease)

    assert sorted(taken) == ["giant"] * 3 + ["small"] * 3
    assert ledger.jobs.get("small").state == "succeeded"


def test_what_a_dead_worker_held_is_handed_out_again(url: str, ledger: Ledger) -> None:
    hasty = Ledger(Settings(redis_url=url, heartbeat_seconds=0.01))
    hasty.workers.beat(_worker(US, lanes=1))
    _planned(hasty, "job", total=4, shard_size=4)
    _begin_all(hasty, US)

    until(lambda: hasty.jobs.reclaim() == 1, "the end of the heartbeat")

    assert [lease.unit for lease in hasty.jobs.dispatch()] == [1]
    hasty.close()


def test_a_message_that_was_lost_is_sent_again(url: str, ledger: Ledger) -> None:
    hasty = Ledger(Settings(redis_url=url, lease_seconds=0.01))
    hasty.jobs.create("job", SOURCE)
    assert len(hasty.jobs.dispatch()) == 1
    assert hasty.jobs.dispatch() == []

    until(lambda: hasty.jobs.reclaim() == 1, "the end of the lease")

    assert len(hasty.jobs.dispatch()) == 1
    hasty.close()


def test_what_is_renewed_stays_with_its_worker(url: str, ledger: Ledger) -> None:
    """A source that is opened for an hour, a deletion of a million images."""
    hasty = Ledger(Settings(redis_url=url, lease_seconds=0.05, search_ttl=0.01))
    ledger.workers.beat(_worker(US, lanes=2))
    for job in ("quick", "slow"):
        ledger.jobs.create(job, SOURCE)
    leases = hasty.jobs.dispatch()
    for lease in leases:
        assert hasty.jobs.begin(lease, US)
    for ask in ("quick", "slow"):
        hasty.asks.create(ask, "delete")
        assert hasty.asks.take(ask, US)

    ledger.jobs.renew(leases[1])  # for a minute
    ledger.asks.renew("slow", US, "delete")

    assert until(ledger.jobs.reclaim, "the end of a lease") == 1
    assert [lease.job for lease in ledger.jobs.dispatch()] == ["quick"]
    until(lambda: hasty.asks.reclaim() or hasty.asks.get("quick").final, "the end of the other")
    assert hasty.asks.get("slow").state == "running"
    ledger.jobs.renew(Lease("quick", PLAN, "stale"))
    hasty.close()


def test_a_job_whose_source_has_changed_begins_anew(ledger: Ledger) -> None:
    ledger.workers.beat(_worker(US, lanes=2))
    _planned(ledger, "job", total=128, shard_size=64)
    first, second = _begin_all(ledger, US)
    ledger.jobs.checkpoint(first.lease, Progress(8, 16, 7, 0, 1))

    assert ledger.jobs.replan(second.lease) == 1

    job = ledger.jobs.get("job")
    assert (job.state, job.total, job.done) == ("planning", None, 0)
    assert not ledger.jobs.checkpoint(first.lease, Progress(16, 24, 15, 0, 1))
    assert ledger.jobs.replan(second.lease) == 0, "it holds no lease any more"
    [plan] = ledger.jobs.dispatch()
    ledger.jobs.begin(plan, US)
    ledger.jobs.planned(plan, 3, 64, "of three files")
    [unit] = _begin_all(ledger, US)
    assert (unit.version, unit.stop) == ("of three files", 3)


def test_the_row_that_ends_its_workers_is_found(ledger: Ledger) -> None:
    """A batch of eight is in hand when the worker dies; row 5 is what kills it."""
    _planned(ledger, "job", total=64, shard_size=64)
    poison, deaths = 5, 0
    while True:
        [unit] = _begin_all(ledger, US)
        if unit.crashes >= 3:
            break
        cursor = unit.progress.cursor
        while True:
            hand = cursor + (1 if cursor < unit.careful else 8)
            ledger.jobs.checkpoint(unit.lease, Progress(cursor, hand, cursor))
            if cursor <= poison < hand:
                break
            cursor = hand
        deaths += 1
        ledger.jobs.reclaim(alone=OTHER)

    assert unit.progress.cursor == poison
    assert deaths == 4  # once with its batch, three times alone


def test_a_row_is_blamed_only_for_a_death_that_it_was_alone_in(ledger: Ledger) -> None:
    """Two units are in the hand of the worker that dies; each is then tried without the other."""
    ledger.workers.beat(_worker(US, lanes=2))
    _planned(ledger, "bystander", total=64, shard_size=64)
    ledger.jobs.transition("bystander", "pause")
    _planned(ledger, "job", total=128, shard_size=64)
    for unit in _begin_all(ledger, US):
        ledger.jobs.checkpoint(unit.lease, Progress(unit.start, unit.start + 8))
    ledger.jobs.reclaim(alone=OTHER)
    ledger.jobs.transition("bystander", "resume")

    [first] = ledger.jobs.dispatch()
    assert ledger.jobs.dispatch() == [], "nothing else while a suspect is out"
    unit = ledger.jobs.begin(first, US)
    assert unit is not None
    assert (unit.crashes, unit.careful) == (0, unit.start + 8)

    ledger.jobs.checkpoint(unit.lease, Progress(unit.start + 8, unit.start + 16, 8))
    [innocent] = ledger.jobs.dispatch()
    assert innocent.job == "bystander", "the other suspect waits until all others have come in"
    for lease in (first, innocent):
        ledger.jobs.finish(lease)
    assert [lease.job for lease in ledger.jobs.dispatch()] == ["job"]


def test_a_worker_that_dies_before_it_touches_a_row_blames_none(ledger: Ledger) -> None:
    _planned(ledger, "job", total=64, shard_size=64)
    [unit] = _begin_all(ledger, US)
    ledger.jobs.checkpoint(unit.lease, Progress(0, 8))
    for _ in range(4):
        ledger.jobs.reclaim(alone=OTHER)
        [unit] = _begin_all(ledger, US)

    assert (unit.crashes, unit.deaths) == (0, 4)
    ledger.jobs.checkpoint(unit.lease, Progress(1, 2, 1))
    ledger.jobs.release(unit.lease)
    [unit] = _begin_all(ledger, US)
    assert unit.deaths == 0, "it counts from the last row that was done"


def test_a_silence_of_redis_is_no_death_of_its_workers(ledger: Ledger, url: str) -> None:
    hasty = Ledger(Settings(redis_url=url, heartbeat_seconds=0.02))
    hasty.workers.beat(_worker(US, lanes=1))
    _planned(hasty, "job", total=64, shard_size=64)
    _begin_all(hasty, US)
    hasty.jobs.reclaim()
    until(lambda: not hasty.workers.alive(), "the end of the heartbeat")

    _redis(ledger).set("kindred:reconciled", time.time() - 60)  # nobody could call for a minute

    assert hasty.jobs.reclaim() == 0
    until(lambda: hasty.jobs.reclaim() == 1, "the end of the time that it was given")
    hasty.close()


def test_a_redis_that_takes_no_writes_is_away(ledger: Ledger) -> None:
    """As when its disk is full (MISCONF) or its memory (OOM)."""
    redis = _redis(ledger)
    redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(LedgerUnavailable):
            ledger.jobs.create("job", SOURCE)
    finally:
        redis.config_set("maxmemory", "0")
    ledger.jobs.create("job", SOURCE)


def test_a_stopped_job_hands_out_nothing_and_goes_on_where_it_was(ledger: Ledger) -> None:
    _planned(ledger, "job", total=128, shard_size=64)
    units = _begin_all(ledger, US)
    ledger.jobs.transition("job", "pause")

    for unit in units:
        assert not ledger.jobs.checkpoint(unit.lease, Progress(unit.start + 8, unit.stop, 8))
        ledger.jobs.release(unit.lease)
    assert ledger.jobs.dispatch() == []

    ledger.jobs.transition("job", "resume")
    again = _begin_all(ledger, US)
    assert [u.progress.cursor - u.start for u in again] == [8]
    assert ledger.jobs.get("job").embedded == 8 * len(units)


def test_a_cancelled_job_is_final(ledger: Ledger) -> None:
    _planned(ledger, "job", total=64, shard_size=64)
    [unit] = _begin_all(ledger, US)

    assert ledger.jobs.transition("job", "cancel").state == "cancelled"

    assert not ledger.jobs.checkpoint(unit.lease, Progress(8, 16, 8))
    ledger.jobs.release(unit.lease)
    assert ledger.jobs.dispatch() == []
    with pytest.raises(Conflict):
        ledger.jobs.transition("job", "resume")
    with pytest.raises(NotFound):
        ledger.jobs.transition("another", "cancel")


def test_a_retried_job_begins_every_shard_anew(ledger: Ledger) -> None:
    """Also one that waited to be handed out again when the job ended."""
    _planned(ledger, "job", total=4, shard_size=4)
    [unit] = _begin_all(ledger, US)
    ledger.jobs.checkpoint(unit.lease, Progress(2, 4, 2))
    ledger.jobs.release(unit.lease)
    ledger.jobs.transition("job", "cancel")

    ledger.jobs.transition("job", "retry")
    [plan] = ledger.jobs.dispatch()
    ledger.jobs.begin(plan, US)
    ledger.jobs.planned(plan, 4, 4)
    [again] = _begin_all(ledger, US)

    assert again.progress.cursor == 0
    ledger.jobs.checkpoint(again.lease, Progress(4, 4, 4))
    ledger.jobs.finish(again.lease)
    job = ledger.jobs.get("job")
    assert (job.state, job.embedded) == ("succeeded", 4)


def test_a_service_that_was_away_delays_a_shard_and_blames_nobody(ledger: Ledger) -> None:
    _planned(ledger, "job", total=64, shard_size=64)
    [unit] = _begin_all(ledger, US)
    ledger.jobs.checkpoint(unit.lease, Progress(0, 16))
    ledger.jobs.retry_later(unit.lease, 0.01, "Qdrant is away")
    assert ledger.jobs.get("job").notice == "Qdrant is away"

    until(lambda: ledger.jobs.reclaim() == 1, "the end of the delay")

    [again] = _begin_all(ledger, US)
    assert (again.crashes, again.careful) == (0, 0)


def test_an_ask_is_taken_once_and_answered_once(ledger: Ledger) -> None:
    ledger.asks.create("ask", "search")

    assert ledger.asks.take("ask", US) == "search"
    assert ledger.asks.take("ask", OTHER) is None
    ledger.asks.succeed("ask")
    assert ledger.asks.take("ask", OTHER) is None
    assert ledger.asks.get("ask").state == "succeeded"


def test_an_ask_is_sent_again_when_its_worker_dies_but_not_for_ever(ledger: Ledger) -> None:
    ledger.asks.create("ask", "search")

    for _ in range(2):
        assert ledger.asks.take("ask", US)
        assert ledger.asks.reclaim(alone=OTHER) == [("ask", "search")]
    assert ledger.asks.take("ask", US)
    assert ledger.asks.reclaim(alone=OTHER) == []

    failed = ledger.asks.get("ask")
    assert failed.state == "failed"
    assert failed.error is not None


def test_an_ask_that_nobody_takes_fails(url: str, ledger: Ledger) -> None:
    hasty = Ledger(Settings(redis_url=url, search_ttl=0.01))
    hasty.asks.create("ask", "search")
    time.sleep(0.02)

    hasty.asks.reclaim()

    assert hasty.asks.get("ask").state == "failed"
    hasty.close()


def test_redis_away_is_said_in_our_words() -> None:
    nowhere = Ledger(Settings(redis_url="unix:///nowhere/redis.sock"))

    with pytest.raises(LedgerUnavailable):
        nowhere.jobs.create("job", SOURCE)
    with pytest.raises(LedgerUnavailable):
        nowhere.jobs.get("job")
    nowhere.close()


def _planned(ledger: Ledger, job: str, total: int, shard_size: int) -> None:
    """A job whose plan is done and whose shards are all still to be handed out."""
    ledger.jobs.create(job, SOURCE)
    [plan] = ledger.jobs.dispatch()
    assert ledger.jobs.begin(plan, US)
    ledger.jobs.planned(plan, total, shard_size)


def _begin_all(ledger: Ledger, owner: str) -> list[Unit]:
    begun = [ledger.jobs.begin(lease, owner) for lease in ledger.jobs.dispatch()]
    return [unit for unit in begun if unit is not None]


def _work(ledger: Ledger) -> Iterator[Unit]:
    while leases := ledger.jobs.dispatch():
        for lease in leases:
            unit = ledger.jobs.begin(lease, US)
            assert unit is not None
            yield unit


def _worker(name: str, lanes: int) -> WorkerInfo:
    encoder = EncoderInfo(
        model="m",
        revision=None,
        weights_sha256="0",
        pooling="mean",
        preprocessing="p",
        dimensions=2,
    )
    return WorkerInfo(
        name=name, ready=True, lanes=lanes, device="cpu", dtype="float32", encoder=encoder
    )


def _redis(ledger: Ledger):  # type: ignore[no-untyped-def]
    return ledger._script.redis
