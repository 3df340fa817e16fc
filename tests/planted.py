"""DICOM files with marks wherever a patient's name can stand, to look for them afterwards."""

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, FileMetaDataset, Sequence, config, dcmwrite
from pydicom.datadict import DicomDictionary, RepeatersDictionary
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

# A mark is QZ, five digits, X; where only digits may stand, it begins as this UID and number do.
ROOT, NUMBER = "1.2.826.0.1.7771234", "7771234"
MARK = re.compile(rb"QZ\d{5}X|1\.2\.826\.0\.1\.7771234|7771234\d{5}|Q\0Z\0\d\0\d\0")
PATIENT, ACCESSION, NAME = "QZ00001X", "QZ00002X", "QZ00003X^QZ00004X"

_TEXTS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_BYTES = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}
# What makes a file an image, and what decides how its pixels are read.
_NEEDED = {
    "SOPClassUID", "Modality", "SpecificCharacterSet", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PixelData",
    "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "StudyDate",
    "PatientSex", "PatientAge", "BodyPartExamined", "Manufacturer", "BurnedInAnnotation",
    "FloatPixelData", "DoubleFloatPixelData", "PixelDataProviderURL", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "EncapsulatedPixelDataValueTotalLength", "ImageType",
    "LossyImageCompression", "LossyImageCompressionMethod", "PixelAspectRatio",
    "VOILUTFunction", "PresentationLUTShape", "RescaleType", "WindowCenter", "WindowWidth",
    "RescaleIntercept", "RescaleSlope", "ConversionType", "PatientBirthDate", "PixelSpacing",
}  # fmt: skip


@contextmanager
def unchecked() -> Iterator[None]:
    """Lets pydicom write what the standard forbids."""
    before = config.settings.writing_validation_mode, config.settings.reading_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    config.settings.reading_validation_mode = config.IGNORE
    try:
        yield
    finally:
        config.settings.writing_validation_mode, config.settings.reading_validation_mode = before


def planted(number: int, frames: int = 1, **given: Any) -> bytes:
    """An image of a patient, with a mark in each element that the dictionary has."""
    with unchecked():
        return _planted(number, frames, given)


def _planted(number: int, frames: int, given: dict[str, Any]) -> bytes:
    header = Dataset()
    for tag, keyword, kind in _elements():
        value = _value(kind, tag)
        if value is not None and keyword not in _NEEDED:
            header.add_new(tag, kind, value)
    _add_image(header, number, frames)
    _add_private(header)
    header.PatientID, header.AccessionNumber, header.PatientName = PATIENT, ACCESSION, NAME
    inner = Dataset()
    inner.PatientName, inner.PatientComments = "QZ10001X", "QZ10002X"
    _add_private(inner)
    header.RequestAttributesSequence = Sequence([_holding(inner)])
    for keyword, value in given.items():
        setattr(header, keyword, value)
    return written(header)


def plain(number: int, **given: Any) -> bytes:
    """An image with nothing in it that is not needed."""
    header = Dataset()
    _add_image(header, number, 1)
    for keyword, value in given.items():
        setattr(header, keyword, value)
    return written(header)


def written(header: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = header.get("SOPClassUID", "")
    meta.MediaStorageSOPInstanceUID = header.get("SOPInstanceUID", "")
    meta.TransferSyntaxUID = syntax
    meta.ImplementationVersionName = "QZ20001X"
    meta.SourceApplicationEntityTitle = "QZ20002X"
    meta.PrivateInformationCreatorUID = f"{ROOT}.5"
    meta.PrivateInformation = b"QZ20003X"
    preamble = (b"QZ20004X" * 16)[:128]
    header.file_meta, header.preamble = meta, preamble
    file = io.BytesIO()
    dcmwrite(file, header, enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian,
             little_endian=True)  # fmt: skip
    return file.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = b"QZ20005X"
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def marks_in(data: bytes) -> set[bytes]:
    return set(MARK.findall(data))


def marked(root: Path) -> dict[str, set[bytes]]:
    """Files below a folder that hold a mark, or are called by one."""
    found: dict[str, set[bytes]] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        try:
            data = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:
            continue
        if marks := marks_in(data) | marks_in(name.encode()):
            found[name] = marks
    return found


def _elements() -> Iterator[tuple[int, str, str]]:
    for tag, (kinds, _, _, _, keyword) in DicomDictionary.items():
        group = tag >> 16
        if group > 0x0007 and group < 0x7FE0 and group != 0x0028 and keyword:
            yield tag, keyword, kinds.split(" or ")[0]
    for mask, (kinds, _, _, _, keyword) in RepeatersDictionary.items():
        for group in ("00", "02"):  # overlays and curves
            if mask[:2] in ("60", "50") and "xx" in mask[:4]:
                yield int(mask.replace("xx", group), 16), keyword, kinds.split(" or ")[0]


def _value(kind: str, tag: int) -> Any:
    number = f"{tag % 99_991:05}"
    if kind in _TEXTS:
        return f"QZ{number}X"
    if kind in _BYTES:
        return f"QZ{number}X".encode() * 2
    own = {"UI": f"{ROOT}.1{number}", "DS": f"{NUMBER}{number}", "IS": f"77712{number}"}
    if kind == "SQ":
        inner = Dataset()
        inner.TextValue = f"QZ{number}X"
        return [inner]
    return own.get(kind)


def _holding(inner: Dataset) -> Dataset:
    outer = Dataset()
    outer.ScheduledProtocolCodeSequence = Sequence([inner])
    outer.RequestedProcedureDescription = "QZ10003X"
    return outer


def _add_private(header: Dataset) -> None:
    block = header.private_block(0x0029, "QZ30001X", create=True)
    for offset, (kind, value) in enumerate(
        (("LO", "QZ30002X"), ("UN", b"QZ30003X"), ("PN", "QZ30004X"), ("OB", b"QZ30005X"))
    ):
        block.add_new(offset, kind, value)
    inner = Dataset()
    inner.PatientName = "QZ30006X"
    block.add_new(9, "SQ", [inner])


def _add_image(header: Dataset, number: int, frames: int) -> None:
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    header.SOPInstanceUID = f"{ROOT}.9.{number}"
    header.StudyInstanceUID, header.SeriesInstanceUID = f"{ROOT}.7", f"{ROOT}.8"
    header.Modality, header.BodyPartExamined = "CR", "CHEST"
    header.Manufacturer, header.PatientSex = "SIEMENS Healthineers", "F"
    header.PatientAge, header.StudyDate = "067Y", "20240229"
    header.SpecificCharacterSet = "ISO_IR 192"
    header.Rows = header.Columns = 48
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit, header.PixelRepresentation = 7, 0
    if frames > 1:
        header.NumberOfFrames = frames
    drawn = np.random.default_rng(number).integers(0, 255, (frames, 48, 48), dtype=np.uint8)
    header.PixelData = drawn.tobytes()
    header[Tag(0x7FE00010)].VR = "OB"
