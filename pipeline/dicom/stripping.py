"""A DICOM file with nothing in it but what its pixels need to be shown.

A search sends a file that names its patient, and waits for a worker as a blob. So the api replaces
it by this at the door. Allowed is a list of elements (PS3.6), the same at every depth of sequences;
of text only numbers and codes, each in the form of its value representation (PS3.5 6.2).
"""

import io
import re
from typing import Any, Literal

from pydicom import DataElement, Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pipeline.dicom.errors import NO_PIXELS, SWOLLEN, Refused
from pipeline.dicom.reading import UNDEFINED, Opened, Pixels, open_file, refusing

_ALLOWED_WORDS = """
    Rows Columns SamplesPerPixel PhotometricInterpretation PlanarConfiguration BitsAllocated
    BitsStored HighBit PixelRepresentation NumberOfFrames PixelAspectRatio PixelSpacing
    ImagerPixelSpacing NominalScannedPixelSpacing PixelSpacingCalibrationType
    SmallestImagePixelValue LargestImagePixelValue SmallestPixelValueInSeries
    LargestPixelValueInSeries PixelPaddingValue PixelPaddingRangeLimit FloatPixelPaddingValue
    DoubleFloatPixelPaddingValue FloatPixelPaddingRangeLimit
    DoubleFloatPixelPaddingRangeLimit RescaleIntercept RescaleSlope RescaleType ModalityLUTSequence
    VOILUTSequence LUTDescriptor LUTData ModalityLUTType WindowCenter WindowWidth VOILUTFunction
    PresentationLUTShape PixelIntensityRelationship PixelIntensityRelationshipSign
    RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor
    BluePaletteColorLookupTableDescriptor AlphaPaletteColorLookupTableDescriptor
    RedPaletteColorLookupTableData GreenPaletteColorLookupTableData
    BluePaletteColorLookupTableData AlphaPaletteColorLookupTableData
    SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData
    SegmentedBluePaletteColorLookupTableData SegmentedAlphaPaletteColorLookupTableData
    SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence PixelMeasuresSequence
    PixelValueTransformationSequence FrameVOILUTSequence FramePixelDataPropertiesSequence
    Modality SOPClassUID ImageType LossyImageCompression
    ExtendedOffsetTable ExtendedOffsetTableLengths
    """
_ALLOWED = frozenset(_ALLOWED_WORDS.split())

# What texts of these value representations may be; texts of all others go.
_FORMS = {
    "CS": re.compile(r"[A-Z0-9_ ]{0,16}"),
    "DS": re.compile(r"[0-9+\-.eE ]{0,24}"),
    "IS": re.compile(r"[0-9+\- ]{0,14}"),
    "UI": re.compile(r"[0-9.]{0,64}\0?"),
    # Rescale Type is a code, although its representation allows any text (C.11.1.1.2).
    "LO": re.compile(r"[A-Z0-9_ ]{0,16}"),
}
_NUMBERS = frozenset({"US", "SS", "UL", "SL", "FL", "FD", "OB", "OW", "OF", "OD", "OL", "OV", "UV"})

_DEPTH = 8  # of sequences; functional groups have three

_VALUES = {0x7FE00008: b"OF", 0x7FE00009: b"OD"}
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"

# Bytes that the api inflates of a file that is deflated as a whole.
_MOST_INFLATED = 2**27


def stripped(data: bytes) -> bytes:
    """Renders as `data` does, in the same transfer syntax; if it was deflated, inflated.

    Raises Refused.
    """
    with refusing():
        opened = open_file(io.BytesIO(data))
        if opened.pixels is None:
            raise Refused(NO_PIXELS)
        return _header(opened) + _pixels(opened, opened.pixels, data)


def _header(opened: Opened) -> bytes:
    header = opened.header
    kept = _kept(header, _DEPTH)
    kept.file_meta = FileMetaDataset()
    kept.file_meta.TransferSyntaxUID = _syntax(opened)
    kept.preamble = bytes(128)
    out = io.BytesIO()
    kept.save_as(out, enforce_file_format=False)
    return out.getvalue()


def _pixels(opened: Opened, pixels: Pixels, data: bytes) -> bytes:
    """The element of the pixels, without what follows it in the file."""
    end = pixels.start + pixels.length
    if pixels.length == UNDEFINED:
        end = _end_of_fragments(data, pixels.start)
    if opened.inflated is not None:
        if end > _MOST_INFLATED:
            raise Refused(SWOLLEN)
        opened.inflated.fill(end)
        data = bytes(opened.inflated.data)
    return _element(opened, pixels) + data[pixels.start : end]


def _element(opened: Opened, pixels: Pixels) -> bytes:
    """Tag, representation and length (PS3.5 7.1), in the form of the elements before them."""
    implicit, little = opened.header.original_encoding
    order: Literal["little", "big"] = "big" if little is False else "little"
    tag = b"".join(half.to_bytes(2, order) for half in divmod(pixels.tag, 1 << 16))
    usual = b"OW" if pixels.words else b"OB"
    named = b"" if implicit else _VALUES.get(pixels.tag, usual) + bytes(2)
    return tag + named + pixels.length.to_bytes(4, order)


def _end_of_fragments(data: bytes, start: int) -> int:
    """Behind the sequence delimiter, or where the items end (PS3.5 A.4)."""
    at = start
    while at + 8 <= len(data):
        tag, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8
        if tag != _ITEM:
            return at if tag == _DELIMITER else at - 8
        at += length
    return min(at, len(data))


def _kept(dataset: Dataset, depth: int) -> Dataset:
    kept = Dataset()
    for element in map(dataset.__getitem__, filter(_is_allowed, dataset.keys())):
        if element.VR == "SQ":
            if depth:
                items = [_kept(item, depth - 1) for item in element.value]
                kept.add(DataElement(element.tag, "SQ", items))
        elif element.VR in _NUMBERS or _fits(element):
            kept.add(element)
    return kept


def _is_allowed(tag: Any) -> bool:
    return keyword_for_tag(tag) in _ALLOWED


def _fits(element: DataElement) -> bool:
    form = _FORMS.get(element.VR)
    if form is None:
        return False
    values = element.value if element.VM > 1 else [element.value]
    return all(form.fullmatch(str(value if value is not None else "")) for value in values)


def _syntax(opened: Opened) -> UID:
    """As the file says, or as it was read where it has no meta information."""
    implicit, little = opened.header.original_encoding
    if opened.syntax and opened.inflated is None:
        return UID(opened.syntax)
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian
