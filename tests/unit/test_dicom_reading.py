"""Headers that no device writes are refused, for their own reason, in little time and memory."""

import io
import resource
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from pipeline.dicom import bounded, errors
from pipeline.dicom.errors import Refused
from pipeline.dicom.reading import frames_in, read_header, refusing
from pipeline.dicom.rendering import Rendered, check, render
from pipeline.images.picture import Picture, Unusable, decode, inspect
from tests.made_bytes import drawing, encoded
from tests.made_dicom import NATIVE, element, encapsulated, header, native, saved, with_meta

CAP = 1_000_000
SECRET = "Doe^Jane"
GREY = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40)
PRIVATE = 0x00090010

_FILE = native(GREY, 12, PatientName=SECRET)


def reason(data: bytes) -> str:
    """Why the header alone refuses it; it never names the patient."""
    with pytest.raises(Refused) as caught:
        read_header(io.BytesIO(data))
    return said(caught.value)


def said(refused: Refused) -> str:
    assert SECRET not in refused.reason
    assert refused.__cause__ is None
    assert refused.__suppress_context__ or refused.__context__ is None
    return refused.reason


def refused(data: bytes, frame: int = 0) -> str:
    with pytest.raises(Refused) as caught:
        render(data, frame, CAP)
    return said(caught.value)


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", NATIVE.values(), ids=NATIVE)
@pytest.mark.parametrize("start", ["meta", "no preamble", "no meta"])
def test_a_file_with_and_without_its_start(start: str, syntax: str) -> None:
    data = native(GREY, 12, syntax)
    if start != "meta":
        data = data[132:]
    if start == "no meta":
        if syntax == DeflatedExplicitVRLittleEndian:
            return  # nothing would say that it is
        data = data[12 + int.from_bytes(data[8:12], "little") :]
    assert read_header(io.BytesIO(data)).Rows == 30
    assert np.array_equal(render(data, 0, CAP).pixels, render(_FILE, 0, CAP).pixels)


def test_meta_information_in_implicit_value_representations() -> None:
    uid = ImplicitVRLittleEndian.encode() + b"\0"
    meta = struct.pack("<HHI", 2, 0x10, len(uid)) + uid
    whole = struct.pack("<HHI", 2, 0, 4) + struct.pack("<I", len(meta)) + meta
    body = native(GREY, 12, ImplicitVRLittleEndian)
    body = body[144 + int.from_bytes(body[140:144], "little") :]
    data = bytes(128) + b"DICM" + whole + body
    assert read_header(io.BytesIO(data)).Rows == 30
    assert render(data, 0, CAP).pixels.shape == (30, 40)


@pytest.mark.parametrize("syntax", NATIVE.values(), ids=NATIVE)
@pytest.mark.parametrize("name", ["ReferencedStudySequence", "SharedFunctionalGroupsSequence"])
def test_sequences_of_undefined_length(name: str, syntax: str) -> None:
    """Those that the pixels need, and those that they do not."""
    inner, outer = Dataset(), Dataset()
    inner.WindowCenter, inner.WindowWidth, inner.PatientName = 100, 50, SECRET
    outer.FrameVOILUTSequence = _endless(inner, inner)
    outer.ReferencedImageSequence = _endless()
    made = render(native(GREY, 12, syntax, **{name: _endless(outer)}), 0, CAP)
    assert made.pixels.shape == (30, 40)
    assert made.rule == ("window 100/50" if "Shared" in name else "range")


def _endless(*items: Dataset) -> Sequence:
    sequence = Sequence(items)
    sequence.is_undefined_length = True
    for item in items:
        item.is_undefined_length_sequence_item = True
    return sequence


def test_a_picture_in_fragments_within_the_header() -> None:
    icon = header(8, 8, 1, 8, signed=False)
    icon.PixelData = encapsulate([b"\0" * 64, b"\1" * 64])
    icon["PixelData"].VR, icon["PixelData"].is_undefined_length = "OB", True
    dataset = header(30, 40, 3, 8, signed=False, IconImageSequence=_endless(icon))
    stream = encoded(drawing(40, 30), "JPEG")
    made = render(encapsulated([stream], JPEGBaseline8Bit, dataset), 0, CAP)
    assert made.pixels.shape == (30, 40, 3)


def test_a_picture_within_the_header_is_not_the_picture() -> None:
    icon = header(2, 2, 1, 8, signed=False)
    icon.PixelData = b"\1\2\3\4"
    data = native(GREY, 12, IconImageSequence=Sequence([icon]))
    assert np.array_equal(render(data, 0, CAP).pixels, render(_FILE, 0, CAP).pixels)


def test_the_header_of_a_deflated_file_does_not_inflate_its_pixels() -> None:
    dataset = header(10_000, 10_000, 1, 16, signed=False, PatientName=SECRET)
    body = saved(dataset)
    body = body[144 + int.from_bytes(body[140:144], "little") :]
    size = 2 * 10_000 * 10_000
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, size) + bytes(size)
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(body) + packer.compress(pixels) + packer.flush()
    data = with_meta(packed, DeflatedExplicitVRLittleEndian)
    before = _peak()
    assert read_header(io.BytesIO(data)).Rows == 10_000
    check(data, 10**9)
    assert _peak() - before < 20 * 2**20


def test_reading_an_ordinary_header_takes_few_calls() -> None:
    """Nothing but a count can be asserted: times are the machine's."""
    found = get_testdata_file("CT_small.dcm", download=False)
    file = _Counted(Path(str(found)).read_bytes())
    dataset = read_header(file)
    assert file.calls < 4 * len(dataset) + 40


class _Counted(io.BytesIO):
    calls = 0

    def read(self, count: int | None = -1) -> bytes:
        self.calls += 1
        return super().read(count)


# --- what is refused -----------------------------------------------------------------------------


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _deep(levels: int) -> bytes:
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    begin = element(0x00081115, b"SQ", b"", 0xFFFFFFFF) + item
    return with_meta(begin * levels + end * levels)


def _many() -> bytes:
    """Elements of eight bytes, each of another tag."""
    tags = np.zeros((bounded.READS, 2), "<u4")
    tags[:, 0] = 0x00000009 + (np.arange(len(tags)) << 16) % 2**32
    return with_meta(tags.tobytes(), ImplicitVRLittleEndian)


def _bomb(length: int) -> bytes:
    """A deflated private element of so many zeros, as far as 70 MB of them are there."""
    packer = zlib.compressobj(wbits=-15)
    parts = [packer.compress(element(PRIVATE, b"OB", b"", length))]
    parts += [packer.compress(bytes(2**20)) for _ in range(min(70, length >> 20))]
    return with_meta(b"".join(parts) + packer.flush(), DeflatedExplicitVRLittleEndian)


def _long() -> bytes:
    length = bounded.HEADER + 2
    return with_meta(element(PRIVATE, b"OB", bytes(length)))


_BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "a private tag of 2 GB": (
        lambda: with_meta(element(PRIVATE, b"OB", bytes(64), 2**31)),
        errors.LONGER,
    ),
    "a private tag of 2 GB, deflated": (lambda: _bomb(2**31), errors.LONG_HEADER),
    "many deflated zeros": (lambda: _bomb(bounded.HEADER + 2**20), errors.LONG_HEADER),
    "a long private tag": (_long, errors.LONG_HEADER),
    "a million elements": (_many, errors.MANY_ELEMENTS),
    "sequences, 5,000 deep": (lambda: _deep(5000), errors.DEEP),
    "deflated noise": (
        lambda: with_meta(b"\xff" * 100, DeflatedExplicitVRLittleEndian),
        errors.BROKEN,
    ),
    "a million frames": (
        lambda: native(GREY[None], 12, NumberOfFrames=1_000_000),
        errors.NO_FRAME,
    ),
    "a million frames, compressed": (
        lambda: encapsulated([b"\xff\xd8"], JPEGBaseline8Bit, _with(NumberOfFrames=1_000_000)),
        errors.NO_FRAME,
    ),
    "frames that are no number": (lambda: _frames(b"1A"), errors.BROKEN),
}


def _with(**more: object) -> Dataset:
    return header(30, 40, 1, 8, signed=False, PatientName=SECRET, **more)


def _frames(text: bytes) -> bytes:
    data = native(GREY[None], 12, NumberOfFrames=77)
    at = data.index(struct.pack("<HH2sH", 0x28, 8, b"IS", 2)) + 8
    return data[:at] + text + data[at + 2 :]


@pytest.mark.parametrize("name", _BAD)
def test_what_no_device_writes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "READS", bounded.READS // 10)  # so that it takes less of a second
    make, expected = _BAD[name]
    data = make()
    before = _peak()
    assert reason(data) == expected
    assert _peak() - before < 700 * 2**20
    if expected != errors.NO_FRAME:  # the frames that are there could be shown
        assert refused(data) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"NumberOfFrames": 0}, errors.NO_FRAMES),
        ({"NumberOfFrames": -3}, errors.NO_FRAMES),
        ({"Rows": 40_000, "Columns": 40_000}, errors.TOO_MANY_PIXELS),
        ({"Rows": 0}, errors.BROKEN),
        ({"BitsStored": 17}, errors.BROKEN),
        ({"BitsAllocated": 12}, errors.NOT_READ),
        ({"BitsAllocated": 64}, errors.BROKEN),
        ({"SamplesPerPixel": 2}, errors.COLOURS),
        ({"SamplesPerPixel": 3}, errors.BROKEN),
        ({"Rows": 31}, errors.BROKEN),
    ],
)
def test_what_a_header_says_of_its_pixels(said: dict[str, int], expected: str) -> None:
    dataset = dcmread(io.BytesIO(_FILE))
    for keyword, value in said.items():
        setattr(dataset, keyword, value)
    data = saved(dataset)
    assert refused(data) == expected
    result = decode(data, CAP)
    assert result == Unusable(expected)
    assert inspect(data, CAP) in (result, None)


def test_pixels_that_are_missing() -> None:
    dataset = dcmread(io.BytesIO(_FILE))
    del dataset.PixelData
    data = saved(dataset)
    assert refused(data) == errors.NO_PIXELS
    assert inspect(data, CAP) == Unusable(errors.NO_PIXELS)
    del dataset.Rows
    assert refused(saved(dataset)) == errors.NO_PIXELS


@pytest.mark.parametrize("syntax", NATIVE.values(), ids=NATIVE)
def test_a_file_that_is_cut_off_anywhere_is_refused(syntax: str) -> None:
    data = native(GREY, 12, syntax, PatientName=SECRET)
    for end in [*range(0, 900, 7), len(data) - 9]:
        with pytest.raises(Refused) as caught:
            render(data[:end], 0, CAP)
        assert said(caught.value) in (errors.BROKEN, errors.NO_PIXELS, errors.LONGER)


def test_a_disk_that_fails_is_no_fault_of_the_file() -> None:
    class Failing(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        read_header(Failing(_FILE))


@pytest.mark.parametrize("error", [ValueError, struct.error, KeyError, OSError, RecursionError])
def test_whatever_a_value_raises_is_a_reason(error: type[Exception]) -> None:
    with pytest.raises(Refused) as caught, refusing():
        raise error(SECRET)
    assert said(caught.value) == (errors.DEEP if error is RecursionError else errors.BROKEN)


# --- fuzz ----------------------------------------------------------------------------------------


def _clean() -> Iterator[bytes]:
    """One file of each syntax, small, so that most bytes say something."""
    grey = GREY[:8, :8]
    for syntax in NATIVE.values():
        yield native(grey, 12, syntax, PatientName=SECRET, WindowCenter=40, WindowWidth=400)
    for name in (
        "MR_small_RLE.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_jp2klossless.dcm",
        "SC_rgb_small_odd_jpeg.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "examples_palette.dcm",
    ):
        yield Path(str(get_testdata_file(name, download=False))).read_bytes()


@pytest.mark.parametrize("number", range(10))
def test_no_byte_that_is_changed_or_cut_makes_it_raise(number: int) -> None:
    clean, fuzz = [*_clean()][number], np.random.default_rng(number)
    head = min(len(clean), 3000)
    for _ in range(150):
        data = bytearray(clean)
        for place in fuzz.integers(128, head if fuzz.random() < 0.8 else len(data), 4):
            data[place] = fuzz.integers(256)
        end = len(data) if fuzz.random() < 0.7 else int(fuzz.integers(1, len(data)))
        mutant = bytes(data[:end])
        try:
            made = render(mutant, 0, CAP)
            assert isinstance(made, Rendered)
            assert made.pixels.dtype == np.uint8
        except Refused as refusal:
            said(refusal)
        try:
            frames_in(read_header(cast(BinaryIO, io.BytesIO(mutant))))
        except Refused as refusal:
            said(refusal)
        assert isinstance(decode(mutant, CAP), Picture | Unusable)
