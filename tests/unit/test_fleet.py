"""What one fault costs fifty workers: what its own worker would have done, and no more.

The figures are of a time that the test makes up, so they are the same on every machine.
"""

import pytest

from pipeline.ledger import Ledger
from tests.fleet import BATCH, BEAT, LANES, ROW, SHARD, Fleet, set_clock, submit
from tests.unit.conftest import Backend

pytestmark = [
    pytest.mark.story,
    pytest.mark.parametrize("_backend", ["redis"], indirect=True),
]

SIZE = 50
MINUTE = 60.0
ONE_WORKERS_MINUTE = MINUTE * LANES / ROW
MANY = 10**7  # rows: more than the fleet can do


@pytest.fixture
def opened(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> tuple[Ledger, Backend]:
    set_clock(monkeypatch)
    return backend.ledger(heartbeat=BEAT, lease=60), backend


def fleet_of(opened: tuple[Ledger, Backend], poison: frozenset[int] = frozenset()) -> Fleet:
    ledger, backend = opened
    fleet = Fleet(ledger, backend.redis, SIZE, poison)
    fleet.run(2 * BEAT)
    submit(fleet, "job", MANY)
    fleet.run(5)
    return fleet


def lost(fleet: Fleet, seconds: float) -> float:
    """Rows that the fleet does less, in so many seconds, than it could."""
    return SIZE * LANES / ROW * seconds - fleet.run(seconds)


def test_work_spreads_evenly_and_nobody_holds_more_than_its_lanes(
    opened: tuple[Ledger, Backend],
) -> None:
    fleet = fleet_of(opened)

    assert lost(fleet, 40 * BATCH * ROW) < ONE_WORKERS_MINUTE / 100
    assert fleet.most_held == LANES
    assert max(fleet.rows.values()) - min(fleet.rows.values()) <= SHARD


def test_one_kill_costs_what_its_worker_would_have_done(opened: tuple[Ledger, Backend]) -> None:
    fleet = fleet_of(opened)

    fleet.kill(fleet.workers[7])

    # It is away for RESTART seconds. What it held is tried row by row, on one worker, for a while.
    assert lost(fleet, MINUTE) < ONE_WORKERS_MINUTE / 3


def test_a_row_that_ends_its_workers_costs_less_than_a_minute_of_one(
    opened: tuple[Ledger, Backend],
) -> None:
    fleet = fleet_of(opened)
    poison = fleet.rows.total() + 4_000
    fleet.poison = frozenset({poison})

    assert lost(fleet, 2 * MINUTE) < ONE_WORKERS_MINUTE
    assert (fleet.rejected, fleet.deaths) == ([poison], 4)
