"""One run: work goes on, faults come as the seed draws them, and at the end all must be right."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from tests.chaos import checks
from tests.chaos.faults import Fault, KillWorker
from tests.chaos.rig import Rig

Say = Callable[[str], None]

BACK_SECONDS = 240.0  # nothing takes as long as this to come back unless it is broken
END_SECONDS = 300.0
JOBS_AT_ONCE = 2


@dataclass
class Done:
    """One fault. `search` and `ingest`: seconds from its end until they went on."""

    name: str
    at: float
    lasted: float
    search: float
    ingest: float | None  # None where no job was left to go on with


@dataclass
class Outcome:
    seed: int
    seconds: float = 0.0
    done: list[Done] = field(default_factory=list)
    jobs: int = 0
    images: int = 0
    searches: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    worker_starts: int = 0
    decoders_killed: int = 0
    exits: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Run:
    """`rows`: images of each job, `poison` of which end their decoders."""

    def __init__(self, rig: Rig, seed: int, rows: int, say: Say, poison: int = 0) -> None:
        self.outcome = Outcome(seed)
        self._rig, self._rows, self._say, self._poison = rig, rows, say, poison
        self._random = Random(seed)
        self._start = time.monotonic()
        self._jobs = 0

    def faults(self, chosen: Sequence[Fault]) -> Outcome:
        """All of them in this order, then the checks."""
        try:
            self._go(chosen)
            self._check()
        except AssertionError as error:
            self.outcome.wrong.append(f"{error}\n{self._rig.describe()}")
        return self.outcome

    def _go(self, chosen: Sequence[Fault]) -> None:
        with self._rig.searching(self.outcome.seed) as searchers:
            for fault in chosen:
                self._feed()
                self._rig.pass_time(self._random.uniform(0.2, 2.5))
                self._one(fault)
            self._tell("no more faults; waiting for the end of all jobs")
            self._rig.wait(lambda: self._rig.unfinished() == 0, "the end of all jobs", END_SECONDS)
        self.outcome.refused = searchers.refused
        self.outcome.wrong += [f"a search was answered with {odd}" for odd in searchers.odd]

    def _one(self, fault: Fault) -> None:
        begun = time.monotonic()
        lasts = self._random.uniform(*fault.seconds)
        self._tell(f"{fault.name}" + (f", for {lasts:.1f} s" if lasts else ""))
        fault.begin(self._rig, self._random)
        if lasts > 2 and self._random.random() < 0.3:
            self._rig.pass_time(lasts / 2)
            self._tell("   and in the middle of it, worker: SIGKILL")
            KillWorker().begin(self._rig, self._random)
            self.outcome.done.append(
                Done("worker: SIGKILL, within another fault", begun - self._start, 0, 0, None)
            )
        self._rig.pass_time(max(0.0, begun + lasts - time.monotonic()))
        fault.end(self._rig)
        ended = time.monotonic()
        self._feed()
        search, ingest = self._back(ended)
        done = Done(fault.name, begun - self._start, ended - begun, search, ingest)
        self.outcome.done.append(done)
        went_on = "no job was left" if ingest is None else f"ingest after {ingest:.1f} s"
        self._tell(f"   a search was answered after {search:.1f} s, {went_on}")

    def _back(self, since: float) -> tuple[float, float | None]:
        """Seconds until a search that is asked now is answered, and until ingest moves."""
        before = self._rig.wait(lambda: _known(self._rig.done()), "the api", BACK_SECONDS)[0]
        self._rig.wait(self._rig.answers_a_search, "an answer to a search", BACK_SECONDS)
        search = time.monotonic() - since

        def moved() -> bool:
            done = self._rig.done()
            return done is not None and (done > before or self._rig.unfinished() == 0)

        self._rig.wait(moved, "an image that is embedded", BACK_SECONDS)
        ingest = time.monotonic() - since
        return search, ingest if (self._rig.done() or 0) > before else None

    def _feed(self) -> None:
        """Work never runs out."""
        unfinished = self._rig.unfinished()
        while unfinished is not None and unfinished < JOBS_AT_ONCE:
            self._jobs += 1
            seed = 100_000 * self.outcome.seed + self._jobs
            self._rig.submit(self._rows, seed, self._poison)
            unfinished += 1

    def _check(self) -> None:
        rig, outcome = self._rig, self.outcome
        expected = {image_id for ids in rig.jobs.values() for image_id in ids}
        outcome.wrong += checks.jobs_are_closed(rig)
        self._settle()
        states, wrong = checks.searches_are_settled(rig)
        outcome.wrong += wrong + checks.nothing_is_owed(rig)
        rig.stop()
        outcome.wrong += rig.store_is_right(expected)
        outcome.seconds = time.monotonic() - self._start
        outcome.jobs, outcome.images = len(rig.jobs), len(expected)
        outcome.searches, outcome.exits = dict(states), rig.exits
        outcome.decoders_killed = rig.decoders_killed
        outcome.worker_starts = sum(worker.starts for worker in rig.workers)

    def _settle(self) -> None:
        """Searches that nobody waited for may still be on their way."""
        try:
            self._rig.wait(
                lambda: not checks.nothing_is_owed(self._rig), "the end of all that is owed", 150
            )
        except AssertionError:
            return  # the checks say what it is

    def _tell(self, what: str) -> None:
        self._say(f"{time.monotonic() - self._start:7.1f} s  {what}")


def _known(value: int | None) -> tuple[int] | None:
    """Zero is a value as well."""
    return None if value is None else (value,)
