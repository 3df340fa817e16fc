"""A model's files: found or fetched, loaded, and refused if they are not all that is needed.

Weights that a checkpoint lacks would be filled with random numbers by transformers, which only logs
it. Whatever is embedded then is noise, and nobody notices, so here it is an error with the names.
"""

import contextlib
import hashlib
import json
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils.tqdm import disable_progress_bars
from transformers import AutoConfig, AutoModel, PretrainedConfig
from transformers.utils import logging as transformers_logging

from pipeline.base.errors import EncoderError

# What is fetched of a model: its configuration, and one set of weights. Those of other frameworks
# and precisions lie beside them and can be many times the size.
_CONFIGURATION = ["config.json", "preprocessor_config.json", "processor_config.json"]
_SAFETENSORS = ["model.safetensors", "model.safetensors.index.json", "model-*.safetensors"]
_PICKLED = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"]

# What is fetched as well of a model that reads text; one of the vocabularies will do.
_TOKENIZER_SETTINGS = "tokenizer_config.json"
_VOCABULARIES = (
    {"tokenizer.json"},
    {"vocab.json", "merges.txt"},
    {"spiece.model"},
    {"tokenizer.model"},
)
_TOKENIZER = ["special_tokens_map.json", "added_tokens.json", *set().union(*_VOCABULARIES)]

# Model types whose joint space is read here. SigLIP 2 in its fixed sizes is of type siglip; type
# siglip2 takes pictures of any shape, which the preprocessing refuses.
_JOINT = {"clip", "siglip"}

# Parts that no vector depends on: ViT's pooler, and what makes probabilities of the cosines of CLIP
# and SigLIP.
_UNUSED = frozenset({"pooler", "logit_scale", "logit_bias"})


def silence_logging() -> None:
    """No progress bars and no reports from the libraries; what matters in them is raised here.

    For the whole process, since the libraries keep it for the whole process.
    """
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    disable_progress_bars()


def folder_of(model: str, revision: str | None) -> Path:
    """Where a model, named by its folder or its hub name, lies on this machine.

    It is fetched only if it is nowhere. So a worker starts without the hub, and a branch that moves
    on does not change the encoder under a collection. (transformers would ask the hub for each file
    by itself, and without a network wait 23 s for each.)

    Raises EncoderError, saying which of the many possible reasons it was and what to do.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or model.startswith((".", "~")):
        raise EncoderError(
            f"There is no folder {model}. Set KINDRED_MODEL to one, or to a hub name"
        )
    try:
        with contextlib.suppress(LocalEntryNotFoundError):
            return _snapshot(model, revision, local_files_only=True)
        return _snapshot(model, revision, local_files_only=False)
    except Exception as error:
        raise EncoderError(_why_not_fetched(model, revision, error)) from error


def add_tokenizer(folder: Path, model: str) -> None:
    """What reads text, fetched into a hub model's folder if it is not there yet.

    Raises EncoderError if it cannot be fetched, or the model has none.
    """
    if not (folder / _TOKENIZER_SETTINGS).is_file() and not Path(model).expanduser().is_dir():
        try:
            # A snapshot's folder is named by its commit. The settings come last: where they lie,
            # no download was cut off.
            for files in (_TOKENIZER, [_TOKENIZER_SETTINGS]):
                snapshot_download(model, revision=folder.name, allow_patterns=files)
        except Exception as error:
            raise EncoderError(
                f"The tokenizer of {model} is not on this machine, and cannot be fetched "
                f"({type(error).__name__}). Connect, or set KINDRED_POOLING=mean: "
                "without it there is no search by text"
            ) from error
    there = {file.name for file in folder.iterdir()}
    if _TOKENIZER_SETTINGS not in there or not any(files <= there for files in _VOCABULARIES):
        raise EncoderError(
            f"{model} comes without a tokenizer, so it cannot read text. Put its tokenizer's files "
            "beside its weights, or set KINDRED_POOLING=mean to use its vision tower alone"
        )


def configuration(folder: Path, name: str) -> PretrainedConfig:
    """What kind of model lies in a folder. Raises EncoderError, which calls it `name`."""
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise EncoderError(f"{name} cannot be loaded: {error}") from error
    return config


def has_joint_space(config: PretrainedConfig) -> bool:
    """Whether images and texts have vectors that can be compared, in a way that is known here."""
    return config.model_type in _JOINT


def vision(config: PretrainedConfig) -> PretrainedConfig:
    """The tower that sees of a model of two towers; of any other model, the model."""
    tower: PretrainedConfig = getattr(config, "vision_config", None) or config
    return tower


def load(folder: Path, config: PretrainedConfig, name: str) -> torch.nn.Module:
    """The model, or the tower, that `config` describes, with the weights that lie in a folder.

    In float32, on the CPU, in evaluation mode. Weights of another tower stay on the disk.

    Raises EncoderError if it cannot be loaded, or not with every weight that is used; `name` is
    what the message calls it.
    """
    try:
        model, report = AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by their names
            trust_remote_code=False,  # left open, transformers asks on the terminal
        )
    except Exception as error:  # OSError, ValueError, ImportError, RuntimeError, SafetensorError …
        raise EncoderError(f"{name} cannot be loaded: {error}") from error
    faults = {
        "missing": sorted(key for key in report["missing_keys"] if _is_used(key)),
        "of another shape": sorted(key for key, *_ in report["mismatched_keys"]),
    }
    if any(faults.values()):
        listed = "; ".join(f"{what}: {', '.join(keys)}" for what, keys in faults.items() if keys)
        raise EncoderError(f"The weights of {name} do not fit its configuration. {listed}")
    loaded: torch.nn.Module = model.requires_grad_(False)
    return loaded


def weights_sha256(model: torch.nn.Module) -> str:
    """Hex digest of all weights that are used.

    Each tensor is hashed with its shape, as float32, and the digests are sorted: what a tensor is
    called does not matter, since transformers 5 renamed those of ViT and may rename more.
    """
    digests = []
    for name, weight in model.state_dict().items():
        if _is_used(name):
            values = weight.to("cpu", torch.float32).contiguous()
            digest = hashlib.sha256(repr(tuple(values.shape)).encode())
            digest.update(values.numpy().data)
            digests.append(digest.digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _is_used(key: str) -> bool:
    """Other weights may be missing, and then transformers has drawn them."""
    return _UNUSED.isdisjoint(key.split("."))


def _snapshot(model: str, revision: str | None, *, local_files_only: bool) -> Path:
    """The folder of a hub model, complete."""
    for weights in (_SAFETENSORS, _PICKLED):
        folder = Path(
            snapshot_download(
                model,
                revision=revision,
                allow_patterns=_CONFIGURATION + weights,
                local_files_only=local_files_only,
            )
        )
        if _has_weights(folder):
            return folder
    raise LocalEntryNotFoundError("neither model.safetensors nor pytorch_model.bin is there")


def _has_weights(folder: Path) -> bool:
    """Whether every file of the weights is there: a download may have been cut off."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        files = {name}
        if index.is_file():
            files = set(json.loads(index.read_text())["weight_map"].values())
        if all((folder / file).is_file() for file in files):
            return True
    return False


def _why_not_fetched(model: str, revision: str | None, error: Exception) -> str:
    if isinstance(error, HFValidationError):
        return f"{model!r} is neither a folder nor a name on the hub. Set KINDRED_MODEL"
    if isinstance(error, GatedRepoError):
        return f"The hub gives {model} only to those it knows. Accept its terms, and set HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return f"The hub has no model {model}, or shows it to others only. Set KINDRED_MODEL"
    if isinstance(error, RevisionNotFoundError):
        return f"The hub has no revision {revision} of {model}. Set KINDRED_REVISION"
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is None:
        return f"{model} holds no weights that can be loaded: {error}"
    return (
        f"{model} is not on this machine, and the hub cannot be reached "
        f"({type(error.__cause__ or error).__name__}). "
        "Connect, or set KINDRED_MODEL to a folder that holds a model"
    )
