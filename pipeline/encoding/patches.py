"""The patch tokens of a vision transformer: what it makes of each square of a picture.

Convolutional networks and transformers that merge patches (Swin) have none. They are refused, since
a token that stands for another place than it seems to would explain a match wrongly.
"""

from collections.abc import Iterator
from typing import Any

import torch

from pipeline.base.errors import Conflict

# Models use these names for the parameters of tokens that stand before those of the patches.
_OTHER_TOKENS = {
    "cls_token",
    "class_token",
    "class_embedding",
    "distillation_token",
    "register_tokens",
}

NONE = (
    "The encoder of this collection has no patch tokens: it looks at a picture as a whole, so it "
    "cannot show which parts match. Searches are not affected."
)


def patch_tokens(model: Any, values: torch.Tensor, pooling: str) -> torch.Tensor:
    """The last layer's tokens of the patches, after its layer norm: float32 (n, rows, columns, d).

    `values` are normalised pixels (n, 3, H, W). With the pooling `projection` it is the vision
    tower that is asked. Raises Conflict unless each token stands for one square of the picture.
    """
    tower = model.vision_model if pooling == "projection" else model
    size = _patch_size(tower.config)
    if size is None:
        raise Conflict(NONE)
    rows, columns = values.shape[2] // size[0], values.shape[3] // size[1]
    tokens = getattr(tower(pixel_values=values), "last_hidden_state", None)
    others = sum(_other_tokens(tower))
    if tokens is None or tokens.ndim != 3 or tokens.shape[1] != others + rows * columns:
        raise Conflict(NONE)
    if tower.config.model_type.startswith("clip_"):  # it norms the class token alone
        tokens = tower.post_layernorm(tokens)
    found: torch.Tensor = tokens[:, others:].float().unflatten(1, (rows, columns))
    return found


def _patch_size(config: Any) -> tuple[int, int] | None:
    """(height, width) in pixels; None for a model without patches."""
    size = getattr(config, "patch_size", None)
    if isinstance(size, int):
        return size, size
    return tuple(size) if isinstance(size, list | tuple) and len(size) == 2 else None


def _other_tokens(tower: torch.nn.Module) -> Iterator[int]:
    for name, parameter in tower.named_parameters():
        if name.rpartition(".")[2] in _OTHER_TOKENS:
            yield parameter.numel() // parameter.shape[-1]
