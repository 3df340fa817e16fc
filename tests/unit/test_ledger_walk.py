"""Thousands of things that can happen to a fleet, in no order, and what holds after each."""

import pytest

from tests.fleet import BEAT, set_clock
from tests.unit.conftest import Backend
from tests.walk import Walk, check, check_end

STEPS = 800
LOOK = 8  # steps from one look at the whole ledger to the next
CALM = 2_000  # ticks, several times what the work that is left takes


@pytest.mark.parametrize("_backend", ["memory"], indirect=True)
@pytest.mark.parametrize(
    "seed", [10]
)  # in it, what is in quarantine waits for a host with its source
def test_whatever_happens_nothing_is_lost_and_everything_ends(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    set_clock(monkeypatch)
    ledger = backend.ledger(heartbeat=BEAT, lease=60)
    walk = Walk(ledger, backend.redis, seed, hosts=6, jobs=5)

    for step in range(STEPS):
        walk.step()
        if step % LOOK == 0:
            check(walk, backend.redis, ledger.namespace)
    walk.calm_down(CALM)

    check(walk, backend.redis, ledger.namespace)
    check_end(walk, backend.redis, ledger.namespace)
    assert walk.rejected
