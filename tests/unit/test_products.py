"""Faster products in bfloat16: what they change is rounding, and only where they gain."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cli import sample
from pipeline.base.settings import Settings
from pipeline.encoding import encoder as encoders
from pipeline.encoding.encoder import Encoder
from pipeline.encoding.products import PackedLinear, attention, speed_up

needs_bf16 = pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bf16")
    or bool(torch.cpu.get_capabilities().get("amx_bf16")),
    reason="needs a processor with AVX512-BF16 and without AMX",
)


class Layer(nn.Module):
    """What a model hands to its attention: whether a token looks only at those before it."""

    is_causal = False


def tokens(count: int = 21) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 3, count, 8, generator=generator) for _ in range(3))


def torchs(*given: torch.Tensor, **more: object) -> torch.Tensor:
    return nn.functional.scaled_dot_product_attention(*given, **more).transpose(1, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 21, 197, 500])
def test_attention_is_torchs(count: int) -> None:
    found, weights = attention(Layer(), *tokens(count), None, scaling=0.3)
    assert weights is None
    torch.testing.assert_close(found, torchs(*tokens(count), scale=0.3))


def test_attention_with_a_mask_or_a_direction_is_torchs_too() -> None:
    """A model that reads text has both, and its texts pass here as well."""
    mask = torch.rand(2, 1, 21, 21) > 0.5
    mask[..., 0] = True
    found, _ = attention(Layer(), *tokens(), mask)
    torch.testing.assert_close(found, torchs(*tokens(), attn_mask=mask))
    found, _ = attention(Layer(), *tokens(), None, is_causal=True)
    torch.testing.assert_close(found, torchs(*tokens(), is_causal=True))
    bias = torch.randn(1, 3, 21, 21)
    found, _ = attention(Layer(), *tokens(), None, position_bias=bias)
    torch.testing.assert_close(found, torchs(*tokens(), attn_mask=bias))


@needs_bf16
def test_a_packed_layer_gives_the_same_bits() -> None:
    torch.manual_seed(0)
    for bias in (True, False):
        plain = nn.Linear(96, 160, bias=bias).to(torch.bfloat16)
        values = torch.randn(5, 33, 96).to(torch.bfloat16)
        with torch.inference_mode():
            assert torch.equal(PackedLinear(plain)(values), plain(values))


def test_in_float32_nothing_changes() -> None:
    model = nn.Sequential(nn.Linear(3, 4))
    speed_up(model)
    assert type(model[0]) is nn.Linear


@needs_bf16
def test_vectors_are_those_of_torchs_own_products(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the seed model's width, heads and depth."""
    sample.write_encoder(tmp_path)
    options = Settings(model=str(tmp_path), dtype="bfloat16", device="cpu", data=tmp_path).encoder
    fast = Encoder.load(options)
    monkeypatch.setattr(encoders, "speed_up", lambda model: None)
    plain = Encoder.load(options)
    assert fast.info == plain.info
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 224, 224), dtype=np.uint8)
    one, other = fast.embed(pixels, bulk=True), plain.embed(pixels, bulk=True)
    assert not np.array_equal(one, other)  # so it was at work
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    assert ((one * other).sum(axis=1) / lengths).min() > 0.9999
