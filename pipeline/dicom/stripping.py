"""A DICOM file with nothing in it but what its pixels need to be shown.

A search sends a file that names its patient, and waits for a worker as a blob. So the api replaces
it by this at the door. Allowed is a list of elements (PS3.6), the same at every depth of sequences;
of text only numbers and codes, each in the form of its value representation (PS3.5 6.2).
"""

import io
import re
from typing import Any

from pydicom import DataElement, Dataset, dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pipeline.dicom.errors import BROKEN, Refused

_ALLOWED_WORDS = """
    Rows Columns SamplesPerPixel PhotometricInterpretation PlanarConfiguration BitsAllocated
    BitsStored HighBit PixelRepresentation NumberOfFrames PixelAspectRatio PixelSpacing
    ImagerPixelSpacing NominalScannedPixelSpacing PixelSpacingCalibrationType
    SmallestImagePixelValue LargestImagePixelValue SmallestPixelValueInSeries
    LargestPixelValueInSeries PixelPaddingValue PixelPaddingRangeLimit FloatPixelPaddingValue
    DoubleFloatPixelPaddingValue RescaleIntercept RescaleSlope RescaleType ModalityLUTSequence
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
    PixelData FloatPixelData DoubleFloatPixelData
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


def stripped(data: bytes) -> bytes:
    """Renders as `data` does, in the same transfer syntax. Raises Refused."""
    try:
        dataset = dcmread(io.BytesIO(data), force=True)
        kept = _kept(dataset, _DEPTH)
        syntax = _syntax(dataset)
        kept.file_meta = FileMetaDataset()
        kept.file_meta.TransferSyntaxUID = syntax
        kept.preamble = bytes(128)
        out = io.BytesIO()
        kept.save_as(out, enforce_file_format=False)
    except Exception:  # noqa: BLE001 - on hostile bytes pydicom raises whatever it stumbles over
        raise Refused(BROKEN) from None
    return out.getvalue()


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


def _syntax(dataset: Dataset) -> Any:
    """As the file says, or as it was read where it has no meta information."""
    named = getattr(dataset, "file_meta", {}).get("TransferSyntaxUID")
    if named:
        return named
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian
