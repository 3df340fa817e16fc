"""Texts as the tokens that a model of images and text was trained on."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from transformers import AutoTokenizer, PretrainedConfig

from pipeline.base.errors import EncoderError


class Tokenizer:
    """Made by `load`. May be called from many threads at once."""

    def __init__(self, tokenizer: Any, length: int, *, siglip: bool) -> None:
        """`tokenizer` is one of transformers; `length` is what the model reads, in tokens."""
        self._tokenizer = tokenizer
        self._length = length
        self._siglip = siglip
        self._lock = threading.Lock()  # the one of transformers keeps its settings in itself

    @classmethod
    def load(cls, folder: Path, config: PretrainedConfig, name: str) -> Self:
        """The tokenizer that lies beside a CLIP or SigLIP model.

        Raises EncoderError if it cannot be loaded or used; `name` is what the message calls the
        model.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                folder, config=config, trust_remote_code=False
            )
            # Where a tokenizer does not say what its model reads, it says a number without end.
            length = min(tokenizer.model_max_length, config.text_config.max_position_embeddings)
            made = cls(tokenizer, length, siglip=config.model_type == "siglip")
            made(["a", "a picture"])  # not every one can pad, and those say so only now
        except ImportError as error:  # SigLIP's own is a wrapper around sentencepiece
            raise EncoderError(
                f"The tokenizer of {name} needs a package that is not installed. "
                "Install sentencepiece, or set KINDRED_POOLING=mean to go on without text"
            ) from error
        except Exception as error:  # as many kinds as for weights
            raise EncoderError(f"The tokenizer of {name} cannot be used: {error}") from error
        return made

    def __call__(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """int64 (n, tokens), by the names of the model's arguments. What is too long is cut off."""
        if self._siglip:
            # Trained on lower case, which SigLIP's own tokenizer sees to and SigLIP 2's does not.
            texts = [text.lower() for text in texts]
        with self._lock:
            tokens = self._tokenizer(
                list(texts),
                # SigLIP sums a text up at its last position, padding or not, and was trained to.
                padding="max_length" if self._siglip else "longest",
                truncation=True,
                max_length=self._length,
                return_tensors="pt",
            )
        return {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens}
