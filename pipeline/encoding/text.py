"""Turns texts into the tokens that a model of images and text was trained on."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from transformers import AutoTokenizer, PretrainedConfig

from pipeline.base.errors import EncoderError


class Tokenizer:
    """Made by `load`. Many threads may call it at once."""

    def __init__(self, tokenizer: Any, length: int, *, siglip: bool) -> None:
        """`tokenizer` comes from transformers; `length` is the most tokens that the model reads."""
        self._tokenizer = tokenizer
        self._length = length
        self._siglip = siglip
        self._lock = threading.Lock()  # transformers' tokenizer changes its own settings in a call

    @classmethod
    def load(cls, folder: Path, config: PretrainedConfig, name: str) -> Self:
        """Loads the tokenizer beside a CLIP or SigLIP model.

        Raises EncoderError if that fails or the tokenizer is unusable. The message calls the model
        `name`.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                folder, config=config, trust_remote_code=False
            )
            # A tokenizer that does not know its model's length states a huge number.
            length = min(tokenizer.model_max_length, config.text_config.max_position_embeddings)
            made = cls(tokenizer, length, siglip=config.model_type == "siglip")
            made(["a", "a picture"])  # a tokenizer that cannot pad raises only now
        except ImportError as error:  # SigLIP's own tokenizer wraps sentencepiece
            raise EncoderError(
                f"The tokenizer of {name} needs a package that is not installed. "
                "Install sentencepiece, or set KINDRED_POOLING=mean to go on without text"
            ) from error
        except Exception as error:  # as many types as for weights
            raise EncoderError(f"The tokenizer of {name} cannot be used: {error}") from error
        return made

    def __call__(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """The model's arguments by name, int64 (n, tokens). Texts that are too long are cut off."""
        if self._siglip:
            # SigLIP was trained on lower case. Its own tokenizer lowers texts; SigLIP 2's does not.
            texts = [text.lower() for text in texts]
        with self._lock:
            tokens = self._tokenizer(
                list(texts),
                # SigLIP was trained to sum up a text at its last position, padding or not.
                padding="max_length" if self._siglip else "longest",
                truncation=True,
                max_length=self._length,
                return_tensors="pt",
            )
        return {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens}
