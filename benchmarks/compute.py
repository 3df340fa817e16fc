"""Measures what the machine can compute: the model's bare matrix products, and the plain model."""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from benchmarks.machine import cores
from benchmarks.report import Spread

NOTEBOOK_BATCH = 16  # images a forward pass in the notebook


@dataclass(frozen=True)
class Shape:
    """The sizes of a vision transformer's matrix products."""

    tokens: int
    hidden: int
    heads: int
    inner: int  # width of the feed-forward part
    layers: int
    patch: int  # values a patch

    @classmethod
    def read(cls, model: Path) -> Self:
        config = json.loads((model / "config.json").read_text())
        patch, hidden = config["patch_size"], config["hidden_size"]
        return cls(
            tokens=(config["image_size"] // patch) ** 2 + 1,
            hidden=hidden,
            heads=config["num_attention_heads"],
            inner=config["intermediate_size"],
            layers=config["num_hidden_layers"],
            patch=config.get("num_channels", 3) * patch**2,
        )

    @property
    def flop(self) -> int:
        """The operations for one image: a multiplication with its addition counts as two."""
        weights = 4 * self.hidden**2 + 2 * self.hidden * self.inner
        attention = 2 * self.tokens * self.hidden
        layer = 2 * self.tokens * (weights + attention)
        return self.layers * layer + 2 * (self.tokens - 1) * self.patch * self.hidden

    def products(
        self, images: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> Callable[[], None]:
        """A function that computes all matrix products of one forward pass, and nothing else."""
        rows, width = images * self.tokens, self.hidden // self.heads

        def filled(*size: int) -> torch.Tensor:
            return torch.randn(size, device=device).to(dtype)

        x, y, out = filled(rows, self.hidden), filled(rows, self.inner), filled(rows, self.hidden)
        square = filled(self.hidden, self.hidden).T
        wide, narrow = filled(self.inner, self.hidden).T, filled(self.hidden, self.inner).T
        q = filled(images * self.heads, self.tokens, width)
        scores = torch.bmm(q, q.transpose(1, 2))
        patches = filled(images * (self.tokens - 1), self.patch)
        projection = filled(self.hidden, self.patch).T

        def compute() -> None:
            patches.mm(projection)
            for _ in range(self.layers):
                for _ in range(4):  # query, key, value, and the attention's output
                    torch.mm(x, square, out=out)
                torch.bmm(q, q.transpose(1, 2), out=scores)
                torch.bmm(scores, q)
                torch.mm(x, wide, out=y)
                torch.mm(y, narrow, out=out)

        return compute


@dataclass(frozen=True)
class Limit:
    """The speed that the products alone allow. `how` names the threads."""

    how: str
    gflops: float  # 10^9 operations a second, in the best round
    images_per_second: float


def limits(
    shape: Shape, dtypes: list[torch.dtype], lanes: int, batch: int, rounds: int
) -> list[Limit]:
    """For each precision, measures one computation on all cores, and one in each lane at once."""
    found = []
    with torch.inference_mode():
        for dtype in dtypes:
            name = str(dtype).removeprefix("torch.")
            together = _limit(shape, dtype, 1, NOTEBOOK_BATCH, rounds)
            found.append(_named(f"{name}, all cores, batch {NOTEBOOK_BATCH}", shape, together))
            apart = _limit(shape, dtype, lanes, batch, rounds)
            found.append(_named(f"{name}, {lanes} lanes, batch {batch}", shape, apart))
    return found


def _limit(shape: Shape, dtype: torch.dtype, lanes: int, batch: int, rounds: int) -> float:
    """Images a second in the best of `rounds`."""
    work = [shape.products(batch, dtype) for _ in range(lanes)]
    start = torch.get_num_threads()
    try:
        best = min(in_lanes(work, max(1, cores() // lanes)) for _ in range(rounds + 1))
    finally:
        torch.set_num_threads(start)
    return lanes * batch / best


def in_lanes(work: Sequence[Callable[[], object]], threads: int) -> float:
    """Seconds until all of `work` is done. Each item runs in its own thread, on `threads` cores."""

    def run(one: Callable[[], None]) -> None:
        torch.get_num_threads()  # see pipeline.encoding.encoder: read the number before setting it
        torch.set_num_threads(threads)
        with torch.inference_mode():
            one()

    with ThreadPoolExecutor(len(work)) as pool:
        start = time.perf_counter()
        list(pool.map(run, work))
        return time.perf_counter() - start


def _named(how: str, shape: Shape, images_per_second: float) -> Limit:
    return Limit(how, images_per_second * shape.flop / 1e9, images_per_second)


@dataclass(frozen=True)
class Plain:
    """The model as transformers loads it, on torch's default threads."""

    batch: int
    dtype: str
    images_per_second: Spread


def plain_model(
    model: Path, size: int, dtypes: list[torch.dtype], batches: list[int], rounds: int
) -> list[Plain]:
    """Measures only forward passes, without the steps before and after."""
    from transformers import ViTModel

    torch.set_num_threads(cores())
    found = []
    for dtype in dtypes:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded = ViTModel.from_pretrained(model, dtype=torch.float32).to(device, dtype).eval()
        for batch in batches:
            pixels = torch.randn(batch, 3, size, size).to(device, dtype)
            speeds = [_speed(loaded, pixels) for _ in range(rounds + 1)][1:]
            found.append(Plain(batch, str(dtype).removeprefix("torch."), Spread.of(speeds)))
    return found


def _speed(model: torch.nn.Module, pixels: torch.Tensor) -> float:
    with torch.no_grad():
        start = time.perf_counter()
        model(pixel_values=pixels).last_hidden_state.mean(dim=1).cpu()
        return len(pixels) / (time.perf_counter() - start)
