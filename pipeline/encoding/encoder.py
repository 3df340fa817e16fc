"""A model as a function from images to vectors, and from texts too if it was trained on both.

    encoder = Encoder.load(options)
    vectors = encoder.embed(encoder.stack([encoder.preprocess(picture)]), bulk=False)
    query = encoder.embed_text(["a dark mole"])  # if encoder.reads_text

Many threads may call `embed` at once, and it takes no lock: threads only read a model in inference
mode, and the device divides itself among them.
"""

import contextlib
import copy
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np
import torch
from transformers import PretrainedConfig

from pipeline.base.errors import DeviceFull, EncoderError, InvalidQuery, TooLargeForDevice
from pipeline.base.settings import EncoderOptions
from pipeline.encoding import checkpoint
from pipeline.encoding.device import Sizing, cores, device_of, dtype_of, sizing_of
from pipeline.encoding.patches import patch_tokens
from pipeline.encoding.preprocessing import Preprocessing
from pipeline.encoding.products import speed_up
from pipeline.encoding.text import Tokenizer
from pipeline.images.picture import Picture
from pipeline.images.pixels import PixelSteps
from pipeline.messages import EncoderInfo

log = logging.getLogger("kindred.encoder")

# Models use these names for the parameter of a class token.
_CLASS_TOKENS = {"cls_token", "class_token", "class_embedding"}

# These texts differ in their words and in their lengths.
_TEXTS = ("a picture", "an ultrasound scan of a healthy heart")

# The least cosine between embeddings of one picture in different batches. bfloat16 keeps 0.9999; a
# model that drops patches at random, such as a masked autoencoder, does not.
_LEAST_AGREEMENT = 0.999


# How often we try a single image that does not fit into memory.
_TRIES = 3


class Encoder:
    """Made by `load`, and read-only afterwards."""

    def __init__(
        self,
        model: torch.nn.Module,
        preprocessing: Preprocessing,
        info: EncoderInfo,
        sizing: Sizing,
        tokenizer: Tokenizer | None = None,
        untrained: bool = False,
        processes: int = 1,
    ) -> None:
        """`model` is on its device, in its precision and in evaluation mode.

        So many `processes` share the cores of this machine.

        A model of images and text comes with a tokenizer.
        """
        parameter = next(model.parameters())
        self.info = info
        self.untrained = untrained
        self.sizing = sizing
        self.device: torch.device = parameter.device
        self.dtype: torch.dtype = parameter.dtype
        self._model: Any = model
        self._preprocessing = preprocessing
        self._tokenizer = tokenizer
        self._cores = cores(processes)
        self._streams = threading.local()
        # Every thread that computes on several cores has its own team of OpenMP threads, and teams
        # get in each other's way. So on a CPU one thread computes all searches.
        self._searcher = ThreadPoolExecutor(1, "search")

    @classmethod
    def load(
        cls,
        options: EncoderOptions,
        adapt: Callable[[Preprocessing], Preprocessing] = lambda own: own,
    ) -> Self:
        """Loads the model that the options name, on its device. `adapt` changes its preprocessing.

        Raises EncoderError if the model cannot be found or downloaded, if weights are missing or
        have the wrong shape, if the model does not turn images into tokens, or if it lacks what the
        pooling needs.
        """
        device = device_of(options.device)
        dtype = dtype_of(options.dtype, device)
        checkpoint.silence_logging()
        folder = checkpoint.folder_of(options.model, options.revision)
        preprocessing = adapt(Preprocessing.load(folder))
        preprocessing = preprocessing.by(preprocessing.resizers[0])
        config = checkpoint.configuration(folder, options.model)
        pooling = _pooling_of(options, config)
        tokenizer = None
        if pooling == "projection":
            checkpoint.add_tokenizer(folder, options.model)
            tokenizer = Tokenizer.load(folder, config, options.model)
        else:
            config = checkpoint.vision(config)
        model = checkpoint.load(folder, config, options.model)
        _check_class_token(model, pooling, options.model)
        # Hash the stored weights, before the cast: workers of different precision share a
        # collection.
        weights = checkpoint.weights_sha256(model)
        untrained = checkpoint.is_untrained(model)
        model.to(device=device, dtype=dtype)
        speed_up(model)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # other threads' streams would not wait for the copy
        info = EncoderInfo(
            model=options.model,
            revision=options.revision,
            weights_sha256=weights,
            pooling=pooling,
            preprocessing=preprocessing.spec,
            dimensions=_dimensions(model, preprocessing, pooling, options.model),
        )
        encoder = cls(
            model,
            preprocessing,
            info,
            sizing_of(options, device),
            tokenizer,
            untrained,
            options.processes,
        )
        log.info(
            "encoder loaded",
            extra={
                "action": "encoder_loaded",
                "device": str(device),
                "dtype": str(dtype),
                "untrained": untrained,
            },
        )
        return encoder

    @property
    def weights_bytes(self) -> int:
        """Of all weights, in the precision in which they are on the device."""
        return sum(each.numel() * each.element_size() for each in self._model.parameters())

    def close(self) -> None:
        """Ends its thread, so that nothing holds the model any more."""
        self._searcher.shutdown()

    @property
    def steps(self) -> PixelSteps:
        """What `preprocess` does, for a decoder to do."""
        return self._preprocessing.steps

    def ways(self) -> "list[Encoder]":
        """This encoder, and those of the same model that make pixels as earlier versions did."""
        here = self._preprocessing
        return [self, *(self._by(here.by(who)) for who in here.resizers if who != here.resizer)]

    def _by(self, preprocessing: Preprocessing) -> "Encoder":
        """Shares the model."""
        other = copy.copy(self)
        other._preprocessing = preprocessing
        other.info = self.info.model_copy(update={"preprocessing": preprocessing.spec})
        return other

    def preprocess(self, picture: Picture) -> np.ndarray:
        """The pixels that the model sees of a picture, uint8 (3, H, W)."""
        return self._preprocessing.pixels_of(picture)

    def stack(self, images: Sequence[np.ndarray | torch.Tensor]) -> np.ndarray | torch.Tensor:
        """Stacks pixels of pictures, uint8 (3, H, W) each, to one batch for `embed` (n, 3, H, W).

        If some are on the card already, all are brought there, on the calling thread's stream for
        bulk work: the same thread embeds them.

        For a GPU the batch is in page-locked memory: the GPU copies from there at full speed while
        its kernels run. Torch keeps such memory and reuses it, so little of it is locked anew.
        """
        if any(isinstance(image, torch.Tensor) for image in images):
            with torch.inference_mode(), self._stream(bulk=True):
                return torch.stack([self._there(image) for image in images])
        arrays = [np.asarray(image) for image in images]
        if self.device.type != "cuda":
            return np.stack(arrays)
        shape = (len(arrays), *arrays[0].shape)
        locked: np.ndarray = torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
        return np.stack(arrays, out=locked)

    def _there(self, image: np.ndarray | torch.Tensor) -> torch.Tensor:
        if not isinstance(image, torch.Tensor):
            image = torch.from_numpy(np.require(image, np.uint8, ["C", "W"]))
        return image if image.device == self.device else image.to(self.device)

    def embed(self, pixels: np.ndarray | torch.Tensor, *, bulk: bool) -> np.ndarray:
        """Embeds uint8 (n, 3, H, W) as float32 (n, dimensions), in the model's own scale.

        Bulk work uses its lane's share of the cores, which is one unless there are fewer lanes than
        cores; a search uses all of them. A batch that does not fit into the device's memory is
        halved. Raises TooLargeForDevice if a single image repeatedly does not fit, and DeviceFull
        if no image of that shape would.
        """
        if len(pixels) == 0:
            return np.empty((0, self.info.dimensions), dtype=np.float32)
        if bulk or self.device.type == "cuda":
            return self._embed_here(pixels, bulk=bulk)
        return self._searcher.submit(self._embed_here, pixels, bulk=False).result()

    def _embed_here(self, pixels: np.ndarray | torch.Tensor, *, bulk: bool) -> np.ndarray:
        """Does what `embed` does, in the calling thread."""
        self._set_threads(bulk)
        if not isinstance(pixels, torch.Tensor):
            pixels = torch.from_numpy(np.require(pixels, np.uint8, ["C", "W"]))
        with torch.inference_mode(), self._stream(bulk):
            batches = torch.split(pixels, self.sizing.batch_size)
            vectors = torch.cat([self._embed_halving(batch) for batch in batches])
        result: np.ndarray = vectors.numpy()
        return result

    @property
    def reads_text(self) -> bool:
        """Whether the model embeds texts into the same space as images."""
        return self._tokenizer is not None

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds texts as float32 (n, dimensions), in the model's own scale.

        Compare them with images by cosine. The model reads only the first few dozen words of a
        text, usually 64 or 77 tokens. Texts use the same threads as searches.

        Raises InvalidQuery if the model reads only images.
        """
        if self._tokenizer is None:
            raise InvalidQuery(
                f"The encoder {self.info.model} reads images only; it cannot search by text.",
                ("text",),
            )
        if len(texts) == 0:
            return np.empty((0, self.info.dimensions), dtype=np.float32)
        if self.device.type == "cuda":
            return self._embed_text_here(self._tokenizer, texts)
        return self._searcher.submit(self._embed_text_here, self._tokenizer, texts).result()

    def _embed_text_here(self, tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
        """Does what `embed_text` does, in the calling thread."""
        self._set_threads(bulk=False)
        size, vectors = self.sizing.batch_size, []
        with torch.inference_mode(), self._stream(bulk=False):
            for start in range(0, len(texts), size):
                tokens = tokenizer(texts[start : start + size])
                on_device = {name: values.to(self.device) for name, values in tokens.items()}
                vectors.append(self._model.get_text_features(**on_device).pooler_output)
            result: np.ndarray = torch.cat(vectors).float().cpu().numpy()
        return result

    def patches(self, pixels: np.ndarray) -> np.ndarray:
        """The patch tokens of uint8 (n, 3, H, W), one batch: float32 (n, rows, columns, d).

        It computes as a search does. Raises Conflict if the model has no patch tokens, and
        DeviceFull.
        """
        if self.device.type == "cuda":
            return self._patches_here(pixels)
        return self._searcher.submit(self._patches_here, pixels).result()

    def _patches_here(self, pixels: np.ndarray) -> np.ndarray:
        """Does what `patches` does, in the calling thread."""
        self._set_threads(bulk=False)
        try:
            with torch.inference_mode(), self._stream(bulk=False):
                values = self._values(torch.from_numpy(np.require(pixels, np.uint8, ["C", "W"])))
                tokens = patch_tokens(self._model, values, self.info.pooling)
                result: np.ndarray = tokens.cpu().numpy()
        except torch.OutOfMemoryError:
            raise DeviceFull(f"{self.device} has no memory for these pictures.") from None
        return result

    def warm_up(self) -> None:
        """Embeds a test picture in each batch shape in use, and texts if the model reads them.

        Raises EncoderError if a vector is not finite, if a picture's vector depends on the rest of
        its batch, or if different texts have the same vector.
        """
        height, width = self._preprocessing.size
        noise = np.random.default_rng(0).integers(0, 256, (1, 3, height, width), dtype=np.uint8)
        alone = self.embed(noise, bulk=False)
        # A GPU's first batch of a size takes long. On a CPU a small batch shows the same, sooner.
        size = self.sizing.batch_size if self.device.type == "cuda" else 2
        batch = self.embed(noise.repeat(size, axis=0), bulk=True)
        texts = self.embed_text(_TEXTS) if self.reads_text else np.empty_like(alone[:0])
        if not all(np.isfinite(vectors).all() for vectors in (alone, batch, texts)):
            raise EncoderError(
                f"{self.info.model} does not give finite numbers on {self.device} in {self.dtype}: "
                "set KINDRED_DTYPE=float32"
            )
        vectors = np.concatenate((alone, batch)).astype(np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        if not float((vectors @ vectors[0]).min()) >= _LEAST_AGREEMENT:  # NaN does not agree
            raise EncoderError(f"{self.info.model} gives one picture different vectors: not usable")
        if self.reads_text and np.array_equal(*texts):
            raise EncoderError(
                f"{self.info.model} gives different texts one vector: its tokenizer does not fit"
            )

    def _embed_halving(self, batch: torch.Tensor) -> torch.Tensor:
        """Embeds a batch, or its halves if it does not fit."""
        if len(batch) == 1:
            return self._embed_one(batch)
        with contextlib.suppress(torch.OutOfMemoryError):
            return self._embed(batch)
        # Here the traceback is gone, and with it the tensors that did not fit.
        log.warning("batch halved", extra={"action": "batch_halved", "images": len(batch)})
        return torch.cat([self._embed_halving(half) for half in batch.tensor_split(2)])

    def _embed_one(self, image: torch.Tensor) -> torch.Tensor:
        """Embeds a single image. A black image of its shape needs as much memory: if that does not
        fit either, another process uses the memory, and the image is not to blame."""
        for _ in range(_TRIES):
            with contextlib.suppress(torch.OutOfMemoryError):
                return self._embed(image)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            try:
                self._embed(torch.zeros_like(image))
            except torch.OutOfMemoryError:
                raise DeviceFull(f"{self.device} has no memory for a single image.") from None
        raise TooLargeForDevice(f"The image needs more memory than {self.device} has.")

    def _embed(self, batch: torch.Tensor) -> torch.Tensor:
        """Embeds uint8 (n, 3, H, W), wherever it is, as float32 (n, d) in the CPU's memory."""
        return vectors_of(self._model, self._values(batch), self.info.pooling).cpu()

    def _values(self, batch: torch.Tensor) -> torch.Tensor:
        """What the model takes of uint8 (n, 3, H, W), on its device."""
        if self.device.type == "cuda" and not batch.is_cuda:
            locked = batch if batch.is_pinned() else batch.pin_memory()
            batch = locked.to(self.device, non_blocking=True)
        return self._preprocessing.normalize(batch).to(self.dtype)

    def _set_threads(self, bulk: bool) -> None:
        """Sets how many threads torch uses for the calling thread.

        Each thread has its own number, but it must read the number before it sets one: at a
        thread's first read, torch gives it the number that any thread set last.
        """
        wanted = max(1, self._cores // self.sizing.lanes) if bulk else self._cores
        if torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)

    def _stream(self, bulk: bool) -> contextlib.AbstractContextManager[Any]:
        """The calling thread's own stream on a GPU: its copies run beside other threads' kernels.

        Searches go first: the GPU schedules their kernels before the queued kernels of bulk work.
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


def vectors_of(model: Any, values: torch.Tensor, pooling: str) -> torch.Tensor:
    """Embeds normalised pixels (n, 3, H, W) as float32 (n, d), both on the model's device.

    `projection` is the space where CLIP and SigLIP learnt to put an image beside its caption.
    """
    if pooling == "projection":
        features: torch.Tensor = model.get_image_features(pixel_values=values).pooler_output
        return features.float()
    return pool(model(pixel_values=values).last_hidden_state, pooling)


def pool(tokens: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pools tokens (n, tokens, d) of any precision to float32 (n, d), by `mean` or `cls`.

    `mean` includes all tokens, also the class token, as the reference notebook does
    (`last_hidden_state.mean(dim=1)`).
    """
    if tokens.ndim != 3:
        raise ValueError(f"it gives {tokens.ndim} axes")
    if pooling == "mean":
        return tokens.mean(dim=1, dtype=torch.float32)
    return tokens[:, 0].float()


# --- requirements on a loaded model -----------------------------------------------------------


def _pooling_of(options: EncoderOptions, config: PretrainedConfig) -> str:
    """The pooling, with `auto` resolved."""
    joint = checkpoint.has_joint_space(config)
    if options.pooling == "auto":
        return "projection" if joint else "mean"
    if options.pooling == "projection" and not joint:
        raise EncoderError(
            f"{options.model} has no joint space of images and text, as CLIP and SigLIP have: "
            "set KINDRED_POOLING=mean"
        )
    return options.pooling


def _check_class_token(model: torch.nn.Module, pooling: str, name: str) -> None:
    names = {name.rpartition(".")[2] for name, _ in model.named_parameters()}
    if pooling == "cls" and not names & _CLASS_TOKENS:
        raise EncoderError(f"{name} has no class token: set KINDRED_POOLING=mean")


def _dimensions(
    model: torch.nn.Module, preprocessing: Preprocessing, pooling: str, name: str
) -> int:
    """The length of a vector, found by a forward pass: configurations state it in many ways."""
    weight = next(model.parameters())
    black = torch.zeros((1, 3, *preprocessing.size), dtype=weight.dtype, device=weight.device)
    try:
        with torch.inference_mode():
            return int(vectors_of(model, black, pooling).shape[1])
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise EncoderError(f"{name} does not turn images into vectors: {error}") from error
