"""The library that decodes and encodes JPEG on the card: nvImageCodec, of the extra `card`.

    codec = NvImageCodec(device)
    pictures = codec.decode(files)          # one that fails is None, and costs no other
    previews = codec.encode(images, 88)

Every thread has a codec of its own. The library is loaded only where decoding on the card is asked
for, and only its decoders on the card are: one on the CPU would run hostile bytes in this process.
"""

import importlib
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.base.errors import ConfigurationError

MISSING = (
    "KINDRED_DECODE=card needs nvImageCodec and nvJPEG: install the extra card "
    "(pip install 'kindred[card]'), or set it to cpu"
)

# Threads of the library. Those that decode only start work on the card. Each that encodes waits for
# its picture, so some have to wait side by side.
_DECODING, ENCODING = 4, 8


class Codec(Protocol):
    """`device` is where pictures lie."""

    device: torch.device

    def decode(self, files: Sequence[bytes]) -> list[Tensor | None]:
        """uint8 (H, W, 3), RGB, for each file that can be decoded.

        They are ready for work on the calling thread's current stream.
        """
        ...

    def encode(self, images: Tensor, quality: int) -> list[bytes]:
        """A JPEG of each of uint8 (n, H, W, 3)."""
        ...


class NvImageCodec:
    """Decodes by the card's JPEG engines, and by its processors where it has no such engine."""

    def __init__(
        self, device: torch.device, engines: float = 1.0, encoding: int = ENCODING
    ) -> None:
        """`engines`: the share that they get; `encoding`: threads.

        Raises ConfigurationError without the library.
        """
        try:
            library: Any = importlib.import_module("nvidia.nvimgcodec")
        except ImportError:
            raise ConfigurationError((MISSING,)) from None
        self.device = device
        self._library = library
        kinds = library.BackendKind
        backends = [library.Backend(kinds.GPU_ONLY), library.Backend(kinds.HYBRID_CPU_GPU)]
        if engines:
            backends.insert(0, library.Backend(kinds.HW_GPU_ONLY, engines))
        number = device.index or 0
        self._decoder = library.Decoder(number, _DECODING, backends)
        ways = [library.Backend(kinds.GPU_ONLY), library.Backend(kinds.HYBRID_CPU_GPU)]
        self._encoder = library.Encoder(number, encoding, ways)
        # EXIF is no matter: only upright pictures come here.
        self._how = library.DecodeParams(apply_exif_orientation=False)

    def decode(self, files: Sequence[bytes]) -> list[Tensor | None]:
        streams = [self._library.CodeStream(data) for data in files]
        stream = torch.cuda.current_stream(self.device).cuda_stream
        images = self._decoder.decode(streams, params=self._how, cuda_stream=stream)
        return [
            None if image is None else torch.as_tensor(image, device=self.device)
            for image in images
        ]

    def encode(self, images: Tensor, quality: int) -> list[bytes]:
        """Raises RuntimeError if one cannot be encoded."""
        library, stream = self._library, torch.cuda.current_stream(self.device).cuda_stream
        sources = library.as_images([*images.contiguous()], stream)
        how = library.EncodeParams(
            quality_type=library.QualityType.QUALITY,
            quality_value=quality,
            chroma_subsampling=library.ChromaSubsampling.CSS_420,
        )
        made = self._encoder.encode(sources, "jpeg", params=how, cuda_stream=stream)
        if any(each is None for each in made):
            raise RuntimeError("the card encoded no preview")
        return [bytes(each) for each in made]
