"""DICOM files with text in their pixels, as ultrasound machines and workstations write them."""

import io
import os
import shutil
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
CT = "1.2.840.10008.5.1.4.1.1.2"
DERMOSCOPY = "1.2.840.10008.5.1.4.1.1.77.1.4"

PATIENT = "MUSTERMANN^ERIKA"

WIDTH, HEIGHT, BAND = 320, 240, 32  # pixels; the text stands in the band at the top


def need_tesseract() -> None:
    """Skips the test without it; where CI is set, it fails."""
    if shutil.which("tesseract") is None:
        # What continuous integration does not run, nobody runs.
        (pytest.fail if os.environ.get("CI") else pytest.skip)("tesseract is not installed")


def scan(seed: int, text: str = "") -> Image.Image:
    """Soft noise, with a line of white text on black at the top."""
    noise = np.random.default_rng(seed).random((HEIGHT, WIDTH)) * 200
    picture = Image.fromarray(noise.astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))
    if text:
        draw = ImageDraw.Draw(picture)
        draw.rectangle((0, 0, WIDTH, BAND - 1), fill=0)
        draw.text((8, 6), text, fill=255, font=ImageFont.load_default(16))
    return picture


def dicom(picture: Image.Image, storage: str = CT, modality: str = "CT", **said: Any) -> bytes:
    """A file of one grey picture; `said` are elements by their keywords."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = storage, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality, dataset.PatientID, dataset.PatientName = modality, "12345", PATIENT
    for keyword, value in said.items():
        setattr(dataset, keyword, value)
    dataset.Rows, dataset.Columns = picture.height, picture.width
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = picture.convert("L").tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = storage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()
