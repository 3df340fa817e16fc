"""One frame of a DICOM file as a reader sees it: grey or colour, eight bits."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

from pipeline.dicom.errors import BROKEN, NO_PIXELS, TOO_MANY_PIXELS, Refused


@dataclass(frozen=True)
class Rendered:
    """`pixels` are uint8, (H, W) if grey, else (H, W, 3). `rule` says how values became shades."""

    pixels: NDArray[np.uint8]
    rule: str


def render(data: bytes, frame: int, max_pixels: int) -> Rendered:
    """The frame, counted from 0. Raises Refused."""
    try:
        dataset = dcmread(io.BytesIO(data), force=True)
    except Exception:  # noqa: BLE001 - see read_header
        raise Refused(BROKEN) from None
    if "Rows" not in dataset or "Columns" not in dataset:
        raise Refused(NO_PIXELS)
    if dataset.Rows * dataset.Columns > max_pixels:
        raise Refused(TOO_MANY_PIXELS)
    try:
        values = pixel_array(dataset, index=frame)
        if values.ndim == 3:
            return Rendered(values.astype(np.uint8), "colour")
        scaled = apply_voi_lut(apply_modality_lut(values, dataset), dataset).astype(np.float64)
    except Exception:  # noqa: BLE001 - see read_header
        raise Refused(BROKEN) from None
    low, high = scaled.min(), scaled.max()
    grey = ((scaled - low) / (high - low or 1) * 255).round().astype(np.uint8)
    inverted = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
    return Rendered(255 - grey if inverted else grey, "range")
