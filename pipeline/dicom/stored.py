"""What a header says of how its pixels are stored (PS3.3 C.7.6.3)."""

from dataclasses import dataclass

from pydicom import Dataset

from pipeline.dicom.elements import code, integer
from pipeline.dicom.errors import BROKEN, COLOURS, NO_PIXELS, NOT_READ, Refused
from pipeline.dicom.reading import frames_in

_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")


@dataclass(frozen=True)
class Attributes:
    """`stored` bits of `allocated` are a sample, up to the bit `high`; the others say nothing."""

    rows: int
    columns: int
    samples: int
    photometric: str
    planar: bool
    allocated: int
    stored: int
    high: int
    signed: bool
    frames: int

    @property
    def shape(self) -> tuple[int, ...]:
        plane = (self.rows, self.columns)
        return plane if self.samples == 1 else (*plane, self.samples)

    @property
    def grey(self) -> bool:
        return self.photometric.startswith("MONO")


def attributes_of(header: Dataset, *, floats: bool = False) -> Attributes:
    """`floats`: its pixels are of floats or doubles. Raises Refused, and what pydicom raises."""
    rows, columns = integer(header, "Rows"), integer(header, "Columns")
    if rows is None or columns is None:
        raise Refused(NO_PIXELS)
    samples = integer(header, "SamplesPerPixel") or 1
    # ACR-NEMA, before DICOM, had grey alone.
    plain = "MONOCHROME2" if samples == 1 else "RGB"
    photometric = code(header, "PhotometricInterpretation") or plain
    allocated = integer(header, "BitsAllocated") or (32 if floats else 0)
    stored = allocated if floats else integer(header, "BitsStored") or allocated
    high = integer(header, "HighBit")
    if high is None or not stored - 1 <= high < allocated:
        high = stored - 1
    _check(rows, columns, samples, photometric, allocated, stored)
    return Attributes(
        rows,
        columns,
        samples,
        photometric,
        bool(integer(header, "PlanarConfiguration")),
        allocated,
        stored,
        high,
        bool(integer(header, "PixelRepresentation")),
        frames_in(header),
    )


def _check(
    rows: int, columns: int, samples: int, photometric: str, allocated: int, stored: int
) -> None:
    if rows < 1 or columns < 1 or not 1 <= stored <= allocated:
        raise Refused(BROKEN)
    if allocated not in (1, 8, 16, 32, 64):
        raise Refused(NOT_READ)
    if (samples == 1) != (photometric in _GREY):
        raise Refused(BROKEN if samples in (1, 3) and photometric in _KNOWN else COLOURS)
    if samples not in (1, 3) or photometric not in _KNOWN:
        raise Refused(COLOURS)


_YBR = ("YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
_KNOWN = (*_GREY, "RGB", *_YBR)
