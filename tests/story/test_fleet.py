"""Several workers on one Redis and one Qdrant: work spreads, and each kind of fault once."""

from pathlib import Path

from tests.chaos import fleet
from tests.chaos.fleet import Fleet, spread
from tests.chaos.run import Run
from tests.story.test_chaos import shortened

SIZE, SEED = 3, 7


def test_a_fleet_loses_nothing_whatever_falls(encoder: Path, tmp_path: Path) -> None:
    print(f"seed {SEED}")
    with Fleet(tmp_path, encoder, SIZE) as rig:
        faults = [shortened(fault) for fault in fleet.FLEET]

        outcome = Run(rig, SEED, rows=500, say=print, poison=1).faults(faults)

        print(f"shards by worker: {spread(rig)}")
    assert outcome.wrong == []
    assert outcome.searches.get("succeeded")
