"""Finds or downloads a model's files, loads them, and refuses incomplete ones.

Transformers fills missing weights with random numbers and only logs it. Such a model embeds noise,
and nobody notices. Here it is an error that names the missing weights.
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
from pipeline.images.kinds import HEAD, kind_of

# We download a model's configuration and one set of weights. The weights for other frameworks and
# precisions are stored beside them and can be many times the size.
_CONFIGURATION = ["config.json", "preprocessor_config.json", "processor_config.json"]
_SAFETENSORS = ["model.safetensors", "model.safetensors.index.json", "model-*.safetensors"]
_PICKLED = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"]

# For a model that reads text we also download these; one of the vocabularies is enough.
_TOKENIZER_SETTINGS = "tokenizer_config.json"
_VOCABULARIES = (
    {"tokenizer.json"},
    {"vocab.json", "merges.txt"},
    {"spiece.model"},
    {"tokenizer.model"},
)
_TOKENIZER = ["special_tokens_map.json", "added_tokens.json", *set().union(*_VOCABULARIES)]

# The model types whose joint space we support. SigLIP 2 in its fixed sizes has type siglip; type
# siglip2 takes pictures of any shape, which the preprocessing refuses.
_JOINT = {"clip", "siglip"}

# No vector depends on these parts: ViT's pooler, and the parameters that turn the cosines of CLIP
# and SigLIP into probabilities.
_UNUSED = frozenset({"pooler", "logit_scale", "logit_bias"})


# Layers whose parameters every kind of model initialises alike.
_NORMS = (torch.nn.LayerNorm, torch.nn.GroupNorm, torch.nn.BatchNorm2d)


def silence_logging() -> None:
    """Silences the libraries' progress bars and reports; we raise what matters in them.

    This affects the whole process, because the libraries' settings do.
    """
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    disable_progress_bars()


def folder_of(model: str, revision: str | None) -> Path:
    """The folder of a model on this machine. `model` is a folder or a name on the hub.

    It downloads a model only if this machine does not have it. So a worker starts without the hub,
    and new commits on a branch do not change the encoder of a collection. (Transformers would ask
    the hub for each file separately, and without a network wait 23 s for each.)

    Raises EncoderError, which names the exact reason and what to do.
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
    """Downloads the tokenizer into a hub model's folder if it is not there yet.

    Raises EncoderError if the download fails or the model has no tokenizer.
    """
    if not (folder / _TOKENIZER_SETTINGS).is_file() and not Path(model).expanduser().is_dir():
        try:
            # A snapshot's folder has the name of its commit. The settings come last: if they are
            # there, the download was complete.
            for files in (_TOKENIZER, [_TOKENIZER_SETTINGS]):
                snapshot_download(model, revision=folder.name, allow_patterns=files)
        except Exception as error:
            raise EncoderError(
                f"The tokenizer of {model} is not on this machine, and cannot be downloaded "
                f"({type(error).__name__}). Connect, or set KINDRED_POOLING=mean "
                "to go on without search by text"
            ) from error
    there = {file.name for file in folder.iterdir()}
    if _TOKENIZER_SETTINGS not in there or not any(files <= there for files in _VOCABULARIES):
        raise EncoderError(
            f"{model} comes without a tokenizer, so it cannot read text. Put its tokenizer's files "
            "beside its weights, or set KINDRED_POOLING=mean to use only its vision tower"
        )


def configuration(folder: Path, name: str) -> PretrainedConfig:
    """The configuration of the model in a folder. Raises EncoderError, which calls it `name`."""
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise EncoderError(f"{name} cannot be loaded: {error}") from error
    return config


def has_joint_space(config: PretrainedConfig) -> bool:
    """Whether we can compare this model's vectors of images and texts."""
    return config.model_type in _JOINT


def vision(config: PretrainedConfig) -> PretrainedConfig:
    """The vision tower's configuration, if the model has two towers; otherwise the model's own."""
    tower: PretrainedConfig = getattr(config, "vision_config", None) or config
    return tower


def load(folder: Path, config: PretrainedConfig, name: str) -> torch.nn.Module:
    """Loads the model, or the tower, that `config` describes, with the weights in a folder.

    The model is in float32, on the CPU, in evaluation mode. Another tower's weights stay on disk.

    Raises EncoderError if loading fails or a weight that we use is missing. The message calls the
    model `name`.
    """
    try:
        model, report = AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # we refuse them below, by name
            trust_remote_code=False,  # without it, transformers prompts on the terminal
        )
    except Exception as error:  # OSError, ValueError, ImportError, RuntimeError, SafetensorError …
        raise EncoderError(_why_not_loaded(folder, name, error)) from error
    faults = {
        "missing": sorted(key for key in report["missing_keys"] if _is_used(key)),
        "with another shape": sorted(key for key, *_ in report["mismatched_keys"]),
    }
    if any(faults.values()):
        listed = "; ".join(f"{what}: {', '.join(keys)}" for what, keys in faults.items() if keys)
        raise EncoderError(f"The weights of {name} do not fit its configuration. {listed}")
    loaded: torch.nn.Module = model.requires_grad_(False)
    return loaded


def is_untrained(model: torch.nn.Module) -> bool:
    """Whether no training has touched the model: all its norms scale by 1 and shift by 0.

    Models begin so, and the first step of any training ends it. False does not say on what, or how
    well, the model was trained.
    """
    norms = [each for each in model.modules() if isinstance(each, _NORMS)]
    return bool(norms) and all(_is(each.weight, 1) and _is(each.bias, 0) for each in norms)


def _is(values: torch.Tensor | None, value: float) -> bool:
    return values is None or bool((values == value).all())


def _why_not_loaded(folder: Path, name: str, error: Exception) -> str:
    """A clone without Git LFS has small texts in place of its weights."""
    weights = (path for pattern in _SAFETENSORS + _PICKLED for path in folder.glob(pattern))
    pointers = sorted(path.name for path in weights if _is_pointer(path))
    if pointers:
        return (
            f"{', '.join(pointers)} of {name}: a Git LFS pointer, not the weights."
            f" Run git lfs pull in {folder}"
        )
    return f"{name} cannot be loaded: {error}"


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return kind_of(file.read(HEAD)).name == "lfs pointer"


def weights_sha256(model: torch.nn.Module) -> str:
    """The hex digest of all weights that we use.

    It hashes each tensor with its shape, as float32, and sorts the digests. The tensors' names do
    not matter: transformers 5 renamed those of ViT and may rename more.
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
    """Whether vectors depend on this weight. Transformers makes up any other that is missing."""
    return _UNUSED.isdisjoint(key.split("."))


def _snapshot(model: str, revision: str | None, *, local_files_only: bool) -> Path:
    """The complete folder of a hub model."""
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
    """Whether all files of the weights are there: a download may have been cut off."""
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
        return f"The hub requires a login for {model}. Accept its terms, and set HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return f"The hub has no model {model}, or you may not see it. Set KINDRED_MODEL"
    if isinstance(error, RevisionNotFoundError):
        return f"The hub has no revision {revision} of {model}. Set KINDRED_REVISION"
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is None:
        return f"{model} has no weights that can be loaded: {error}"
    return (
        f"{model} is not on this machine, and the hub cannot be reached "
        f"({type(error.__cause__ or error).__name__}). "
        "Connect, or set KINDRED_MODEL to a folder that holds a model"
    )
