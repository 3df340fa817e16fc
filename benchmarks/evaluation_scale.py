"""Evaluates a made collection: seconds, memory, and the longest time between two ticks.

    python -m benchmarks.evaluation_scale 10015
    python -m benchmarks.evaluation_scale 1000000 --searched 20000

In place of a store there are pages of records that are made as they are read, so what is measured
is the evaluation, without a baseline, and the making. Between two ticks nothing notices that a job
was cancelled.
"""

import argparse
import os
import resource
import time
from typing import Any, cast
from uuid import UUID

import numpy as np

from benchmarks.embeddings import DIMENSIONS, Maker
from benchmarks.report import number, table
from pipeline.base.identity import point_id
from pipeline.evaluation.collected import PAGE, Reader
from pipeline.evaluation.evaluation import Evaluation
from pipeline.messages import EncoderInfo
from pipeline.messages.evaluations import EvaluationRequest
from pipeline.store import Record

_ENCODER = EncoderInfo(
    model="made",
    revision=None,
    weights_sha256="0" * 64,
    pooling="mean",
    preprocessing="none",
    dimensions=DIMENSIONS,
)


class Pages:
    """Stands for a store of `images`. Its cursors are numbers of images, any other is a start."""

    def __init__(self, images: int) -> None:
        self._images, self._maker = images, Maker(images)

    def scroll(
        self, limit: int, *, cursor: UUID | None = None, **_: Any
    ) -> tuple[list[Record], UUID | None]:
        assert limit == PAGE
        start = 0 if cursor is None else cursor.int
        if start >= self._images:
            start = start % self._images // PAGE * PAGE
        stop = min(start + limit, self._images)
        page = self._page(start, stop)
        return page, UUID(int=stop) if stop < self._images else None

    def _page(self, start: int, stop: int) -> list[Record]:
        made = self._maker.make(stop - start, start // PAGE)
        hashes = np.random.default_rng(start).integers(0, 256, (stop - start, 32), np.uint8)
        return [
            Record(point_id(f"I{start + n}"), _payload(start + n, label, lesion, hash_), vector)
            for n, (label, lesion, hash_, vector) in enumerate(
                zip(made.classes, made.lesions, hashes, made.vectors, strict=True)
            )
        ]


def _payload(image: int, label: int, lesion: int, hash_: Any) -> dict[str, Any]:
    source = {"phash": hash_.tobytes().hex(), "sha256": f"{image:064x}"}
    return {"image_id": f"I{image}", "dx": f"d{label}", "lesion_id": f"L{lesion}", "source": source}


def measure(images: int, searched: int) -> list[str]:
    ticks = [time.monotonic()]
    report = Evaluation(
        id="0" * 36,
        request=EvaluationRequest(label="dx", group="lesion_id", baseline=False),
        encoder=_ENCODER,
        reader=Reader(cast(Any, Pages(images)), "dx", "lesion_id", None, {}),
        preview=lambda _: b"",
        searched=searched,
        count=images,
        tick=lambda _: ticks.append(time.monotonic()),
    ).run()
    ticks.append(time.monotonic())
    steps = [report.seconds[step] for step in ("read", "nearest", "metrics")]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = [ticks[-1] - ticks[0], *steps, time.process_time(), float(np.diff(ticks).max()), memory]
    return [f"{images:,}", f"{searched:,}", *map(number, found)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", type=int)
    parser.add_argument("--searched", type=int, help="default: all, at most 20,000")
    given = parser.parse_args()
    row = measure(given.images, given.searched or min(given.images, 20_000))
    print(f"load {os.getloadavg()[0]:.1f}; times in seconds, memory in MiB")
    header = "images,searched by,all,read,nearest,metrics,processor,longest gap,memory"
    print(table(header.split(","), [row]))


if __name__ == "__main__":
    main()
