"""Measures how long an idle system takes to answer, beside the bare model in its own process."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.kindred import System
from benchmarks.report import Spread
from pipeline.encoding.encoder import Encoder
from pipeline.images.decoding import Unusable, decode

# Threads of a computation spin for some milliseconds before they sleep. The rivals take turns on
# the same cores, and one must not pay for the other's threads.
PAUSE = 0.05  # seconds
LIMIT = 10
MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class ByImage:
    """All times in milliseconds. `bare` is only decoding, preprocessing and one forward pass."""

    bare: Spread
    search: Spread
    decode: Spread
    preprocess: Spread
    forward: Spread

    @property
    def ratio(self) -> float:
        return self.search.median / self.bare.median


def by_image(system: System, encoder: Encoder, queries: Sequence[Path]) -> ByImage:
    """Both get the same files in turn. `encoder` runs in this process, which is otherwise idle."""
    encoder.warm_up()
    stages, searches = [], []
    system.search({"limit": LIMIT}, queries[0])  # the first search opens the connection
    for file in queries:
        time.sleep(PAUSE)
        stages.append(_bare(encoder, file.read_bytes()))
        time.sleep(PAUSE)
        searches.append(1000 * system.search({"limit": LIMIT}, file))
    return ByImage(
        Spread.of([sum(stage) for stage in stages]),
        Spread.of(searches),
        *(Spread.of(column) for column in zip(*stages, strict=True)),
    )


def _bare(encoder: Encoder, data: bytes) -> tuple[float, float, float]:
    """The milliseconds of decoding, preprocessing and the forward pass."""
    times = [time.perf_counter()]
    picture = decode(data, MAX_PIXELS)
    times.append(time.perf_counter())
    assert not isinstance(picture, Unusable)
    pixels = encoder.preprocess(picture)[None]
    times.append(time.perf_counter())
    encoder.embed(pixels, bulk=False)
    times.append(time.perf_counter())
    decoding, preprocessing, forward = (1000 * np.diff(times)).tolist()
    return decoding, preprocessing, forward
