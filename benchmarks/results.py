"""Collects all that a run has measured, and reports it."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.beside import Beside
from benchmarks.by_id import BATCH, ById
from benchmarks.compute import Limit, Plain, Shape
from benchmarks.duplicates import Duplicates
from benchmarks.fidelity import Fidelity
from benchmarks.folders import Folders
from benchmarks.kindred import KindredRun
from benchmarks.notebook import NotebookRun
from benchmarks.report import Goal, Spread, number, ratios, table
from benchmarks.searches import ByImage
from benchmarks.stages import FORWARD, Stages

# By the machine's kind (`benchmarks.machine.kind`). The notebook computes in float32: where Kindred
# does too, their products alone allow 1.3 to 1.45 times its speed. In bfloat16 they take so little
# that all the rest, which is as slow as before, takes half of the time.
FASTER_THAN_NOTEBOOK = {"cpu": 1.1, "cpu with bf16": 2.0, "gpu": 2.0}
OF_PRODUCTS = {"cpu": 0.75, "cpu with bf16": 0.55, "gpu": 0.75}
OF_FORWARD = 0.85
FASTER_AGAIN = 20.0
SEARCH_OVER_FORWARD = 1.25
BESIDE_OVER_IDLE = 4.0
JOB_BESIDE_SEARCHES = 0.8
START_SECONDS = 8.0
WORKER_MIB = 1500.0
STORED_MIB = 250.0
FILTERED_BY_ID_MS = 25.0
BATCH_OVER_ONE = 4.0
PICTURE_MS = 300.0

# The share of the cores that other processes may take before the report calls a run disturbed.
QUIET = 0.1

# Threads of one OpenMP computation spin while they wait for each other, and stall if one has no
# core. In a process with more of them than cores, such as a worker, libgomp lets them sleep.
DISTURBED = (
    "DISTURBED: other processes took {:.0%} of the cores during the {}. That slows the "
    "notebook and the bare model more than Kindred: do not quote these ratios."
)


@dataclass(frozen=True)
class Ingests:
    """The runs, slice by slice, in the order of their measurement."""

    rows: int  # rows of a slice
    notebook: list[NotebookRun]
    forward: list[
        float
    ]  # images a second of the bare forward pass, before and after Kindred's turn
    kindred: list[KindredRun]
    again: list[KindredRun]

    @property
    def by_slice(self) -> list[float]:
        return ratios([run.seconds for run in self.notebook], [run.seconds for run in self.kindred])

    @property
    def of_forward(self) -> list[float]:
        """Kindred's speed until searchable, as a share of the bare forward pass's speed."""
        speeds = [self.rows / run.seconds for run in self.kindred]
        return [ours / bare for ours, bare in zip(speeds, self.forward, strict=True)]

    @property
    def total(self) -> float:
        return sum(run.seconds for run in self.notebook) / sum(run.seconds for run in self.kindred)

    @property
    def again_by_slice(self) -> list[float]:
        return ratios([run.seconds for run in self.kindred], [run.seconds for run in self.again])


@dataclass(frozen=True)
class Worker:
    """Seconds from `kindred up` until it can answer a search, and the worker's own memory after it
    has embedded and searched."""

    start_seconds: float
    mib: float


@dataclass(frozen=True)
class Results:
    quick: bool
    machine: dict[str, str]
    setup: dict[str, str]
    others: dict[str, float | None]  # share of the cores that other processes took during each
    worker: Worker
    ingests: Ingests
    by_image: ByImage
    beside: Beside
    by_id: ById
    stages: Stages
    near: Duplicates | None  # none without the real images
    folders: Folders
    shape: Shape
    limits: list[Limit]
    plain: list[Plain]
    fidelity: Fidelity

    @property
    def goals(self) -> list[Goal]:
        ingests, beside, by_id = self.ingests, self.beside, self.by_id
        faster, again = Spread.of(ingests.by_slice), Spread.of(ingests.again_by_slice)
        filled = by_id.worker_mib[1] - by_id.worker_mib[0]
        kind = self.machine["kind"]
        return [
            Goal("ingest, times the notebook's speed", faster.median,
                 FASTER_THAN_NOTEBOOK[kind], True),
            Goal(
                "ingest, part of the bare forward pass",
                Spread.of(ingests.of_forward).median,
                OF_FORWARD,
                True,
            ),
            Goal("forward pass, part of its products' speed", self._of_products,
                 OF_PRODUCTS[kind], True),
            Goal("ingest again, times the first", again.median, FASTER_AGAIN, True),
            Goal("search by image, over the bare model", self.by_image.ratio,
                 SEARCH_OVER_FORWARD, False),
            Goal("search beside a job, p95 over idle p95", beside.p95_ratio,
                 BESIDE_OVER_IDLE, False),
            Goal("job beside a search a second, part of its speed", beside.job_share,
                 JOB_BESIDE_SEARCHES, True),
            Goal("start until ready, s", self.worker.start_seconds, START_SECONDS, False),
            Goal("the worker's own memory, MiB", self.worker.mib, WORKER_MIB, False),
            Goal(f"{by_id.images:,} images stored, MiB more", filled, STORED_MIB, False),
            Goal(f"filtered search by id, {by_id.images:,} stored, ms", by_id.filtered.median,
                 FILTERED_BY_ID_MS, False),
            Goal(f"{BATCH} in a batch, over one", by_id.batch_over_one, BATCH_OVER_ONE, False),
            *_first_picture(by_id),
            *self.folders.goals(),
        ]  # fmt: skip

    @property
    def _of_products(self) -> float:
        """The share in Kindred's own precision, which is measured last."""
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
            _by_id(self.by_id),
            _stages(self),
            *([str(self.near)] if self.near else []),
            str(self.folders),
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
    """Shortens paths to names: the run's folders are gone after it."""
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
        line("the notebook's loop", ingests.notebook),
        ["the bare forward pass, in Kindred's lanes", str(Spread.of(ingests.forward)), ""],
        line("Kindred, until searchable", ingests.kindred),
        line("Kindred, the same again", ingests.again),
    ]
    phases = {
        name: sum(run.phases[name] for run in ingests.notebook) / len(ingests.notebook)
        for name in ingests.notebook[0].phases
    }
    shares = ", ".join(f"{name} {number(seconds)} s" for name, seconds in phases.items())
    by_slice = " ".join(number(ratio) for ratio in ingests.by_slice)
    return "\n".join(
        [
            table(["ingest", "images/s", "cores busy"], rows),
            "",
            f"{len(ingests.notebook)} slices of {ingests.rows} images, taking turns. Kindred over "
            f"the notebook: {by_slice}, median {Spread.of(ingests.by_slice)}, in all "
            f"{number(ingests.total)}; of the bare forward pass: "
            f"{Spread.of(ingests.of_forward)}. A slice of the notebook's: {shares}. "
            f"The same again, over the first: {Spread.of(ingests.again_by_slice)}.",
        ]
    )


def _first_picture(by_id: ById) -> list[Goal]:
    if by_id.first_picture is None:
        return []
    measured = by_id.first_picture.median
    return [Goal("the page's first picture after the answer, ms", measured, PICTURE_MS, False)]


def _by_id(by_id: ById) -> str:
    rows = [
        ["search by id, top 10", str(by_id.plain), number(by_id.plain_p95)],
        ["- filtered by sex and age", str(by_id.filtered), number(by_id.filtered_p95)],
        [f"- {BATCH} of these in one batch", str(by_id.batch), ""],
        ["picture of a result, 512 pixels", str(by_id.preview), ""],
        ["the page: first picture after the answer", str(by_id.first_picture or "no browser"), ""],
    ]
    header = [f"{by_id.images:,} images stored, idle, ms", "median (min .. max)", "p95"]
    return "\n".join(
        [
            table(header, rows),
            "",
            f"Images: {by_id.images_are}; {by_id.plain.count} searches of a kind, in turn.",
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
