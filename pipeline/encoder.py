"""A vision transformer as a function from images to vectors.

    encoder = Encoder.load(settings)
    vectors = encoder.embed(np.stack([encoder.preprocess(picture)]), bulk=False)

`embed` may be called from many threads at once and takes no lock: a model in inference mode is only
read, and the device shares itself out.
"""

import contextlib
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from pipeline import checkpoint
from pipeline.errors import EncoderError
from pipeline.images import Picture
from pipeline.messages import EncoderInfo
from pipeline.preprocessing import Preprocessing
from pipeline.settings import Settings

log = logging.getLogger("kindred.encoder")

# Instructions in which a CPU computes bfloat16. Without them it is emulated, slower than float32.
_BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")

# Names that models give to the parameter of a class token.
_CLASS_TOKENS = {"cls_token", "class_token", "class_embedding"}

# Least cosine between embeddings of one picture in different batches. bfloat16 keeps 0.9999; a
# model that drops patches at random, as masked autoencoders do, does not.
_LEAST_AGREEMENT = 0.999


# At the end of a job a lane is idle for half a shard on average: an eighth of what it did.
SHARDS_A_LANE = 4


@dataclass(frozen=True)
class Plan:
    """How a worker spreads bulk work over this device."""

    batch_size: int  # images a forward pass
    lanes: int  # threads that embed shards at once
    shard_size: int  # rows a shard, at most

    def shard_size_for(self, total: int) -> int:
        """Rows a shard of a job of `total` rows: whole batches, and some shards for every lane.

        Else a small job would run in one lane, and any job's last shards would leave lanes idle.
        """
        fair = -(-total // (SHARDS_A_LANE * self.lanes))
        batches = -(-fair // self.batch_size)
        return min(self.shard_size, max(1, batches) * self.batch_size)


class Encoder:
    """Made by `load`, then only read."""

    def __init__(
        self,
        model: torch.nn.Module,
        preprocessing: Preprocessing,
        info: EncoderInfo,
        plan: Plan,
    ) -> None:
        """`model` is on its device, in its precision and in evaluation mode."""
        parameter = next(model.parameters())
        self.info = info
        self.plan = plan
        self.device: torch.device = parameter.device
        self.dtype: torch.dtype = parameter.dtype
        self._model = model
        self._preprocessing = preprocessing
        self._cores = _cores()
        self._streams = threading.local()
        # Every thread that computes on several cores has a team of OpenMP threads of its own, and
        # the teams get in each other's way: on a CPU all searches are computed in one thread.
        self._searcher = ThreadPoolExecutor(1, "search")

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """The model that `settings` names, on its device.

        Raises EncoderError if it cannot be found or reached, if weights are missing or of the wrong
        shape, or if it is no model that turns images into tokens.
        """
        device = _device(settings)
        dtype = _dtype(settings, device)
        checkpoint.hush()
        folder = checkpoint.folder_of(settings.model, settings.revision)
        preprocessing = Preprocessing.load(folder)
        model = checkpoint.load(folder, settings.model)
        _check_pooling(model, settings)
        # Hashed as stored, before the cast: workers of different precision share a collection.
        weights = checkpoint.weights_sha256(model)
        model.to(device=device, dtype=dtype)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # streams of other threads do not wait for the copy
        info = EncoderInfo(
            model=settings.model,
            revision=settings.revision,
            weights_sha256=weights,
            pooling=settings.pooling,
            preprocessing=preprocessing.spec,
            dimensions=_dimensions(model, preprocessing, settings.model),
        )
        encoder = cls(model, preprocessing, info, _plan(settings, device))
        log.info(
            "encoder loaded",
            extra={"action": "encoder_loaded", "device": str(device), "dtype": str(dtype)},
        )
        return encoder

    def preprocess(self, picture: Picture) -> np.ndarray:
        """uint8 (3, H, W): what the model sees of a picture."""
        return self._preprocessing.pixels(picture.image)

    def embed(self, pixels: np.ndarray, *, bulk: bool) -> np.ndarray:
        """uint8 (n, 3, H, W) to float32 (n, dimensions), in the model's own scale.

        Bulk work computes on its lane's share of the cores, which is one unless there are fewer
        lanes than cores; a search computes on all of them. A batch that the device has no memory
        for is halved; if one image alone is too much, torch.OutOfMemoryError is raised.
        """
        if len(pixels) == 0:
            return np.empty((0, self.info.dimensions), dtype=np.float32)
        if bulk or self.device.type == "cuda":
            return self._embed_here(pixels, bulk=bulk)
        return self._searcher.submit(self._embed_here, pixels, bulk=False).result()

    def _embed_here(self, pixels: np.ndarray, *, bulk: bool) -> np.ndarray:
        """As `embed`, in the calling thread."""
        self._take_threads(bulk)
        writable = torch.from_numpy(np.require(pixels, np.uint8, ["C", "W"]))
        with torch.inference_mode(), self._stream(bulk):
            batches = torch.split(writable, self.plan.batch_size)
            vectors = torch.cat([self._embed_halving(batch) for batch in batches])
        result: np.ndarray = vectors.numpy()
        return result

    def warm_up(self) -> None:
        """Embeds a test picture in each shape that will be used, and looks at the result.

        Raises EncoderError if it is not finite, or depends on what else is in the batch.
        """
        height, width = self._preprocessing.size
        noise = np.random.default_rng(0).integers(0, 256, (1, 3, height, width), dtype=np.uint8)
        alone = self.embed(noise, bulk=False)
        batch = self.embed(noise.repeat(self.plan.batch_size, axis=0), bulk=True)
        vectors = np.concatenate((alone, batch)).astype(np.float64)
        if not np.isfinite(vectors).all():
            raise EncoderError(
                f"{self.info.model} does not give finite numbers on {self.device} in {self.dtype}: "
                "set KINDRED_DTYPE=float32"
            )
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        if not float((vectors @ vectors[0]).min()) >= _LEAST_AGREEMENT:  # a NaN is no agreement
            raise EncoderError(f"{self.info.model} gives one picture different vectors: not usable")

    def _embed_halving(self, batch: torch.Tensor) -> torch.Tensor:
        """As `_embed`, in halves if it does not fit."""
        try:
            return self._embed(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        # Out here the traceback, and with it the tensors that did not fit, is gone.
        log.warning("batch halved", extra={"action": "batch_halved", "images": len(batch)})
        return torch.cat([self._embed_halving(half) for half in batch.tensor_split(2)])

    def _embed(self, batch: torch.Tensor) -> torch.Tensor:
        """uint8 (n, 3, H, W) to float32 (n, dimensions), both in the CPU's memory."""
        if self.device.type == "cuda":
            batch = batch.pin_memory().to(self.device, non_blocking=True)
        values = self._preprocessing.normalize(batch).to(self.dtype)
        tokens = self._model(pixel_values=values).last_hidden_state
        return pool(tokens, self.info.pooling).cpu()

    def _take_threads(self, bulk: bool) -> None:
        """Set how many threads torch computes on in this one.

        The number is each thread's own, but must be asked for before it is set: at a thread's first
        question torch gives it the number that was set last anywhere.
        """
        wanted = max(1, self._cores // self.plan.lanes) if bulk else self._cores
        if torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)

    def _stream(self, bulk: bool) -> contextlib.AbstractContextManager[Any]:
        """On a GPU, each thread's own stream, so that one's copies run beside another's kernels.

        Searches go first: their kernels are scheduled before those that bulk work has queued.
        """
        if self.device.type != "cuda":
            return contextlib.nullcontext()
        name = "bulk" if bulk else "search"
        stream = getattr(self._streams, name, None)
        if stream is None:
            stream = torch.cuda.Stream(  # type: ignore[no-untyped-call]
                self.device, priority=0 if bulk else -1
            )
            setattr(self._streams, name, stream)
        return torch.cuda.stream(stream)


def pool(tokens: torch.Tensor, pooling: str) -> torch.Tensor:
    """(n, tokens, d) of any precision to float32 (n, d).

    `mean` is over all tokens, the class token among them, as in the notebook that this system
    started from (`last_hidden_state.mean(dim=1)`).
    """
    if pooling == "mean":
        return tokens.mean(dim=1, dtype=torch.float32)
    return tokens[:, 0].float()


# --- what a loaded model must be able to do ---------------------------------------------------


def _check_pooling(model: torch.nn.Module, settings: Settings) -> None:
    names = {name.rpartition(".")[2] for name, _ in model.named_parameters()}
    if settings.pooling == "cls" and not names & _CLASS_TOKENS:
        raise EncoderError(f"{settings.model} has no class token: set KINDRED_POOLING=mean")


def _dimensions(model: torch.nn.Module, preprocessing: Preprocessing, name: str) -> int:
    """Length of a token, from a forward pass, since configurations tell it in many ways."""
    weight = next(model.parameters())
    black = torch.zeros((1, 3, *preprocessing.size), dtype=weight.dtype, device=weight.device)
    try:
        with torch.inference_mode():
            tokens = model(pixel_values=black).last_hidden_state
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise EncoderError(f"{name} does not turn images into tokens: {error}") from error
    if tokens.ndim != 3:
        raise EncoderError(f"{name} does not turn images into tokens: it gives {tokens.ndim} axes")
    return int(tokens.shape[2])


# --- what `auto` means on this machine -----------------------------------------------------------


def _device(settings: Settings) -> torch.device:
    if settings.device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if settings.device == "cuda":
        raise EncoderError("KINDRED_DEVICE=cuda, but torch sees no GPU here: set it to cpu or auto")
    return torch.device("cpu")


def _dtype(settings: Settings, device: torch.device) -> torch.dtype:
    if settings.dtype == "auto":
        return torch.bfloat16 if _computes_bfloat16(device) else torch.float32
    return torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return any(able.get(instructions, False) for instructions in _BF16_INSTRUCTIONS)


def _plan(settings: Settings, device: torch.device) -> Plan:
    gpu = device.type == "cuda"

    def resolved(value: int | str, on_cpu: int, on_gpu: int) -> int:
        return value if isinstance(value, int) else on_gpu if gpu else on_cpu

    return Plan(
        batch_size=resolved(settings.batch_size, 8, 256),
        lanes=resolved(settings.lanes, _cores(), 2),
        shard_size=resolved(settings.shard_size, 64, 1024),
    )


def _cores() -> int:
    """Cores that this process may run on; a container may have been given fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
