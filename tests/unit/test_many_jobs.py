"""However many jobs have ended, the ledger does the same work: 200 or 200,000."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.backup.snapshot import PAGE, Snapshots
from pipeline.ledger import Ledger, Progress
from pipeline.messages import Problem
from tests.ended_jobs import fill
from tests.fleet import CLOCK, START, set_clock
from tests.ledger_steps import INGEST, OTHER, US, begin_all, planned, worker
from tests.unit.conftest import Backend

pytestmark = [
    pytest.mark.story,
    pytest.mark.parametrize("_backend", ["redis"], indirect=True),
]

FEW, MANY = 200, 200_000
OF_A_BACKUP = 20_000  # of 200,000, Python would read the answers for a quarter of a minute
DAY = 86_400.0
BROKEN = Problem(type="internal-error", title="Broken", status=500, detail="It is a test.")

# What reads a key as a whole.
WHOLE = {"smembers", "hgetall", "keys", "sinter", "sunion", "sdiff", "zdiff", "dump"}
CONNECTION = {"hello", "ping", "client|setinfo", "config|resetstat", "info"}
GROWING = ("jobs", "jobs:finished", "jobs:succeeded")


def a_day(ledger: Ledger) -> None:
    """Every command and every look that a fleet, its operators and its deletions have."""
    jobs, tombstones, requests = ledger.jobs, ledger.tombstones, ledger.requests
    ledger.workers.beat(worker(US, lanes=4))
    planned(ledger, "job", total=8, shard_size=2)
    done, released, failing, waiting = begin_all(ledger, US)
    jobs.claim_ids("job", {"a": "row 1"})
    ledger.workers.beat(worker(US, lanes=4), held=[done.lease])
    jobs.checkpoint(done.lease, Progress(2, 2, {"embedded": 1, "rejected": 1}), "part")
    jobs.finish(done.lease)
    jobs.release(released.lease)
    jobs.release(failing.lease, crashed=True)
    jobs.retry_later(waiting.lease, 0, "away")
    jobs.create("deletion", "delete", "kindred.delete", "")
    tombstones.add(["a" * 32], "deletion")
    tombstones.register_deletion("deletion")
    tombstones.notify_running_jobs("deletion")
    tombstones.pending_deletions("job")
    tombstones.released_deletions()
    tombstones.advance_epoch()
    requests.create("request", "search")
    requests.claim("request", US)
    requests.succeed("request", 1)
    requests.finished()
    requests.expired()
    jobs.reclaim(alone=OTHER)
    requests.reclaim()
    for action in ("pause", "resume", "cancel", "retry", "cancel"):
        jobs.transition("job", action)
    jobs.fail("deletion", BROKEN)
    tombstones.forget_deletion("deletion")
    jobs.ended()
    jobs.unfinished()
    jobs.tidied("job")
    for states in ((), ("failed",), ("running", "cancelled"), ("succeeded",)):
        first, cursor = jobs.page(10, None, states)
        jobs.page(10, cursor, states) if cursor else first
    jobs.recent(100)
    ledger.retention.claim_sweep("turn", 60)
    ledger.retention.index_jobs()
    ledger.retention.forget_jobs(100 * 365 * DAY, 10)
    ledger.workers.leave(US)


def counted(backend: Backend, ledger: Ledger, ended: int) -> dict[str, int]:
    """How often each command of Redis was called, by us and by scripts."""
    backend.redis.flushall()
    backend.redis.set(CLOCK, START)  # a clock that runs is written down now and then
    fill(backend.redis, ledger, 0, ended)
    ledger.workers.leave(US)  # Redis has the script from here on
    backend.redis.config_resetstat()
    a_day(ledger)
    stats = backend.redis.info("commandstats")
    found = {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
    return {name: calls for name, calls in found.items() if name not in CONNECTION}


@pytest.fixture
def watched(backend: Backend) -> Iterator[list[tuple[str, str]]]:
    """Every command that Redis runs, with its key."""
    seen: list[tuple[str, str]] = []
    with backend.redis.monitor() as monitor:

        def listen() -> None:
            for event in monitor.listen():
                name, *args = event["command"].split(" ")
                if args[:1] == ["the", "end"] or name.lower() == "echo":
                    return
                seen.append((name.lower(), args[0] if args else ""))

        thread = threading.Thread(target=listen)
        thread.start()

        def end() -> list[tuple[str, str]]:
            backend.redis.echo("end")
            thread.join()
            return seen

        seen_at_end: Any = end
        yield seen_at_end


def test_what_a_day_costs_does_not_grow_with_the_jobs_that_have_ended(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch)
    ledger = backend.ledger()
    assert counted(backend, ledger, MANY) == counted(backend, ledger, FEW)


def test_nothing_reads_all_jobs_that_have_ended(
    backend: Backend, ledger: Ledger, watched: Any
) -> None:
    fill(backend.redis, ledger, 0, FEW)
    a_day(ledger)

    commands = watched()
    keys = {f"{ledger.namespace}:{name}" for name in GROWING}
    assert {key for _, key in commands} >= keys
    assert [one for one in commands if one[0] in WHOLE and one[1] in keys] == []


def test_a_backup_of_many_jobs_is_read_in_small_calls(
    backend: Backend, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(backend.redis, ledger, 0, OF_A_BACKUP)
    ledger.jobs.create("open", *INGEST)
    sizes = []
    read = Snapshots._page

    def measured(self: Snapshots, *args: Any) -> Any:
        page = read(self, *args)
        sizes.append(len(page["jobs"]) // 2)
        return page

    monkeypatch.setattr(Snapshots, "_page", measured)
    snapshots = Snapshots(backend.url, ledger.namespace)
    began = f'"key": "{ledger.namespace}:job:'
    keys = [json.loads(line)["key"] for line in snapshots.lines() if began in line]
    snapshots.close()

    hashes = [key for key in keys if key.count(":") == 3]
    assert len(hashes) == len(set(hashes)) == OF_A_BACKUP + 1
    assert max(sizes) <= PAGE
    assert sizes[-1] == 1, "what is open, in the end"
