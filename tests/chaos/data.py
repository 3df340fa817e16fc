"""Small data sets in plenty, and what must be in the store when they have been ingested."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Image, Value
from PIL import Image as Pillow

Colour = tuple[int, int, int]

SIZE = (48, 36)

POISON: Colour = (255, 0, 0)  # RED of `tests.chaos.worker`


def write(folder: Path, name: str, rows: int, seed: int, poison: int = 0) -> list[str]:
    """A data set of smooth noise of 48x36 pixels; returns its images' ids.

    The first `poison` pictures end whoever decodes them, see `tests.chaos.worker`.
    """
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (rows, 3, 4, 3), dtype=np.uint8)
    pictures = [_jpeg(pixels) for pixels in coarse]
    pictures[:poison] = [plain(POISON)] * poison
    return write_pictures(folder, name, pictures)


def write_pictures(folder: Path, name: str, pictures: Sequence[bytes]) -> list[str]:
    ids = [f"{name}-{number:05d}" for number in range(len(pictures))]
    features = Features({"image": Image(), "image_id": Value("string"), "dx": Value("string")})
    rows = [
        {"image": {"bytes": data, "path": None}, "image_id": image_id, "dx": f"kind {number % 5}"}
        for number, (image_id, data) in enumerate(zip(ids, pictures, strict=True))
    ]
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(rows, features.arrow_schema)
    pq.write_table(table, folder / "train.parquet")
    return ids


def plain(colour: Colour) -> bytes:
    """One colour, exactly: see `tests.chaos.worker` for what it does there."""
    buffer = io.BytesIO()
    Pillow.new("RGB", SIZE, colour).save(buffer, "PNG")
    return buffer.getvalue()


def picture(seed: int) -> bytes:
    return _jpeg(np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8))


def _jpeg(coarse: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(coarse).resize(SIZE, Pillow.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()
