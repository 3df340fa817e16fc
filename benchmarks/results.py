"""All that a run has measured, and how it is told."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.beside import Beside
from benchmarks.compute import Limit, Plain, Shape
from benchmarks.fidelity import Fidelity
from benchmarks.held import BATCH, Held
from benchmarks.kindred import KindredRun
from benchmarks.report import Goal, Spread, number, ratios, table
from benchmarks.searches import ByImage
from benchmarks.seed import SeedRun
from benchmarks.stages import FORWARD, Stages

FASTER_THAN_SEED = 2.0
OF_FORWARD = 0.85
OF_PRODUCTS = 0.75
FASTER_AGAIN = 20.0
SEARCH_OVER_FORWARD = 1.25
BESIDE_OVER_IDLE = 4.0
JOB_BESIDE_SEARCHES = 0.8
START_SECONDS = 8.0
WORKER_MIB = 1500.0
HELD_MIB = 250.0
FILTERED_BY_ID_MS = 25.0
BATCH_OVER_ONE = 4.0
PICTURE_MS = 300.0

# Part of the cores that others may take before a run is said to have been disturbed.
QUIET = 0.1

# Threads of one OpenMP computation spin for each other, and stall when one has no core; where a
# process has more of them than cores, as a worker does, libgomp lets them sleep instead.
DISTURBED = (
    "DISTURBED: other processes took {:.0%} of the cores during the {}. That slows the "
    "notebook and the bare model more than Kindred: do not quote these ratios."
)


@dataclass(frozen=True)
class Ingests:
    """Slice by slice, in the order in which they were measured."""

    rows: int  # of a slice
    seed: list[SeedRun]
    forward: list[
        float
    ]  # images a second of the bare forward pass, before and after Kindred's turn
    kindred: list[KindredRun]
    again: list[KindredRun]

    @property
    def by_slice(self) -> list[float]:
        return ratios([run.seconds for run in self.seed], [run.seconds for run in self.kindred])

    @property
    def of_forward(self) -> list[float]:
        """Kindred's speed until searchable, as a part of the bare forward pass'."""
        speeds = [self.rows / run.seconds for run in self.kindred]
        return [ours / bare for ours, bare in zip(speeds, self.forward, strict=True)]

    @property
    def total(self) -> float:
        return sum(run.seconds for run in self.seed) / sum(run.seconds for run in self.kindred)

    @property
    def again_by_slice(self) -> list[float]:
        return ratios([run.seconds for run in self.kindred], [run.seconds for run in self.again])


@dataclass(frozen=True)
class Worker:
    """Seconds from `kindred up` until a search would be answered, and the worker's own memory once
    it has embedded and searched."""

    start_seconds: float
    mib: float


@dataclass(frozen=True)
class Results:
    quick: bool
    machine: dict[str, str]
    setup: dict[str, str]
    others: dict[str, float | None]  # part of the cores that other processes took during each
    worker: Worker
    ingests: Ingests
    by_image: ByImage
    beside: Beside
    held: Held
    stages: Stages
    shape: Shape
    limits: list[Limit]
    plain: list[Plain]
    fidelity: Fidelity

    @property
    def goals(self) -> list[Goal]:
        ingests, beside, held = self.ingests, self.beside, self.held
        faster, again = Spread.of(ingests.by_slice), Spread.of(ingests.again_by_slice)
        filled = held.worker_mib[1] - held.worker_mib[0]
        return [
            Goal("ingest, times the notebook's speed", faster.median, FASTER_THAN_SEED, True),
            Goal(
                "ingest, part of the bare forward pass",
                Spread.of(ingests.of_forward).median,
                OF_FORWARD,
                True,
            ),
            Goal("forward pass, part of its products' speed", self._of_products, OF_PRODUCTS, True),
            Goal("ingest again, times the first", again.median, FASTER_AGAIN, True),
            Goal("search by image, over the bare model", self.by_image.ratio,
                 SEARCH_OVER_FORWARD, False),
            Goal("search beside a job, p95 over idle p95", beside.p95_ratio,
                 BESIDE_OVER_IDLE, False),
            Goal("job beside a search a second, part of its speed", beside.job_share,
                 JOB_BESIDE_SEARCHES, True),
            Goal("start until ready, s", self.worker.start_seconds, START_SECONDS, False),
            Goal("the worker's own memory, MiB", self.worker.mib, WORKER_MIB, False),
            Goal(f"{held.images:,} images held, MiB more", filled, HELD_MIB, False),
            Goal(f"filtered search by id, {held.images:,} held, ms", held.filtered.median,
                 FILTERED_BY_ID_MS, False),
            Goal(f"{BATCH} in a batch, over one", held.batch_over_one, BATCH_OVER_ONE, False),
            *_first_picture(held),
        ]  # fmt: skip

    @property
    def _of_products(self) -> float:
        """In the precision that Kindred computes in, which is measured last."""
        return self.stages.embed_images_per_second / self.limits[-1].images_per_second

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        goals = [{**dataclasses.asdict(goal), "met": goal.met} for goal in self.goals]
        document = {**dataclasses.asdict(self), "goals": goals}
        document["ingests"]["ratios"] = self.ingests.by_slice
        document["ingests"]["total_ratio"] = self.ingests.total
        document["ingests"]["again_ratios"] = self.ingests.again_by_slice
        path.write_text(json.dumps(document, indent=2, default=_plain) + "\n")

    def __str__(self) -> str:
        parts = [
            table(["measured on", ""], [[k, v] for k, v in {**self.machine, **self.setup}.items()]),
            "\n".join(f"- {goal}" for goal in self.goals),
            _ingests(self.ingests, int(self.machine["cores"])),
            _by_image(self.by_image),
            _beside(self.beside),
            _held(self.held),
            _stages(self),
            _limits(self),
            f"Vectors against the notebook's: lowest cosine {self.fidelity.lowest_cosine:.6f}, "
            f"{self.fidelity.overlap:.1%} of each image's {self.fidelity.neighbours} nearest are "
            f"the same ({self.fidelity.images} images).",
        ]
        for what, share in self.others.items():
            if (share or 0) > QUIET:
                parts.insert(0, DISTURBED.format(share, what))
        if self.quick:
            parts.insert(0, "A quick run: few images, so the spread is wide.")
        return "\n\n".join(parts)


def _plain(value: Any) -> str:
    """Paths are the run's own, and of no use after it."""
    return value.name if isinstance(value, Path) else str(value)


def _ingests(ingests: Ingests, cores: int) -> str:
    def line(name: str, runs: list[Any]) -> list[str]:
        speeds = Spread.of([ingests.rows / run.seconds for run in runs])
        spent = [run.cpu_seconds for run in runs]
        busy = None
        if None not in spent:
            busy = 100 * sum(spent) / sum(run.seconds for run in runs) / cores
        return [name, str(speeds), "-" if busy is None else f"{busy:.0f} %"]

    rows = [
        line("the notebook's loop", ingests.seed),
        ["the bare forward pass, in Kindred's lanes", str(Spread.of(ingests.forward)), ""],
        line("Kindred, until searchable", ingests.kindred),
        line("Kindred, the same again", ingests.again),
    ]
    phases = {
        name: sum(run.phases[name] for run in ingests.seed) / len(ingests.seed)
        for name in ingests.seed[0].phases
    }
    shares = ", ".join(f"{name} {number(seconds)} s" for name, seconds in phases.items())
    by_slice = " ".join(number(ratio) for ratio in ingests.by_slice)
    return "\n".join(
        [
            table(["ingest", "images/s", "cores busy"], rows),
            "",
            f"{len(ingests.seed)} slices of {ingests.rows} images, taking turns. Kindred over the "
            f"notebook: {by_slice}, median {Spread.of(ingests.by_slice)}, in all "
            f"{number(ingests.total)}; of the bare forward pass: "
            f"{Spread.of(ingests.of_forward)}. A slice of the notebook's: {shares}. "
            f"The same again, over the first: {Spread.of(ingests.again_by_slice)}.",
        ]
    )


def _first_picture(held: Held) -> list[Goal]:
    if held.first_picture is None:
        return []
    measured = held.first_picture.median
    return [Goal("the page's first picture after the answer, ms", measured, PICTURE_MS, False)]


def _held(held: Held) -> str:
    rows = [
        ["search by id, top 10", str(held.plain), number(held.plain_p95)],
        ["- filtered by sex and age", str(held.filtered), number(held.filtered_p95)],
        [f"- {BATCH} of these in one batch", str(held.batch), ""],
        ["picture of a result, 512 pixels", str(held.preview), ""],
        ["the page: first picture after the answer", str(held.first_picture or "no browser"), ""],
    ]
    header = [f"{held.images:,} images held, idle, ms", "median (min .. max)", "p95"]
    return "\n".join(
        [
            table(header, rows),
            "",
            f"Images: {held.images_are}; {held.plain.count} searches of a kind, in turn.",
        ]
    )


def _by_image(found: ByImage) -> str:
    rows = [
        ["bare model: decode, preprocess, one forward", str(found.bare)],
        ["- decode", str(found.decode)],
        ["- preprocess", str(found.preprocess)],
        ["- forward, all cores", str(found.forward)],
        ["search by image, over HTTP", str(found.search)],
        ["- beyond the bare model", number(found.search.median - found.bare.median)],
    ]
    return "\n".join(
        [
            table(["idle, ms", "median (min .. max)"], rows),
            "",
            f"Search by image over the bare model: {number(found.ratio)} "
            f"(n = {found.search.count} each, taking turns).",
        ]
    )


def _beside(found: Beside) -> str:
    rows = [
        ["search by image, idle, ms", str(found.idle), number(found.idle_p95)],
        ["- beside a job", str(found.busy), number(found.busy_p95)],
        ["job alone, images/s", str(found.alone), ""],
        ["- beside a search a second", str(found.searched), ""],
    ]
    return "\n".join(
        [
            table(["", "median (min .. max)", "p95"], rows),
            "",
            f"p95 beside a job over idle: {number(found.p95_ratio)}, of {found.busy.count} "
            f"searches; the job keeps {found.job_share:.0%} of its speed.",
        ]
    )


def _stages(results: Results) -> str:
    stages = results.stages
    rows = []
    for stage in stages.stages:
        share = "" if stage.part_of else f"{100 * stage.ms.median / stages.total_ms:.1f} %"
        rows.append([f"{'- ' if stage.part_of else ''}{stage.name}", str(stage.ms), share])
    cores = int(results.machine["cores"])
    rows.append(["sum", number(stages.total_ms), "100 %"])
    ingests = results.ingests
    measured = Spread.of([1000 * cores * run.seconds / ingests.rows for run in ingests.kindred])
    rows.append(["measured: time until searchable, on all cores", str(measured), ""])
    return "\n".join(
        [
            table(["ingest, ms of one core an image", "median (min .. max)", "share"], rows),
            "",
            f"`{FORWARD}` is {number(stages.embed_images_per_second)} images/s.",
        ]
    )


def _limits(results: Results) -> str:
    rows = [
        [
            f"matrix products alone: {limit.how}",
            number(limit.gflops),
            number(limit.images_per_second),
        ]
        for limit in results.limits
    ]
    gflop = results.shape.flop / 1e9
    for plain in results.plain:
        speed = plain.images_per_second
        name = f"plain model: {plain.dtype}, default threads, batch {plain.batch}"
        rows.append([name, number(speed.median * gflop), str(speed)])
    return "\n".join(
        [
            table(["what the machine computes", "GFLOP/s", "images/s"], rows),
            "",
            f"{gflop:.1f} GFLOP an image. The products are those of the model, best round.",
        ]
    )
