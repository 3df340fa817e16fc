"""Reads of a file in memory what its pixels need, and passes over all else.

    opened = quick(data)    # None: the file is of a rarer form, and pydicom has to read it

To read a whole header takes pydicom longer than a codec takes for a frame of an ultrasound. This
reads explicit and implicit little-endian, where all stands as PS3.5 has it; `tests` hold it against
pydicom's reading. Sequences are parsed by pydicom, and only if they are asked for.
"""

import struct

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from pipeline.dicom.elements import tag_of
from pipeline.dicom.reading import PIXELS, UNDEFINED, Opened, Pixels

# All that is read of a header, beside the pixels themselves, to show a frame.
_WORDS = """
    Modality Rows Columns SamplesPerPixel PhotometricInterpretation PlanarConfiguration
    BitsAllocated BitsStored HighBit PixelRepresentation NumberOfFrames PixelAspectRatio
    PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing PixelPaddingValue
    PixelPaddingRangeLimit FloatPixelPaddingValue FloatPixelPaddingRangeLimit
    DoubleFloatPixelPaddingValue DoubleFloatPixelPaddingRangeLimit RescaleIntercept RescaleSlope
    ModalityLUTSequence VOILUTSequence WindowCenter WindowWidth VOILUTFunction
    PresentationLUTShape PixelIntensityRelationship RedPaletteColorLookupTableDescriptor
    GreenPaletteColorLookupTableDescriptor BluePaletteColorLookupTableDescriptor
    RedPaletteColorLookupTableData GreenPaletteColorLookupTableData
    BluePaletteColorLookupTableData SegmentedRedPaletteColorLookupTableData
    SegmentedGreenPaletteColorLookupTableData SegmentedBluePaletteColorLookupTableData
    SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence ExtendedOffsetTable
    """
NEEDED = frozenset(_WORDS.split())
_NEEDED = {int(tag): tag for tag in map(tag_of, NEEDED)}

# PS3.5 7.1.2: of these, the length has four bytes.
_OF_FOUR = b"OB OD OF OL OV OW SQ SV UC UN UR UT UV"
_OF_TWO = b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US"
_LONG, _SHORT = frozenset(_OF_FOUR.split()), frozenset(_OF_TWO.split())
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SYNTAX = 0x00020010
_LAST = min(PIXELS) - 1

_explicit = struct.Struct("<HH2sH").unpack_from
_implicit = struct.Struct("<HHI").unpack_from
_length = struct.Struct("<I").unpack_from


def quick(data: bytes) -> Opened | None:
    """None where something is not of the usual form: too short, out of order, of another kind."""
    try:
        return _quick(data)
    except struct.error:  # it ends too soon
        return None


def _quick(data: bytes) -> Opened | None:
    if data[128:132] != b"DICM":
        return None
    syntax, at = _meta(data)
    if syntax in ("", DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        return None
    walk = _Walk(data, implicit=syntax == ImplicitVRLittleEndian)
    found, before = Dataset(), -1
    found.set_original_encoding(walk.implicit, True)
    while at < len(data):
        tag, vr, start, length = walk.element(at)
        # What is out of order, or of no known kind, is left to pydicom.
        if start < 0 or tag <= before:
            return None
        if tag > _LAST:
            return Opened(found, _pixels(tag, vr, start, length), syntax, walk.implicit)
        end = walk.end(start) if length == UNDEFINED else start + length
        if end < 0 or end > len(data) or (length == UNDEFINED and tag in _NEEDED):
            return None
        if tag in _NEEDED:
            found._dict[_NEEDED[tag]] = RawDataElement(
                _NEEDED[tag], vr, length, data[start:end], start, walk.implicit, True
            )
        at, before = end, tag
    return None


def _meta(data: bytes) -> tuple[str, int]:
    """The transfer syntax, and where the data set begins; empty where it is of another form."""
    walk, at, syntax = _Walk(data, implicit=False), 132, ""
    while True:
        tag, _, start, length = walk.element(at)
        if tag >> 16 != 2:
            return syntax, at
        if start < 0 or length == UNDEFINED:
            return "", at
        if tag == _SYNTAX:
            syntax = data[start : start + length].decode("latin-1").strip(" \0")
        at = start + length


def _pixels(tag: int, vr: str | None, start: int, length: int) -> Pixels | None:
    return Pixels(tag, start, length, vr == "OW") if tag in PIXELS else None


class _Walk:
    """Over the elements of one file."""

    def __init__(self, data: bytes, *, implicit: bool) -> None:
        self._data, self.implicit = data, implicit

    def element(self, at: int) -> tuple[int, str | None, int, int]:
        """Tag, type, and the value's start and length; the start is -1 where no type is known."""
        if self.implicit:
            group, number, length = _implicit(self._data, at)
            return group << 16 | number, None, at + 8, length
        group, number, vr, length = _explicit(self._data, at)
        tag = group << 16 | number
        if vr in _SHORT:
            return tag, vr.decode(), at + 8, length
        if vr in _LONG:
            return tag, vr.decode(), at + 12, _length(self._data, at + 8)[0]
        return tag, None, -1, 0

    def end(self, at: int) -> int:
        """Behind a value of undefined length; -1 where it is not of the usual form."""
        depth = 1
        while depth:
            group, number, length = _implicit(self._data, at)
            tag = group << 16 | number
            if tag == _ITEM:
                at += 8 if length == UNDEFINED else 8 + length
            elif tag in (_ITEM_END, _SEQUENCE_END):
                at += 8
                depth -= tag == _SEQUENCE_END
            else:
                _, _, start, length = self.element(at)
                if start < 0:
                    return -1
                depth += length == UNDEFINED
                at = start + (0 if length == UNDEFINED else length)
        return at
