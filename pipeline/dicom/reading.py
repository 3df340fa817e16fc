"""Reads the header of a DICOM file: all that stands before its pixels."""

from typing import BinaryIO

from pydicom import Dataset, dcmread

from pipeline.dicom.errors import BROKEN, Refused


def read_header(file: BinaryIO) -> Dataset:
    """Raises Refused."""
    try:
        return dcmread(file, stop_before_pixels=True, force=True)
    except Exception:  # noqa: BLE001 - on hostile bytes pydicom raises whatever it stumbles over
        raise Refused(BROKEN) from None


def frames_in(header: Dataset) -> int:
    """How many frames it says it has."""
    try:
        return max(1, int(header.get("NumberOfFrames") or 1))
    except (TypeError, ValueError):
        raise Refused(BROKEN) from None
