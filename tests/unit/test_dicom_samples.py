"""Every file with pixels of pydicom and pydicom-data, beside DCMTK's and pydicom's rendering."""

import io
import re
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_files
from pydicom.datadict import tag_for_keyword
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
)

from pipeline.dicom import errors
from pipeline.dicom.errors import Refused
from pipeline.dicom.quick import NEEDED, quick
from pipeline.dicom.reading import open_file
from pipeline.dicom.rendering import Rendered, render
from pipeline.images.picture import Picture, decode
from tests.dcmtk_drawing import drawn, need_dcmtk
from tests.made_bytes import drawing, encoded
from tests.made_dicom import encapsulated, header, native

CAP = 10_000_000

# Grey levels of 255.
CLOSE = 1
# Two versions of the JPEG library, and two ways from YCbCr to RGB.
OF_LIBJPEG = 3

# Broken on purpose, or 12-bit JPEG.
REFUSED = {
    "ExplVR_BigEndNoMeta.dcm": errors.NO_PIXELS,
    "ExplVR_LitEndNoMeta.dcm": errors.NO_PIXELS,
    "JPEG-lossy.dcm": errors.TWELVE_BITS,
    "JPGExtended.dcm": errors.TWELVE_BITS,
    "JPEG2000-embedded-sequence-delimiter.dcm": errors.OTHER_PIXELS,  # its codestream is spoilt
    "MR_truncated.dcm": errors.BROKEN,
    "UN_sequence.dcm": errors.NO_PIXELS,
    "badVR.dcm": errors.BROKEN,  # it has "1A" frames
    "meta_missing_tsyntax.dcm": errors.NO_PIXELS,
    "no_meta.dcm": errors.LONGER,  # no order of bytes makes sense of it
    "rtplan_truncated.dcm": errors.BROKEN,
}

# What DCMTK 3.6.7 does otherwise, or not at all.
_NO_2000 = "DCMTK has no decoder of JPEG 2000"
_DEEP = "DCMTK reads no 32 bits a colour that are stored as OL"
_SEGMENTED = "DCMTK reads no segmented palettes"
_BY_TAG = "by the header's name of the colours, DCMTK leaves them; the JPEG's marks say YCbCr"
_TWICE = "DCMTK swaps 32 bits in big-endian words as two words"
OTHERWISE = {
    "SC_rgb_32bit.dcm": _DEEP,
    "SC_rgb_32bit_2frame.dcm": _DEEP,
    "SC_rgb_expb_32bit.dcm": _DEEP,
    "SC_rgb_expb_32bit_2frame.dcm": _DEEP,
    "SC_ybr_full_uncompressed.dcm": "DCMTK is two levels from the formula, this program one",
    "SC_rgb_jpeg.dcm": "DCMTK does not parse its private elements",
    "gdcm-US-ALOKA-16.dcm": _SEGMENTED,
    "gdcm-US-ALOKA-16_big.dcm": _SEGMENTED,
    "rtdose_expb.dcm": _TWICE,
    "rtdose_expb_1frame.dcm": _TWICE,
}

# They have fewer frames than they say.
TOO_FEW = {"emri_small_jpeg_2k_lossless_too_short.dcm"}

# Their pixels are not square. DCMTK keeps them, and so has to be compared before that.
OBLONG = {"color-pl.dcm", "color-px.dcm"}


@cache
def files() -> dict[str, Path]:
    """Those that DICOM calls images, and those that say nothing of what they are."""
    found = (Path(each) for each in get_testdata_files("*.dcm"))
    return {each.name: each for each in sorted(found) if each.is_file() and _has_pixels(each)}


def _has_pixels(file: Path) -> bool:
    dataset = dcmread(file, stop_before_pixels=True, force=True)
    return "Rows" in dataset or file.name in REFUSED


@cache
def shown(name: str) -> Rendered | str:
    try:
        return render(files()[name].read_bytes(), 0, CAP)
    except Refused as refused:
        return refused.reason


def test_there_are_as_many_as_there_were() -> None:
    assert len(files()) > 120
    assert set(REFUSED) | set(OTHERWISE) | OBLONG <= set(files())


@pytest.mark.parametrize("name", files())
def test_each_is_shown_or_refused_for_a_reason_that_is_known(name: str) -> None:
    made, expected = shown(name), REFUSED.get(name)
    if expected == errors.TWELVE_BITS and find_spec("libjpeg"):
        return  # the extra is installed
    assert (made if isinstance(made, str) else None) == expected


@pytest.mark.parametrize("name", [name for name in files() if name not in REFUSED])
def test_dcmtk_shows_the_same(name: str, tmp_path: Path) -> None:
    need_dcmtk()
    made = shown(name)
    assert isinstance(made, Rendered)
    theirs = drawn(files()[name], tmp_path, *_options(name, made.rule))
    if isinstance(theirs, str):
        assert name in OTHERWISE or _is_2000(name), theirs
        return
    pixels = _unsquared(name, made.pixels)
    assert pixels.shape == theirs.shape
    apart = np.abs(pixels.astype(int) - theirs)
    assert (apart.max() > CLOSE) == (name in OTHERWISE), (int(apart.max()), made.rule)


def _options(name: str, rule: str) -> list[str]:
    if "PerFrameFunctionalGroupsSequence" in _header(name):
        found = re.fullmatch(r"window (\S+)/(\S+)", rule)
        return ["+Ww", found[1], found[2]] if found else ["+Wm"]
    kinds = {"window": ["+Wi", "1"], "voi": ["+Wl", "1"], "default": ["+Ww", "40", "400"]}
    kinds |= {"range": ["+Wm"]}
    return kinds.get(rule.split(maxsplit=1)[0], [])


def _header(name: str) -> Dataset:
    return dcmread(files()[name], stop_before_pixels=True, force=True)


def _is_2000(name: str) -> bool:
    return "2000" in _header(name).file_meta.TransferSyntaxUID.name


def _unsquared(name: str, pixels: np.ndarray) -> np.ndarray:
    """As they are stored: 120 rows, which became 160."""
    if name not in OBLONG:
        return pixels
    assert pixels.shape == (160, 256, 3)
    dataset = dcmread(files()[name])
    values = np.frombuffer(dataset.PixelData, np.uint8)
    if dataset.PlanarConfiguration:
        return values.reshape(3, 120, 256).transpose(1, 2, 0)
    return values.reshape(120, 256, 3)


@pytest.mark.parametrize("name", [name for name in files() if name not in REFUSED])
def test_pydicom_shows_the_same(name: str) -> None:
    """Its own way from the file to shades, with its own choice of codecs."""
    made, dataset = shown(name), dcmread(files()[name], force=True)
    assert isinstance(made, Rendered)
    if "TransferSyntaxUID" not in dataset.file_meta or name in TOO_FEW:
        return  # it wants to be told, and to have all frames
    values = pixel_array(dataset, index=0)
    if made.rule.startswith("colour"):
        # Of palettes and of more bits, it leaves what to do to its callers.
        if values.dtype == np.uint8 and values.ndim == 3:
            apart = np.abs(_unsquared(name, made.pixels).astype(int) - values)
            assert apart.max() <= OF_LIBJPEG
        return
    if "PerFrameFunctionalGroupsSequence" in dataset and made.rule != "range":
        return  # nor does it look there
    expected = _shades(dataset, values, made.rule)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        expected = 255 - expected
    assert np.abs(expected - made.pixels).max() <= CLOSE


def _shades(dataset: Dataset, values: np.ndarray, rule: str) -> np.ndarray:
    units = apply_modality_lut(values, dataset)
    if rule.startswith("default"):
        return np.clip((units - 39.5) / 399 + 0.5, 0, 1) * 255
    scaled = apply_voi_lut(units, dataset).astype(float)
    low, high = float(scaled.min()), float(scaled.max())
    if rule == "voi lut":
        low, high = 0, (1 << dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1
    elif rule != "range":  # its black and white are the lowest and highest that could be stored
        signed, bits = dataset.PixelRepresentation, dataset.BitsStored
        ends = np.array([0, (1 << bits) - 1]) - (signed << (bits - 1))
        low, high = apply_modality_lut(ends, dataset)
    return (scaled - low) / (high - low) * 255


def test_what_is_read_quickly_is_what_pydicom_reads() -> None:
    """Of most files; the others are left to pydicom."""
    read = 0
    for name, file in files().items():
        data = file.read_bytes()
        found = quick(data)
        if found is None:
            continue
        read += 1
        whole = open_file(io.BytesIO(data))
        assert replace(found, header=whole.header) == whole, name
        assert found.header.keys() == whole.header.keys() & NEEDED_TAGS, name
        for tag in found.header.keys():  # noqa: SIM118 - iterating would parse the values
            assert found.header[tag] == whole.header[tag], name
    assert read > 80


NEEDED_TAGS = {tag_for_keyword(keyword) for keyword in NEEDED}


# --- pictures that were wrapped ------------------------------------------------------------------

DERMOSCOPIC = "1.2.840.10008.5.1.4.1.1.77.1.7"  # PS3.4, Dermoscopic Photography Image Storage

_ARCHIVE = Path(__file__).parents[3] / "shared/data/skin_cancer_dev/train-00000-of-00001.parquet"


def _pictures() -> list[bytes]:
    """JPEGs of skin where they lie beside the repository, and a drawn one."""
    drawn_here = [encoded(drawing(600, 450), "JPEG", quality=90, subsampling=n) for n in (0, 1, 2)]
    if not _ARCHIVE.exists():
        return drawn_here
    column = parquet.read_table(_ARCHIVE, columns=["image"]).column("image").slice(0, 12)
    return [*drawn_here, *(cell["bytes"] for cell in column.to_pylist())]


@pytest.mark.parametrize(
    "kind", [SecondaryCaptureImageStorage, VLPhotographicImageStorage, DERMOSCOPIC]
)
def test_a_photograph_is_the_same_picture_in_dicom(kind: str) -> None:
    """So its vector is the same, too: the encoder sees the same pixels."""
    for data in _pictures():
        picture = decode(data, CAP)
        assert isinstance(picture, Picture)
        pixels = np.asarray(picture.image)
        said = {"SOPClassUID": kind, "Modality": "XC"}
        dataset = header(picture.height, picture.width, 3, 8, signed=False, **said)
        dataset.PhotometricInterpretation = "YBR_FULL_422"
        wrapped = encapsulated([data], JPEGBaseline8Bit, dataset)
        for made in (wrapped, native(pixels, **said)):
            same = decode(made, CAP)
            assert isinstance(same, Picture), same
            assert np.array_equal(np.asarray(same.image), pixels)
