"""The short form of `make chaos`: every kind of fault once, then the books are checked."""

from dataclasses import replace
from pathlib import Path

from tests.chaos import faults
from tests.chaos.rig import Rig, small_disk
from tests.chaos.run import Run

SEED = 4
LONGEST = 3.0  # seconds that one fault lasts


def test_nothing_is_lost_whatever_falls(encoder: Path) -> None:
    print(f"seed {SEED}")
    with small_disk() as disk, Rig(disk, encoder) as rig:
        possible = [shortened(fault) for fault in faults.ALL if fault.possible(rig)]

        outcome = Run(rig, SEED, rows=500, say=print).faults(possible)

    assert outcome.wrong == []
    assert len(outcome.done) >= len(possible)
    assert outcome.searches.get("succeeded")


def shortened(fault: faults.Fault) -> faults.Fault:
    low, high = (min(seconds, LONGEST) for seconds in fault.seconds)
    return replace(fault, seconds=(low, high))
