"""Reads the header of a DICOM file: all that stands before its pixels."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, cast

from pydicom import Dataset, config
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pipeline.dicom.bounded import Bounded, Deflated, Inflated
from pipeline.dicom.errors import BROKEN, DEEP, NO_FRAME, NO_FRAMES, Refused

# pydicom quotes values of the file in what it logs and warns of, and nobody reads it.
config.settings.reading_validation_mode = config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module=r"pydicom\.")

UNDEFINED = 0xFFFFFFFF
PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})  # of floats, of doubles, of integers


@dataclass(frozen=True)
class Pixels:
    """The element that holds the pixels: its tag, and its value's place in bytes.

    `length` is UNDEFINED where it is a sequence of fragments. `words`: it is of 16-bit words.
    """

    tag: int
    start: int
    length: int
    words: bool


@dataclass(frozen=True)
class Opened:
    """A header, and where the pixels are. `inflated` is the file where it was deflated.

    `syntax` is the UID of the transfer syntax; empty where the file does not say.
    """

    header: Dataset
    pixels: Pixels | None
    syntax: str
    implicit: bool
    big: bool = False
    inflated: Inflated | None = None


def read_header(file: BinaryIO) -> Dataset:
    """All elements before the pixels. Raises Refused, and OSError where the disk fails.

    A value is parsed when it is asked for, and on hostile bytes that raises anything: read values
    within `refusing`.
    """
    opened = open_file(file)
    if opened.pixels is not None and opened.inflated is None:
        _check_frames(opened, file)
    return opened.header


def open_file(file: BinaryIO) -> Opened:
    """Reads all that stands before the pixels. Raises Refused."""
    with refusing():
        return _opened(file)


@contextmanager
def refusing() -> Iterator[None]:
    """Whatever a hostile file makes pydicom or a codec raise is a Refused.

    A disk that fails raises its own OSError, which has a number.
    """
    try:
        yield
    except (Refused, MemoryError):
        raise
    except RecursionError:
        raise Refused(DEEP) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise Refused(BROKEN) from None
    # struct.error, ValueError, NotImplementedError, AttributeError, zlib.error …
    except Exception:  # noqa: BLE001
        raise Refused(BROKEN) from None


def frames_in(header: Dataset) -> int:
    """How many frames it says it has. Raises Refused."""
    try:
        said = header.get("NumberOfFrames")
        count = 1 if said is None or said == "" else int(said)
    except Exception:  # noqa: BLE001 - on hostile bytes pydicom raises whatever it stumbles over
        raise Refused(BROKEN) from None
    if count < 1:
        raise Refused(NO_FRAMES)
    return count


def _opened(file: BinaryIO) -> Opened:
    found, bounded = _Found(), Bounded(file)
    header: Dataset | None = None
    inflated: Inflated | None = None
    found.file = bounded
    with suppress(Deflated):
        header = read_partial(cast(BinaryIO, bounded), found, force=True)
    if header is None:
        inflated = Inflated(file)
        found.file = bounded = Bounded(cast(BinaryIO, inflated))
        header = _deflated(bounded, found)
    if found.pixels is None and bounded.short:
        raise Refused(BROKEN)
    syntax = str(header.file_meta.get("TransferSyntaxUID") or "")
    implicit, little = header.original_encoding
    return Opened(header, found.pixels, syntax, bool(implicit), little is False, inflated)


def _deflated(bounded: Bounded, found: "_Found") -> Dataset:
    """PS3.5 A.5: all behind the file meta information is deflated."""
    header = read_dataset(cast(BinaryIO, bounded), False, True, stop_when=found)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return header


class _Found:
    """Tells pydicom to stop at the pixels, and keeps where they are."""

    def __init__(self) -> None:
        self.file: Bounded | None = None
        self.pixels: Pixels | None = None

    def __call__(self, tag: int, vr: str | None, length: int) -> bool:
        if tag not in PIXELS:
            return False
        assert self.file is not None  # noqa: S101 - it is set before pydicom reads
        self.pixels = Pixels(int(tag), self.file.tell(), length, vr == "OW")
        return True


def _check_frames(opened: Opened, file: BinaryIO) -> None:
    """Frames that cannot be there, a million of them, would each become a row."""
    frames, pixels = frames_in(opened.header), opened.pixels
    if frames == 1 or pixels is None:
        return
    with refusing():
        left = file.seek(0, 2) - pixels.start
        # A fragment has a header of eight bytes. Of others, the last one may be cut off.
        least = 8 * frames if pixels.length == UNDEFINED else (frames - 1) * _frame_bytes(opened)
    if left < least:
        raise Refused(NO_FRAME)


def _frame_bytes(opened: Opened) -> int:
    """Of a frame that is not compressed, rounded down."""
    header = opened.header
    samples = int(header.get("SamplesPerPixel") or 1)
    bits = header.Rows * header.Columns * samples * int(header.BitsAllocated)
    return (
        int(bits * 2 // 3 if header.get("PhotometricInterpretation") == "YBR_FULL_422" else bits)
        // 8
    )
