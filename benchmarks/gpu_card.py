"""Measures a path that Kindred does not have: decoding and resizing on the card.

It uses the decoders that are installed: nvJPEG through torchvision, or nvImageCodec. Torch resizes
here, and rounds differently from Pillow, so vectors and neighbours are compared.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from benchmarks.fidelity import compare
from benchmarks.gpu_setup import Bench, Measured, one, tried
from benchmarks.machine import cores
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder, vectors_of
from pipeline.images.decoding import Picture, decode

# Decodes JPEG files of one size to uint8 (n, 3, H, W) on the device.
Decoder = Callable[[Sequence[bytes]], torch.Tensor]

_MODES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def on_card(bench: Bench) -> Iterator[Measured]:
    """Measures each decoder alone, then with resize and forward pass, and compares the vectors."""
    device = "cpu" if bench.cpu else "cuda"
    encoder = Encoder.load(
        Settings(model=str(bench.model), data=bench.folder, device=device).encoder
    )
    files = bench.photographs()
    expected = _by_kindred(encoder, files)
    batch = files if bench.cpu else [*itertools.islice(itertools.cycle(files), 512)]
    with ThreadPoolExecutor(cores(), "decode") as pool, torch.inference_mode():
        for name, make in (
            ("Pillow, only resized on the card", lambda: _pillow(bench, pool)),
            ("torchvision's nvJPEG", lambda: _torchvision(bench)),
            ("nvImageCodec", lambda: _nvimgcodec(bench)),
        ):
            try:
                decoder = make()
                vectors = _embed(encoder, decoder, files)
            except Exception as error:  # noqa: BLE001 - not installed, or unfit for this card
                yield tried(name, "images/s", lambda e=error: _again(e))
                continue
            yield from _compared(name, vectors, expected)
            yield tried(
                f"{name}: decode alone", "images/s",
                lambda d=decoder: bench.rate(lambda: d(batch), len(batch)),
            )  # fmt: skip
            yield tried(
                f"{name}: bytes to vectors, one thread", "images/s",
                lambda d=decoder: bench.rate(lambda: _embed(encoder, d, batch), len(batch)),
            )  # fmt: skip


def _compared(name: str, vectors: np.ndarray, expected: np.ndarray) -> Iterator[Measured]:
    found = compare(vectors, expected)
    note = f"lowest cosine {found.lowest_cosine:.6f}, {found.images} images"
    what = f"{name}: the same {found.neighbours} neighbours"
    yield one(what, 100 * found.overlap, "%", note)


def _again(error: Exception) -> float:
    raise error


def _by_kindred(encoder: Encoder, files: Sequence[bytes]) -> np.ndarray:
    pictures = [decode(data, 10**8) for data in files]
    pixels = [encoder.preprocess(p) for p in pictures if isinstance(p, Picture)]
    return encoder.embed(encoder.stack(pixels), bulk=True)


def _embed(encoder: Encoder, decoder: Decoder, files: Sequence[bytes]) -> np.ndarray:
    """Decodes, resizes to the model's input, normalises and embeds on the device."""
    preprocessing = encoder._preprocessing
    parts = []
    for start in range(0, len(files), encoder.sizing.batch_size):
        shown = decoder(files[start : start + encoder.sizing.batch_size]).to(torch.float32)
        resized = torch.nn.functional.interpolate(
            shown,
            size=preprocessing.size,
            mode=_MODES[int(preprocessing.resample)],
            antialias=True,
            align_corners=False,
        )
        pixels = resized.round_().clamp_(0, 255).to(torch.uint8)
        values = preprocessing.normalize(pixels).to(encoder.dtype)
        parts.append(vectors_of(encoder._model, values, encoder.info.pooling))
    return torch.cat(parts).cpu().numpy()


def _pillow(bench: Bench, pool: ThreadPoolExecutor) -> Decoder:
    def decoded(data: bytes) -> torch.Tensor:
        picture = decode(data, 10**8)
        assert isinstance(picture, Picture)
        return torch.from_numpy(np.array(picture.image))

    def work(files: Sequence[bytes]) -> torch.Tensor:
        batch = torch.stack([*pool.map(decoded, files)])
        return batch.to(bench.device).permute(0, 3, 1, 2)

    return work


def _torchvision(bench: Bench) -> Decoder:
    from torchvision.io import ImageReadMode, decode_jpeg

    def work(files: Sequence[bytes]) -> torch.Tensor:
        tensors = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
        return torch.stack(decode_jpeg(tensors, mode=ImageReadMode.RGB, device=bench.device))

    if bench.cpu:
        raise RuntimeError("there is no card")
    return work


def _nvimgcodec(bench: Bench) -> Decoder:
    from nvidia import nvimgcodec

    decoder: Any = nvimgcodec.Decoder()

    def work(files: Sequence[bytes]) -> torch.Tensor:
        images = decoder.decode([*files])
        batch = torch.stack([torch.as_tensor(image, device=bench.device) for image in images])
        return batch.permute(0, 3, 1, 2)

    return work
