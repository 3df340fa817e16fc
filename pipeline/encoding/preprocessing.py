"""Makes the same pixels as a model's own image processor, at a lower cost.

`AutoImageProcessor` of transformers goes PIL → NumPy → PIL → NumPy and computes in float64 on the
CPU. Here the image stays uint8 (`pipeline/images/pixels.py`), and the model's device rescales and
normalises. Where Pillow resizes, the result is the same, to the bit on a CPU, and loading checks
that. Torch resizes at an eighth of the cost; of a thousand values in eight bits, three differ by 1.

It follows transformers 5.23, `image_processing_backends.PilBackend`. Wherever we load a processor,
we name the Pillow backend: with torchvision installed, transformers would choose torchvision's, and
its pixels differ.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from PIL.Image import Resampling
from transformers import AutoImageProcessor
from transformers.image_processing_backends import PilBackend

from pipeline.base.errors import EncoderError
from pipeline.images.picture import Picture
from pipeline.images.pixels import PixelSteps
from pipeline.images.resizing import Resizer

# A processor that overrides one of these methods cannot be reproduced.
_ARITHMETIC = (
    "preprocess",
    "process_image",
    "convert_to_rgb",
    "resize",
    "center_crop",
    "rescale",
    "normalize",
    "_preprocess",
    "_preprocess_image_like_inputs",
    "_prepare_image_like_inputs",
)

# The largest difference to the processor's own values, which are about -3 to 3.
_TOLERANCE = 1e-6

# By how much torch's eight bits may differ from Pillow's, and what part of them may.
_TORCH_TOLERANCE, _TORCH_SHARE = 2, 0.02

# Height and width, of pictures that most models see smaller, with both sides so.
_TORCH_SIZES = ((450, 600), (600, 450))

Three = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing(PixelSteps):
    """The processor's steps: resize, crop, rescale, normalise. None means it skips the step."""

    scale: float | None
    mean: Three | None
    std: Three | None

    @classmethod
    def load(cls, model: str | Path, revision: str | None = None) -> Self:
        """Reads the processor's configuration, from a folder or from the hub.

        Raises EncoderError if there is none, or if the processor cannot be reproduced.
        """
        try:
            processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
                model, revision=revision, backend="pil", trust_remote_code=False
            )
        except Exception as error:  # transformers raises OSError, ValueError, ImportError, KeyError
            raise EncoderError(f"{model}: its image processor cannot be loaded: {error}") from error
        return cls.reproducing(processor)

    @classmethod
    def reproducing(cls, processor: object) -> Self:
        """Reproduces `processor`. Raises EncoderError, which names what is unsupported."""
        if unsupported := _unsupported(processor):
            raise EncoderError(
                f"{type(processor).__name__} cannot be reproduced: {unsupported}. "
                "Choose a model whose processor only resizes, crops, rescales and normalises"
            )
        it: Any = processor
        made = cls(
            resize=_resize(it) if it.do_resize else None,
            resample=Resampling(it.resample if it.resample is not None else Resampling.BILINEAR),
            crop=(it.crop_size.height, it.crop_size.width) if it.do_center_crop else None,
            scale=float(it.rescale_factor) if it.do_rescale else None,
            mean=_three(it.image_mean) if it.do_normalize else None,
            std=_three(it.image_std) if it.do_normalize else None,
        )
        made._compare(it)
        return made

    @property
    def steps(self) -> PixelSteps:
        """What decoders do: the steps on pixels in eight bits."""
        return PixelSteps(self.resize, self.resample, self.crop, resizer=self.resizer)

    @property
    def resizers(self) -> tuple[Resizer, ...]:
        """Who can do the steps, the fastest first. All but Pillow are compared with Pillow."""
        return ("torch", "pillow") if self.torch_can and self._torch_agrees() else ("pillow",)

    def by(self, resizer: Resizer) -> Self:
        return replace(self, resizer=resizer)

    @property
    def spec(self) -> str:
        """All steps in one line. Equal specs make the same pixels.

        Pillow is not named: earlier versions had no other, and their collections are still theirs.
        """
        return " ".join(
            (
                f"resize={_words(self.resize)}",
                f"resample={self.resample.name.lower()}",
                f"crop={_words(self.crop)}",
                f"scale={self.scale!r}",
                f"mean={self.mean!r}".replace(" ", ""),
                f"std={self.std!r}".replace(" ", ""),
                *(() if self.resizer == "pillow" else (f"resizer={self.resizer}",)),
            )
        )

    def normalize(self, batch: torch.Tensor) -> torch.Tensor:
        """Normalises uint8 (n, 3, H, W) to float32 of the same shape, on the batch's device.

        The order and the precision of each step are the processor's: it scales in float64 and
        rounds to float32 before it subtracts and divides.
        """
        if self.scale is None:
            values = batch.to(torch.float32)
        else:
            values = batch.to(torch.float64).mul_(self.scale).to(torch.float32)
        if self.mean is not None and self.std is not None:
            values.sub_(_per_channel(self.mean, batch.device))
            values.div_(_per_channel(self.std, batch.device))
        return values

    def stretched(self) -> Self:
        """The whole picture in the model's size, whatever its aspect."""
        return replace(self, resize=self.size, crop=None)

    def cropped(self) -> Self:
        """The middle of the picture, as large as fits, in its own aspect."""
        return replace(self, resize=min(self.size), crop=self.size)

    def _compare(self, processor: Any) -> None:
        """Refuses a processor that computes other values than we do, for whatever reason."""
        for image in _noise((97, 61), (240, 320)):
            theirs = processor(images=image, return_tensors="np")["pixel_values"][0]
            ours = self.normalize(torch.from_numpy(self.pixels(image)[None]))[0].numpy()
            if theirs.shape != ours.shape or float(abs(theirs - ours).max()) > _TOLERANCE:
                raise EncoderError(
                    f"{type(processor).__name__} cannot be reproduced: "
                    "the installed transformers computes other pixels than Kindred"
                )

    def _torch_agrees(self) -> bool:
        """Another build of torch could compute by other means."""
        ours = self.by("torch")
        for image in _noise(*_TORCH_SIZES):
            apart = abs(ours.pixels_of(Picture(image)).astype(int) - self.pixels(image))
            if apart.max() > _TORCH_TOLERANCE or (apart > 0).mean() > _TORCH_SHARE:
                return False
        return True


def _noise(*sizes: tuple[int, int]) -> list[Image.Image]:
    """Pictures that show every difference."""
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in sizes]


def _unsupported(processor: object) -> str | None:
    """Why a processor cannot be reproduced, in words; None if it can."""
    if not isinstance(processor, PilBackend):
        return "it has no Pillow backend in transformers"
    overridden = [
        n for n in _ARITHMETIC if getattr(type(processor), n) is not getattr(PilBackend, n)
    ]
    if overridden:
        return f"it has its own {', '.join(overridden)}"
    it: Any = processor
    if it.do_pad:
        return "it pads (do_pad)"
    if it.do_resize and _resize(it) is None:
        return f"it resizes to {dict(it.size)}"
    if it.do_normalize and not (_three(it.image_mean) and _three(it.image_std)):
        return "it normalises by something other than three channels"
    if not it.do_center_crop and not (it.do_resize and isinstance(_resize(it), tuple)):
        return "its images come in different sizes"
    return None


def _resize(processor: Any) -> tuple[int, int] | int | None:
    """The size that a processor resizes to, or None if we cannot reproduce its kind."""
    given = {name: value for name, value in dict(processor.size).items() if value is not None}
    if given.keys() == {"height", "width"}:
        return int(given["height"]), int(given["width"])
    if given.keys() == {"shortest_edge"}:
        return int(given["shortest_edge"])
    return None


def _three(values: Any) -> Three | None:
    """Three numbers, from one for all channels or one for each; None for anything else."""
    if isinstance(values, int | float):
        return float(values), float(values), float(values)
    if isinstance(values, list | tuple) and len(values) == 3:
        return float(values[0]), float(values[1]), float(values[2])
    return None


def _words(size: tuple[int, int] | int | None) -> str:
    """A size in words: 224x224 (height by width), shortest=224 or None."""
    if isinstance(size, tuple):
        return f"{size[0]}x{size[1]}"
    return f"shortest={size}" if size else "None"


@lru_cache(maxsize=16)
def _per_channel(values: Three, device: torch.device) -> torch.Tensor:
    """float32 (3, 1, 1), cached on the device: each batch would wait for a new copy."""
    return torch.tensor(values, dtype=torch.float32, device=device).view(3, 1, 1)
