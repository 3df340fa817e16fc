"""Drawn JPEGs that show whether a card decodes as Pillow does, for each way to sample colours."""

import io
import logging

import numpy as np
import torch
from PIL import Image

from pipeline.base.logs import where
from pipeline.images.card.codecs import Codec

logger = logging.getLogger("kindred.decoders.card")

# Grey levels by which decoders may differ, in the mean. Those that smooth colours in other ways
# differ by less than one; a wrong order of colours, or a wrong picture, by dozens.
_MOST_APART = 3.0

_SAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


def agreeing(codec: Codec) -> frozenset[str]:
    """The kinds of JPEG (`readable.Frame.kind`) that the codec decodes as Pillow does."""
    files = samples()
    try:
        decoded = codec.decode([*files.values()])
    except RuntimeError as error:
        logger.error("card decodes nothing", extra={"error": where(error)})
        return frozenset()
    found = set()
    for (kind, data), one in zip(files.items(), decoded, strict=True):
        theirs = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(float)
        if one is not None and one.shape == theirs.shape:
            apart = float(np.abs(one.cpu().numpy() - theirs).mean())
            if apart < _MOST_APART:
                found.add(kind)
    return frozenset(found)


def encodes(codec: Codec) -> bool:
    """Whether the codec encodes a picture so that Pillow reads it."""
    picture = np.asarray(Image.open(io.BytesIO(samples()["4:4:4"])))
    try:
        [data] = codec.encode(torch.from_numpy(picture.copy())[None].to(codec.device), 90)
        theirs = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(float)
    except (RuntimeError, TypeError, OSError) as error:
        logger.error("card encodes nothing", extra={"error": where(error)})
        return False
    return theirs.shape == picture.shape and float(np.abs(theirs - picture).mean()) < _MOST_APART


def samples() -> dict[str, bytes]:
    """A file of each kind: soft colours with edges, 96 by 64 pixels."""
    y, x = np.mgrid[:64, :96]
    picture = np.stack([2 * x, 3 * y, 128 + 100 * np.sin(x / 9)], axis=2)
    picture[16:40, 24:60] = (200, 40, 90)
    image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    made = {kind: _jpeg(image, number) for kind, number in _SAMPLINGS.items()}
    return made | {"grey": _jpeg(image.convert("L"), -1)}


def _jpeg(image: Image.Image, sampling: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90, subsampling=sampling)
    return out.getvalue()
