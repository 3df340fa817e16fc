"""Says how well encoders find the same diagnosis among real images, as `kindred evaluate` does.

    python -m benchmarks.quality                              both folders of real images
    python -m benchmarks.quality --model facebook/dino-vits16  with a row for this model
    python -m benchmarks.quality --vectors build/vectors       keeps vectors for the next run

Each image is searched by, among all others but those of its lesion and their near-duplicates. The
rows: a ViT-S/16 with random weights, features that the images teach themselves without a label
(`benchmarks/embeddings.py`), a histogram of colours, the constant guess and chance.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from benchmarks import embeddings, machine
from benchmarks.data import SHARED
from benchmarks.report import table
from cli.sample import write_encoder
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from pipeline.evaluation import metrics
from pipeline.evaluation.collected import NONE, Collected, number_of
from pipeline.evaluation.histogram import histogram
from pipeline.evaluation.judge import Judge
from pipeline.images.hashes import perceptual_hash
from pipeline.images.picture import Picture
from pipeline.messages.comparisons import Difference
from pipeline.messages.evaluations import Estimate, Metric, Ranking

Floats = NDArray[np.float32]

LABEL, GROUP = "dx", "lesion_id"
COLOURS = "colour histogram"
PATCHES = "patch features, 384"
RANDOM = "ViT-S/16, random weights"

COLUMNS: dict[Metric, str] = {
    "precision_at_1": "P@1",
    "precision_at_5": "P@5",
    "precision_at_10": "P@10",
    "map_at_10": "mAP@10",
    "ndcg_at_10": "nDCG@10",
    "balanced_accuracy": "balanced accuracy",
}


@dataclass(frozen=True)
class Images:
    """A folder of real images: JPEG bytes in the order of its rows, and what is known of them."""

    folder: Path
    data: Sequence[bytes]
    collected: Collected  # its vectors are empty
    names: Mapping[int, str]

    @classmethod
    def of(cls, folder: Path) -> "Images":
        rows = pq.read_table(folder, columns=["image", "image_id", LABEL, GROUP]).to_pylist()
        data = [row["image"]["bytes"] for row in rows]
        hashes = [bytes.fromhex(perceptual_hash(Picture(_opened(each)))) for each in data]
        ids = tuple(row["image_id"] for row in rows)
        collected = Collected(
            ids=ids,
            keys=_numbers(ids),
            vectors=np.zeros((len(rows), 0), np.float32),
            labels=_numbers(row[LABEL] for row in rows),
            groups=_numbers(row[GROUP] for row in rows),
            patients=np.full(len(rows), NONE),
            digests=np.full(len(rows), NONE),
            hashes=np.array([np.frombuffer(each, np.uint8) for each in hashes]),
        )
        names = {number_of(row[LABEL]): row[LABEL] for row in rows}
        return cls(folder, data, collected, names)


def _numbers(values: Any) -> NDArray[np.int64]:
    return np.array([number_of(value) for value in values], np.int64)


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


# --- encoders ------------------------------------------------------------------------------------


def colours(images: Images) -> Floats:
    return np.stack([histogram(_opened(each)) for each in images.data])


def patches(images: Images) -> Floats:
    return embeddings.real(images.folder)[0]


def by_model(model: str) -> Callable[[Images], Floats]:
    """An encoder as a worker loads it, from the hub or a folder."""

    def vectors(images: Images) -> Floats:
        encoder = Encoder.load(Settings(model=model).encoder)
        try:
            return np.concatenate(list(_batches(encoder, images.data)))
        finally:
            encoder.close()

    return vectors


def untrained(images: Images) -> Floats:
    with tempfile.TemporaryDirectory() as folder:
        write_encoder(Path(folder) / "model")
        return by_model(str(Path(folder) / "model"))(images)


def _batches(encoder: Encoder, data: Sequence[bytes], size: int = 32) -> Iterator[Floats]:
    for start in range(0, len(data), size):
        pixels = [encoder.preprocess(Picture(_opened(d))) for d in data[start : start + size]]
        yield encoder.embed(encoder.stack(pixels), bulk=False)
        if start % (32 * size) == 0:
            _say(f"{start:,} of {len(data):,} images")


def _kept(
    folder: Path | None, name: str, images: Images, make: Callable[[Images], Floats]
) -> Floats:
    """The vectors, from a file in `folder` if they are there."""
    file = folder / f"{images.folder.name}-{name.replace('/', '-')}.npy" if folder else None
    if file is not None and file.is_file():
        known: Floats = np.load(file)
        return known
    _say(f"{name}: {len(images.data):,} images")
    found = make(images).astype(np.float32)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, found)
    return found


# --- what comes of it ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """Of one folder. `differences` are those to the histogram of colours, of means over classes."""

    folder: str
    judge: Judge
    rankings: Sequence[Ranking]
    differences: Mapping[str, Mapping[Metric, Difference]]

    def __str__(self) -> str:
        images = self.judge.images
        parts = [
            f"## {self.folder}",
            f"{len(images):,} images; {len(np.unique(images.groups)):,} lesions, those of "
            f"near-duplicates counted as one; {self.judge.duplicates}",
            self._table("overall"),
            self._table("macro"),
            self._classes(),
            self._differences(),
        ]
        return "\n\n".join(parts)

    def _table(self, which: str) -> str:
        rows = [
            [ranking.name, *(_cell(getattr(ranking, which)[metric]) for metric in COLUMNS)]
            for ranking in self.rankings
        ]
        return table([which, *COLUMNS.values()], rows)

    def _classes(self) -> str:
        rows = [
            [label, f"{self.rankings[0].classes[n].images:,}"]
            + [_cell(r.classes[n].metrics["precision_at_10"]) for r in self.rankings]
            for n, label in enumerate(self.judge.labels.names)
        ]
        return table(["P@10", "images", *(r.name for r in self.rankings)], rows)

    def _differences(self) -> str:
        rows = [
            [f"{name}, less {COLOURS}", *(_change(changes[metric]) for metric in COLUMNS)]
            for name, changes in self.differences.items()
        ]
        return table(["macro", *COLUMNS.values()], rows)

    def document(self) -> dict[str, Any]:
        return {
            "folder": self.folder,
            "images": len(self.judge.images),
            "rankings": [ranking.model_dump() for ranking in self.rankings],
            "differences": {
                name: {metric: each.model_dump() for metric, each in changes.items()}
                for name, changes in self.differences.items()
            },
        }


def _cell(found: Estimate) -> str:
    if found.value is None:
        return "-"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _change(found: Difference) -> str:
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}), p {found.p:.4f}"


def measure(images: Images, models: Sequence[str], vectors: Path | None) -> Found:
    encoders: dict[str, Callable[[Images], Floats]] = {
        **{model: by_model(model) for model in models},
        PATCHES: patches,
        RANDOM: untrained,
        COLOURS: colours,
    }
    judge = Judge.of(images.collected, images.names, "leave_out", seed=0)
    values: dict[str, metrics.Values] = {}
    for name, make in encoders.items():
        found = _kept(vectors, name, images, make)
        start = time.process_time()
        values[name] = judge.values(found[judge.kept])
        _say(f"{name}: judged in {time.process_time() - start:.1f} s of processor time")
    baselines = {
        "constant guess": metrics.of_constant(judge.truth, int(judge.labels.held.argmax())),
        "chance": metrics.of_chance(judge.relevant, judge.others),
    }
    changes = {
        name: judge.differences(values[COLOURS], each)[1]
        for name, each in values.items()
        if name != COLOURS
    }
    rankings = judge.rankings(values | baselines)
    return Found(images.folder.name, judge, rankings, changes)


def _say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    full = SHARED.with_name("skin_cancer_full")
    parser.add_argument("--images", type=Path, nargs="+", default=[SHARED, full])
    parser.add_argument("--model", action="append", default=[], help="as KINDRED_MODEL takes it")
    parser.add_argument("--vectors", type=Path, help="keep vectors in this folder")
    parser.add_argument("--out", type=Path, default=Path("build/quality.json"))
    arguments = parser.parse_args()
    described = machine.describe()
    found = [measure(Images.of(f), arguments.model, arguments.vectors) for f in arguments.images]
    print("\n\n".join([", ".join(described.values()), *map(str, found)]))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    body = {"machine": described, "folders": [each.document() for each in found]}
    arguments.out.write_text(json.dumps(body, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
