"""`python -m benchmarks`: measures, prints tables, and writes the numbers as JSON."""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch

from benchmarks import (
    beside,
    by_id,
    compute,
    duplicates,
    fidelity,
    folders,
    kindred,
    machine,
    searches,
    stages,
)
from benchmarks import notebook as reference
from benchmarks.data import SHARED, Slice, prepare
from benchmarks.results import Ingests, Results, Worker
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder

# Do not measure an installation's settings by accident. These are kept, and reported.
KEPT_SETTINGS = ("DEVICE", "DTYPE", "BATCH_SIZE", "LANES", "SHARD_SIZE", "PREVIEW_PIXELS")
_FALSE = {"", "0", "false", "no"}


@dataclass(frozen=True)
class Effort:
    """How much to measure. A slice gives each of two lanes whole shards of the default size. With
    less, one lane ends before the other, which measures something else (--rows)."""

    rows: int
    slices: int
    searches: int  # searches by image
    stored: int  # stored images that searches by id run among
    ids: int  # searches by id
    beside: int  # rows of the job that runs beside searches
    images: int  # images in the table of stages
    hashed: int  # images among which copies are looked for
    copied: int  # images that are copied, in each way
    folders: tuple[int, ...]  # pictures in the folders that are planned
    rounds: int  # rounds of a computation
    batches: tuple[int, ...]  # batch sizes of the plain model


FULL = Effort(rows=1280, slices=4, searches=30, stored=10_015, ids=100, beside=160, images=128,
              hashed=10_015, copied=1000, folders=(2000, 20_000), rounds=5,
              batches=(1, 4, 8, 16, 32))  # fmt: skip
QUICK = Effort(rows=256, slices=2, searches=10, stored=1000, ids=30, beside=64, images=32,
               hashed=2000, copied=200, folders=(1000, 5000), rounds=2,
               batches=(8, 16))  # fmt: skip


def main() -> int:
    arguments = _arguments()
    effort = QUICK if arguments.quick else FULL
    rows = arguments.rows or effort.rows
    kept = _forget_settings()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with tempfile.TemporaryDirectory(
            prefix="kindred-bench-", ignore_cleanup_errors=True
        ) as folder:
            results = _measure(Path(folder), effort, rows, arguments, kept)
    except KeyboardInterrupt:
        print("interrupted: everything has stopped", file=sys.stderr)
        return 130
    print(results)
    results.write(arguments.out)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    quick = os.environ.get("QUICK", "").lower() not in _FALSE
    parser.add_argument("--quick", action="store_true", default=quick, help="or QUICK=1")
    parser.add_argument("--rows", type=int, help="images in all slices together")
    parser.add_argument("--images", type=Path, default=SHARED, help="a folder of parquet files")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    return parser.parse_args()


def _forget_settings() -> dict[str, str]:
    """Removes KINDRED_… from the environment, which every process started here inherits."""
    kept = {f"KINDRED_{name}" for name in KEPT_SETTINGS}
    for name in [n for n in os.environ if n.upper().startswith("KINDRED_") and n not in kept]:
        del os.environ[name]
    return {name: os.environ[name] for name in sorted(kept) if name in os.environ}


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def _measure(
    folder: Path, effort: Effort, rows: int, arguments: argparse.Namespace, kept: dict[str, str]
) -> Results:
    described = machine.describe()  # before we put load on the machine
    _say("preparing images and weights")
    sample = prepare(folder, arguments.images, rows, effort.slices, effort.searches)
    data = folder / "kindred" / "data"
    settings = Settings(model=str(sample.model), data=data)
    own = settings.model_copy(update={"data": folder / "stages"})
    encoder = Encoder.load(settings.encoder)
    pixels = stages.pixels_of(encoder, own, sample.slices[0], 4 * encoder.sizing.batch_size)

    _say("starting the notebook's process and Kindred")
    with kindred.running(folder / "kindred", sample.model) as system:
        with reference.running(sample, folder / "notebook.log") as notebook:
            load = machine.Others()
            turns = Turns(notebook, system, encoder, pixels)
            ingests = turns.take(sample.slices, folder)
            others = {"ingests": load.share()}
        _say("searching")
        load = machine.Others()
        queries = _files(sample.queries, folder)
        by_image = searches.by_image(system, encoder, queries)
        _say("searching beside a job")
        busy = beside.measure(system, sample.slices[:2], effort.beside, queries)
        worker = Worker(system.start_seconds, system.worker_mib())
        others["searches"] = load.share()
    _say("searching among many images")
    many, others["searches by id"] = by_id.measure(folder / "by-id", effort.stored, effort.ids)

    _say("comparing vectors")
    theirs = fidelity.notebook_vectors([run.vectors for run in ingests.notebook])
    compared = fidelity.compare(fidelity.stored_vectors(settings, encoder, sample.slices), theirs)
    _say("measuring stage by stage")
    table = stages.measure(encoder, own, sample.slices[0], effort.images)
    _say("looking for copies")
    near = duplicates.measure(effort.hashed, effort.copied)
    _say("planning folders")
    planned = folders.Folders.measure(effort.folders)
    _say("measuring what the machine computes")
    shape = compute.Shape.read(sample.model)
    dtypes = list(dict.fromkeys([torch.float32, encoder.dtype]))
    plan = encoder.sizing
    limits = compute.limits(shape, dtypes, plan.lanes, plan.batch_size, effort.rounds)
    size = int((shape.tokens - 1) ** 0.5 * (shape.patch / 3) ** 0.5)
    plain = compute.plain_model(sample.model, size, dtypes, list(effort.batches), effort.rounds)
    setup = {
        "images": f"{ingests.rows * len(sample.slices)}, {sample.images_are}",
        "weights": sample.weights_are,
        "Kindred computes": f"on {encoder.device} in {str(encoder.dtype).removeprefix('torch.')}, "
        f"{plan.lanes} lanes, batches of {plan.batch_size}, shards of {plan.shard_size}",
        **kept,
    }
    return Results(
        arguments.quick, described, setup, others, worker, ingests, by_image, busy, many,
        table, near, planned, shape, limits, plain, compared,
    )  # fmt: skip


def _files(images: Sequence[bytes], folder: Path) -> list[Path]:
    files = [folder / f"query-{number}.jpg" for number in range(len(images))]
    for file, data in zip(files, images, strict=True):
        file.write_bytes(data)
    return files


@dataclass(frozen=True)
class Turns:
    """The rivals. They take turns, because the speed of a shared machine drifts."""

    notebook: reference.Notebook
    system: kindred.System
    encoder: Encoder
    pixels: list[np.ndarray]

    def take(self, slices: Sequence[Slice], folder: Path) -> Ingests:
        """Runs each slice through the notebook, the bare forward pass and Kindred. At the end
        Kindred ingests all slices again."""
        theirs, bare, ours = [], [], []
        for number, part in enumerate(slices, 1):
            _say(f"slice {number} of {len(slices)}: the notebook's loop")
            theirs.append(self.notebook.ingest(part, folder / f"notebook-{number}"))
            before = stages.forward_alone(self.encoder, self.pixels)
            _say(f"slice {number} of {len(slices)}: Kindred")
            ours.append(self.system.ingest(part))
            after = stages.forward_alone(self.encoder, self.pixels)
            bare.append((before + after) / 2)
        _say("the same again")
        again = [self.system.ingest(part) for part in slices]
        size = slices[0].rows
        if any(run.embedded != size for run in ours) or any(run.unchanged != size for run in again):
            raise RuntimeError("an image was not embedded once, or not recognised the second time")
        return Ingests(size, theirs, bare, ours, again)


if __name__ == "__main__":
    sys.exit(main())
