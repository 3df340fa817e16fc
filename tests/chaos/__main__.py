"""`make chaos`: CHAOS_SEED, CHAOS_KILLS (worker kills in all), CHAOS_RUNS (on a fresh system each).

With CHAOS_WORKERS it is a fleet of so many, on the Qdrant server of KINDRED_TEST_QDRANT_URL or on a
stand-in, and one picture of a thousand ends its decoder. With CHAOS_SENTINELS as well, two Redis
and three Sentinels are there, and the master is killed now and then.

Prints the seed, every fault as it comes, and what it cost; writes CHAOS_OUT, build/chaos.json by
default. The exit status is 1 if a promise was broken.
"""

import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from random import Random

from cli.sample import write_encoder
from tests.chaos import faults, report
from tests.chaos.faults import KillWorker
from tests.chaos.fleet import FLEET, WATCHED_FLEET, Fleet, spread
from tests.chaos.rig import Rig, small_disk
from tests.chaos.run import Outcome, Run
from tests.redis_nodes import Watched

ROWS = 2500


def main() -> int:
    seed = int(os.environ.get("CHAOS_SEED") or Random().randrange(10_000))
    kills = int(os.environ.get("CHAOS_KILLS") or 200)
    runs = int(os.environ.get("CHAOS_RUNS") or 4)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="kindred-encoder-") as folder:
        write_encoder(
            Path(folder), hidden=32, layers=2, heads=2, intermediate=64, image_size=32, patch=8
        )
        for number in range(runs):
            outcomes.append(one(seed + number, -(-kills // runs), Path(folder)))
            for wrong in outcomes[-1].wrong:
                say(f"BROKEN: {wrong[:2000]}")
    say(f"\n{report.summary(outcomes)}\n\n{report.table(outcomes)}\n")
    out = Path(os.environ.get("CHAOS_OUT") or "build/chaos.json")
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(report.document(outcomes), indent=1))
    broken = sum(len(outcome.wrong) for outcome in outcomes)
    say("nothing was lost" if not broken else f"{broken} promises were broken")
    return 1 if broken else 0


def one(seed: int, kills: int, encoder: Path) -> Outcome:
    say(f"\nseed {seed}")
    size = int(os.environ.get("CHAOS_WORKERS") or 1)
    if size > 1:
        return one_fleet(seed, kills, encoder, size)
    with small_disk() as disk, Rig(disk, encoder) as rig:
        possible = [fault for fault in faults.ALL if fault.possible(rig)]
        return Run(rig, seed, ROWS, say).faults(drawn(possible, seed, kills))


def one_fleet(seed: int, kills: int, encoder: Path, size: int) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="kindred-fleet-") as folder, ExitStack() as stack:
        watched = None
        if os.environ.get("CHAOS_SENTINELS"):
            (Path(folder) / "nodes").mkdir()
            watched = Watched(Path(folder) / "nodes", stack)
        rig = stack.enter_context(Fleet(Path(folder) / "fleet", encoder, size, watched))
        chosen = drawn(list(WATCHED_FLEET if watched else FLEET), seed, kills)
        outcome = Run(rig, seed, ROWS, say, poison=ROWS // 1000).faults(chosen)
        say(f"shards by worker: {dict(spread(rig))}")
    return outcome


def drawn(possible: list[faults.Fault], seed: int, kills: int) -> list[faults.Fault]:
    """Every fault once, then by weight, until the worker has been killed so many times."""
    random = Random(seed)
    chosen = random.sample(possible, len(possible))
    weights = [fault.weight for fault in possible]
    while sum(isinstance(fault, KillWorker) for fault in chosen) < kills:
        chosen += random.choices(possible, weights)
    return chosen


def say(what: str) -> None:
    print(what, flush=True)


if __name__ == "__main__":
    sys.exit(main())
