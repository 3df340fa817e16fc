"""DICOM files put together by pydicom: pixels and what a header says of them."""

import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

NATIVE = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}


def header(
    rows: int, columns: int, samples: int, bits: int, *, signed: bool, **said: Any
) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3.4"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = rows, columns, samples
    dataset.PhotometricInterpretation = "MONOCHROME2" if samples == 1 else "RGB"
    if samples > 1:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 1 if bits == 1 else 8 if bits <= 8 else 16 if bits <= 16 else 32
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    for keyword, value in said.items():
        setattr(dataset, keyword, value)
    return dataset


def saved(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.FileMetaInformationGroupLength = 0  # pydicom writes what it is
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    out = io.BytesIO()
    if syntax == DeflatedExplicitVRLittleEndian:
        dcmwrite(out, dataset, enforce_file_format=True)
        return out.getvalue()
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    how = {"implicit_vr": implicit, "little_endian": little, "force_encoding": True}
    dataset.preamble = bytes(128)
    dcmwrite(out, dataset, **how)
    return out.getvalue()


def native(
    values: np.ndarray, bits: int = 0, syntax: str = ExplicitVRLittleEndian, **said: Any
) -> bytes:
    """Of (H, W), (H, W, 3), or with `NumberOfFrames` before. `bits`: stored; default: all."""
    frames = said.get("NumberOfFrames")
    shape = values.shape[1:] if frames else values.shape
    samples = 1 if len(shape) == 2 else shape[2]
    signed = values.dtype.kind == "i"
    whole = 8 * values.dtype.itemsize
    dataset = header(shape[0], shape[1], samples, bits or whole, signed=signed, **said)
    big = syntax == ExplicitVRBigEndian
    data = values.astype(values.dtype.newbyteorder(">" if big else "<")).tobytes()
    if dataset.BitsAllocated == 1:
        data = np.packbits(values.astype(bool).ravel(), bitorder="little").tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if dataset.BitsAllocated <= 8 else "OW"
    return saved(dataset, syntax)


def encapsulated(
    frames: Sequence[bytes], syntax: str, dataset: Dataset, *, table: bool = True
) -> bytes:
    """`table`: with a basic offset table."""
    if len(frames) > 1:
        dataset.NumberOfFrames = len(frames)
    dataset.PixelData = encapsulate(list(frames), has_bot=table)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return saved(dataset, syntax)


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Explicit and little-endian; `length`: what it claims."""
    group, number = Tag(tag).group, Tag(tag).element
    claimed = len(value) if length is None else length
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD"):
        return struct.pack("<HH2sHI", group, number, vr, 0, claimed) + value
    return struct.pack("<HH2sH", group, number, vr, claimed) + value


def with_meta(body: bytes, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A file of these bytes behind the file meta information."""
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = element(0x00020010, b"UI", uid)
    length = element(0x00020000, b"UL", struct.pack("<I", len(meta)))
    return bytes(128) + b"DICM" + length + meta + body
