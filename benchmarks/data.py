"""Prepares what the benchmarks need: images in slices, a model's weights, and query images."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cli.hub import hub_in_reach
from cli.sample import write_dataset, write_encoder
from pipeline.encoding.checkpoint import folder_of

SHARED = Path(__file__).parents[2] / "shared" / "data" / "skin_cancer_dev"
HUB_MODEL = "facebook/dino-vits16"


@dataclass(frozen=True)
class Slice:
    """A separate data set, or the first rows of one, in a folder that `load_dataset` reads."""

    folder: Path
    rows: int
    ids: tuple[str, ...]  # in the order of the rows


@dataclass(frozen=True)
class Sample:
    """`model` is a folder. `queries` are image files; as many as possible are in no slice."""

    slices: tuple[Slice, ...]
    queries: tuple[bytes, ...]
    model: Path
    images_are: str
    weights_are: str


def prepare(folder: Path, source: Path, rows: int, slices: int, queries: int) -> Sample:
    """Puts `rows` images of `source` into `slices`, or drawn images if there is no such folder."""
    images_are = "HAM10000, as in shared/data/skin_cancer_dev" if source == SHARED else "as given"
    if not source.is_dir():
        source, images_are = folder / "drawn", "drawn here, since there is no folder of real images"
        write_dataset(source, rows + queries)
    table = shuffled(pq.read_table(source))
    size = slice_size(table.num_rows, rows, slices)
    made = tuple(
        write_slice(folder / f"slice-{n}", table.slice(n * size, size)) for n in range(slices)
    )
    start = min(size * slices, max(0, table.num_rows - queries))
    cells = table.slice(start, queries)["image"].to_pylist()
    model, weights_are = _weights(folder)
    return Sample(made, tuple(cell["bytes"] for cell in cells), model, images_are, weights_are)


def slice_size(available: int, wanted: int, slices: int) -> int:
    """The number of rows of every slice. Raises ValueError if that is 0."""
    size = min(available, wanted) // slices
    if size < 1:
        raise ValueError(f"{min(available, wanted)} rows are too few for {slices} slices")
    return size


def shuffled(table: pa.Table) -> pa.Table:
    """Shuffles the rows: sources are sorted by class or time, and slices should be alike."""
    return table.take(np.random.default_rng(0).permutation(table.num_rows))


def write_slice(folder: Path, table: pa.Table) -> Slice:
    """Writes a slice. The schema's metadata keeps the features, so image columns survive."""
    folder.mkdir()
    pq.write_table(table, folder / "train-00000-of-00001.parquet")
    return Slice(folder, table.num_rows, tuple(table["image_id"].to_pylist()))


def _weights(folder: Path) -> tuple[Path, str]:
    if hub_in_reach():
        return folder_of(HUB_MODEL, None), HUB_MODEL
    model = folder / "untrained-vit-s16"
    shutil.rmtree(model, ignore_errors=True)
    write_encoder(model)
    return model, "an untrained stand-in of ViT-S/16, since the hub is out of reach"
