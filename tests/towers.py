"""Untrained models of images and text, a few kilobytes each, in the formats of the published ones.

They tell nothing about pictures or words, but are loaded and run by the real code.
"""

import json
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers.processors import TemplateProcessing

SENTENCES = [
    "a dark mole on the back of an old man",
    "two red naevi, each with an uneven border",
    "an ultrasound scan of a healthy heart",
]

DIMENSIONS = 24  # of CLIP's joint space; no tower is as wide
READS = 16  # tokens

_VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_VISION |= {"intermediate_size": 64, "image_size": 32, "patch_size": 8}
_TEXT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_TEXT |= {"intermediate_size": 32, "max_position_embeddings": READS}


def write_clip(folder: Path) -> Path:
    """A CLIP model with CLIP's own tokenizer."""
    tokenizer = hf.CLIPTokenizer(model_max_length=READS).train_new_from_iterator(SENTENCES, 300)
    config = hf.CLIPConfig(
        vision_config=_VISION | {"projection_dim": DIMENSIONS},
        text_config=_TEXT | {"projection_dim": DIMENSIONS} | _ids(tokenizer),
        projection_dim=DIMENSIONS,
    )
    # An end of text with the id 2 is how transformers recognises the first published checkpoints,
    # and then it looks for another one.
    assert config.text_config.eos_token_id != 2
    return _write(folder, hf.CLIPModel, config, tokenizer, "CLIPImageProcessor")


def write_siglip(folder: Path) -> Path:
    """A SigLIP 2 model of one size: SigLIP's towers, and Gemma's way of cutting up text."""
    shouted = [sentence.upper() for sentence in SENTENCES]  # so that capitals are tokens too
    tokenizer = hf.GemmaTokenizer(
        model_max_length=READS, padding_side="right", model_input_names=["input_ids"]
    ).train_new_from_iterator(SENTENCES + shouted, 80)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", tokenizer.eos_token_id)]
    )
    config = hf.SiglipConfig(
        vision_config=_VISION,
        text_config=_TEXT | {"projection_size": _VISION["hidden_size"]} | _ids(tokenizer),
    )
    return _write(folder, hf.SiglipModel, config, tokenizer, "SiglipImageProcessor")


def _ids(tokenizer: Any) -> dict[str, int]:
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {"vocab_size": len(tokenizer)} | {name: getattr(tokenizer, name) for name in names}


def _write(folder: Path, kind: Any, config: Any, tokenizer: Any, processor: str) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config)
        for parameter in model.parameters():
            # As drawn they are so small that all pictures, and all texts, are nearly one vector.
            parameter.data += 0.2 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shape = {"size": {"height": 32, "width": 32}, "do_center_crop": False}
    shape |= {"image_processor_type": processor}
    (folder / "preprocessor_config.json").write_text(json.dumps(shape))
    return folder
