"""Measures the forward pass of larger encoders: untrained, they cost as much as trained ones."""

from collections.abc import Iterator

import torch
from transformers import ViTConfig, ViTModel

from benchmarks.gpu_setup import Bench, Measured, tried
from benchmarks.report import Spread
from pipeline.encoding.encoder import vectors_of

# name: (hidden, layers, heads, side of the image, side of a patch)
_SHAPES = {
    "ViT-B/16 at 224": (768, 12, 12, 224, 16),
    "DINOv2-B/14 at 518": (768, 12, 12, 518, 14),
    "SigLIP-B/16 at 448": (768, 12, 12, 448, 16),
    "ViT-L/16 at 224": (1024, 24, 16, 224, 16),
}
_TINY = {"tiny": (32, 1, 2, 32, 16)}


def encoders(bench: Bench) -> Iterator[Measured]:
    for name, shape in (_TINY if bench.cpu else _SHAPES).items():
        batch = 2 if bench.cpu else 256 if shape[3] < 300 else 64
        yield tried(
            f"{name}, {batch} images", "images/s", lambda s=shape, n=batch: _rate(bench, s, n)
        )


def _rate(bench: Bench, shape: tuple[int, int, int, int, int], batch: int) -> Spread:
    hidden, layers, heads, side, patch = shape
    config = ViTConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * hidden, image_size=side, patch_size=patch,
    )  # fmt: skip
    with torch.device(bench.device), torch.inference_mode():
        model = ViTModel(config, add_pooling_layer=False).to(bench.dtype).eval()
        values = torch.rand(batch, 3, side, side).to(bench.dtype)
        return bench.rate(lambda: vectors_of(model, values, "mean"), batch)
