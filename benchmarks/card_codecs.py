"""Codecs for `KINDRED_DECODE=card` that Kindred does not use: a stand-in, and a candidate."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.images.picture import Picture, decode
from pipeline.images.previews import as_preview


class PillowCodec:
    """Does with Pillow, one by one, what a card does at once: so all of the rest can run here."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def decode(self, files: Sequence[bytes]) -> list[Tensor | None]:
        return [self._decoded(data) for data in files]

    def encode(self, images: Tensor, quality: int) -> list[bytes]:
        return [as_preview(one) for one in images.cpu().numpy()]

    def _decoded(self, data: bytes) -> Tensor | None:
        picture = decode(data, 10**8)
        if not isinstance(picture, Picture):
            return None
        return torch.from_numpy(np.array(picture.image)).to(self.device)


class Torchvision:
    """nvJPEG through torchvision, which fails a whole batch for one file."""

    def __init__(self, device: torch.device) -> None:
        from torchvision import io as library

        self.device, self._library = device, library

    def decode(self, files: Sequence[bytes]) -> list[Tensor | None]:
        rgb = self._library.ImageReadMode.RGB
        tensors = [torch.from_numpy(np.frombuffer(data, np.uint8).copy()) for data in files]
        try:
            found = self._library.decode_jpeg(tensors, mode=rgb, device=self.device)
        except RuntimeError:
            if len(files) == 1:
                return [None]
            half = len(files) // 2
            return [*self.decode(files[:half]), *self.decode(files[half:])]
        return [one.permute(1, 2, 0) for one in found]

    def encode(self, images: Tensor, quality: int) -> list[bytes]:
        made = self._library.encode_jpeg([*images.permute(0, 3, 1, 2).contiguous()], quality)
        together = torch.cat(made).cpu().numpy()
        ends = np.cumsum([len(one) for one in made])
        return [part.tobytes() for part in np.split(together, ends[:-1])]


def size_of(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        return image.size
