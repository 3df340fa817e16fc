"""The pixels of a DICOM file are what a reader sees, in every way in which they can be stored."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from pipeline.dicom import errors
from pipeline.dicom.errors import Refused
from pipeline.dicom.rendering import Rendered, check, render
from tests.made_bytes import drawing, encoded, with_segments
from tests.made_dicom import NATIVE, encapsulated, header, native, saved

CAP = 1_000_000
_RNG = np.random.default_rng(0)

GREY = _RNG.integers(0, 4096, (34, 38)).astype(np.uint16)
GREY[0, 0], GREY[0, 1] = 0, 4095
COLOURS = np.asarray(drawing(38, 34))
SYNTAXES = pytest.mark.parametrize("syntax", NATIVE.values(), ids=NATIVE)


def shown(data: bytes, frame: int = 0) -> Rendered:
    check(data, CAP)
    return render(data, frame, CAP)


def refused(data: bytes, frame: int = 0) -> str:
    with pytest.raises(Refused) as caught:
        render(data, frame, CAP)
    return caught.value.reason


def near(pixels: np.ndarray, expected: np.ndarray, most: float = 1) -> bool:
    same = pixels.shape == expected.shape
    return same and float(np.abs(pixels.astype(float) - expected).max()) <= most


def linear(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, as it is written there."""
    values = values.astype(float)
    shades = ((values - (centre - 0.5)) / (width - 1) + 0.5) * 255
    shades[values <= centre - 0.5 - (width - 1) / 2] = 0
    shades[values > centre - 0.5 + (width - 1) / 2] = 255
    return shades


def spread(values: np.ndarray) -> np.ndarray:
    values = values.astype(float)
    return (values - values.min()) / (values.max() - values.min()) * 255


# --- how values are stored -----------------------------------------------------------------------


@SYNTAXES
@pytest.mark.parametrize("form", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_every_type_of_number_in_every_order_of_bytes(form: str, syntax: str) -> None:
    kind = np.iinfo(form)
    values = np.linspace(kind.min, kind.max, 34 * 38).reshape(34, 38).astype(form)
    made = shown(native(values, syntax=syntax))
    assert near(made.pixels, spread(values))
    assert made.rule == "range"


@SYNTAXES
@pytest.mark.parametrize("bits", [1, 2, 7, 8, 9, 12, 15, 16, 17, 24, 32])
def test_from_1_to_32_bits(bits: int, syntax: str) -> None:
    form = "u1" if bits <= 8 else "u2" if bits <= 16 else "u4"
    values = np.linspace(0, 2**bits - 1, 34 * 38).reshape(34, 38).astype(form)
    assert near(shown(native(values, bits, syntax)).pixels, spread(values))


@pytest.mark.parametrize("signed", [False, True])
def test_stray_bits_above_those_that_are_stored_are_no_part_of_the_value(signed: bool) -> None:
    values = GREY.astype(np.int32) - 2048 * signed
    stray = ((values & 0xFFF) | (_RNG.integers(0, 16, GREY.shape) << 12)).astype(np.uint16)
    data = stray.view(np.int16) if signed else stray
    window = {"WindowCenter": 100, "WindowWidth": 500}
    assert near(shown(native(data, 12)).pixels, spread(values))
    assert near(shown(native(data, 12, **window)).pixels, linear(values, 100, 500))


def test_bits_that_are_stored_above_others() -> None:
    data = native((GREY << 4) | 7, 12, HighBit=15)
    assert near(shown(data).pixels, spread(GREY))


@SYNTAXES
def test_frames_of_bits_and_of_odd_numbers_of_bytes(syntax: str) -> None:
    bits = _RNG.integers(0, 2, (3, 5, 7)).astype(np.uint8)
    words = native(bits, 1, syntax, NumberOfFrames=3)
    odd = _RNG.integers(0, 256, (3, 5, 7)).astype(np.uint8)
    octets = native(odd, 8, syntax, NumberOfFrames=3, WindowCenter=128, WindowWidth=256)
    for frame in range(3):
        assert np.array_equal(shown(words, frame).pixels, bits[frame] * 255)
        assert near(shown(octets, frame).pixels, odd[frame])


def test_octets_in_words_of_big_endian() -> None:
    odd = _RNG.integers(0, 256, (3, 5, 7)).astype(np.uint8)
    dataset = dcmread(io.BytesIO(native(odd, 8, NumberOfFrames=3)))
    dataset.WindowCenter, dataset.WindowWidth = 128, 256
    data = odd.tobytes() + b"\0"
    dataset.PixelData = np.frombuffer(data, "<u2").astype(">u2").tobytes()
    dataset["PixelData"].VR = "OW"
    for frame in range(3):
        assert near(shown(saved(dataset, ExplicitVRBigEndian), frame).pixels, odd[frame])


@pytest.mark.parametrize(("form", "keyword"), [("<f4", "Float"), ("<f8", "DoubleFloat")])
def test_floats_without_their_padding(form: str, keyword: str) -> None:
    values = _RNG.normal(0, 1e-3, (34, 38)).astype(form)
    padded = values.copy()
    padded[3, 4], padded[5, 6] = -1000, np.nan
    dataset = header(34, 38, 1, 32, signed=False)
    dataset.BitsAllocated = 8 * np.dtype(form).itemsize
    setattr(dataset, f"{keyword}PixelData", padded.tobytes())
    setattr(dataset, f"{keyword}PixelPaddingValue", -1000.0)
    made = shown(saved(dataset)).pixels
    inner = np.delete(np.delete(made, [3, 5], 0), [4, 6], 1)
    assert near(inner, np.delete(np.delete(spread(values), [3, 5], 0), [4, 6], 1))
    assert made[3, 4] == made[5, 6] == 0


# --- from values to shades -----------------------------------------------------------------------


def test_the_first_window_of_the_file() -> None:
    data = native(GREY, 12, WindowCenter=[1000, 5], WindowWidth=[600, 9])
    made = shown(data)
    assert near(made.pixels, linear(GREY, 1000, 600), 0.51)
    assert made.rule == "window 1000/600"


def test_a_rescale_comes_before_the_window() -> None:
    rescale = {"RescaleSlope": 2.5, "RescaleIntercept": -1024, "Modality": "CT"}
    made = shown(native(GREY, 12, WindowCenter=40, WindowWidth=400, **rescale))
    assert near(made.pixels, linear(GREY * 2.5 - 1024, 40, 400), 0.51)
    made = shown(native(GREY, 12, **rescale))
    assert near(made.pixels, linear(GREY * 2.5 - 1024, 40, 400), 0.51)
    assert made.rule == "default window CT soft tissue"


def test_ct_that_does_not_say_its_units_has_its_own_range() -> None:
    assert shown(native(GREY, 12, Modality="CT")).rule == "range"


def test_the_other_functions_of_windows() -> None:
    window = {"WindowCenter": 1000.5, "WindowWidth": 600}
    made = shown(native(GREY, 12, VOILUTFunction="SIGMOID", **window))
    sigmoid = 255 / (1 + np.exp(-4 * (GREY - 1000.5) / 600))
    assert near(made.pixels, sigmoid, 0.51)
    assert made.rule == "window 1000.5/600 sigmoid"
    made = shown(native(GREY, 12, VOILUTFunction="LINEAR_EXACT", **window))
    assert near(made.pixels, np.clip((GREY - 1000.5) / 600 + 0.5, 0, 1) * 255, 0.51)
    assert made.rule == "window 1000.5/600 exact"


@pytest.mark.parametrize(("centre", "width"), [("1,5", "3"), (40, 0), (40, -5), ("", "")])
def test_a_window_that_is_none(centre: str | int, width: str | int) -> None:
    dataset = dcmread(io.BytesIO(native(GREY, 12)))
    plain = b"".join(
        struct.pack("<HH2sH", 0x28, number, b"DS", len(text)) + text
        for number, text in ((0x1050, _even(centre)), (0x1051, _even(width)))
    )
    dataset.PixelData = GREY.tobytes()
    data = saved(dataset)
    at = data.index(struct.pack("<HH2sH", 0x7FE0, 0x10, b"OW", 0))
    made = shown(data[:at] + plain + data[at:])
    assert made.rule == "range"
    assert near(made.pixels, spread(GREY))


def _even(value: str | int) -> bytes:
    text = str(value).encode()
    return text + b" " * (len(text) % 2)


def test_a_window_of_one_and_one_of_less() -> None:
    made = shown(native(GREY, 12, WindowCenter=2000, WindowWidth=1))
    assert np.array_equal(made.pixels, (GREY > 1999.5) * 255)
    made = shown(native(GREY, 12, WindowCenter=0.5, WindowWidth=0.5, RescaleSlope=1 / 4096))
    assert near(made.pixels, np.clip((GREY / 4096 - 0.5) / 0.5 + 0.5, 0, 1) * 255)


@pytest.mark.parametrize("form", ["words", "octets", "octets in words"])
def test_a_voi_lut(form: str) -> None:
    entries = (np.sin(np.arange(1000) / 300) ** 2 * 255).astype(np.uint16)
    item = Dataset()
    item.LUTDescriptor = [1000, 500, 8]
    item.LUTData = entries.tobytes() if form == "words" else entries.astype(np.uint8).tobytes()
    item["LUTData"].VR = "OW"
    made = shown(native(GREY, 12, VOILUTSequence=Sequence([item]), WindowCenter=1, WindowWidth=2))
    places = np.clip(GREY.astype(int) - 500, 0, 999)
    assert near(made.pixels, entries[places], 0.51)
    assert made.rule == "voi lut"


def test_a_modality_lut_comes_first_and_not_for_display_where_it_is_for_subtraction() -> None:
    entries = np.arange(4096)[::-1].astype(np.uint16)
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [4096, 0, 16], entries.tobytes()
    item["LUTData"].VR = "OW"
    said = {"ModalityLUTSequence": Sequence([item]), "WindowCenter": 2048, "WindowWidth": 4096}
    assert near(shown(native(GREY, 12, **said)).pixels, linear(4095 - GREY, 2048, 4096))
    said |= {"Modality": "XA", "PixelIntensityRelationship": "LOG"}
    assert near(shown(native(GREY, 12, **said)).pixels, linear(GREY, 2048, 4096))
    del said["WindowCenter"], said["Modality"]
    assert near(shown(native(GREY, 12, **said)).pixels, spread(4095 - GREY))


def test_padding_is_not_within_the_range() -> None:
    values = GREY.astype(np.int16) - 1000
    values[:3] = -2000
    values[3:5] = -1990
    limits = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}
    made = shown(native(values, **limits)).pixels
    assert near(made[5:], spread(np.append(values[5:], values[5:]))[: 29 * 38].reshape(29, 38))
    assert not made[:5].any()
    # The type of the element can be wrong: 63,536 is -2,000.
    wrong = native(values).replace(
        struct.pack("<HH2sHHH", 0x28, 0x103, b"US", 2, 1, 0)[:10],
        struct.pack("<HH2sHH", 0x28, 0x103, b"US", 2, 1)
        + struct.pack("<HH2sHH", 0x28, 0x120, b"US", 2, 63_536),
    )
    values[3:5] = -2000
    assert "PixelPaddingValue" in dcmread(io.BytesIO(wrong))
    assert not shown(wrong).pixels[:3].any()
    assert shown(wrong).pixels[3:].min() < 10


def test_an_image_of_one_value_and_one_of_padding_alone_are_black() -> None:
    flat = np.full((9, 9), 700, np.uint16)
    assert not shown(native(flat)).pixels.any()
    assert not shown(native(flat, PixelPaddingValue=700)).pixels.any()


@pytest.mark.parametrize(
    "said",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        {"PresentationLUTShape": "INVERSE"},
    ],
    ids=["MONOCHROME1", "MONOCHROME1 and INVERSE", "INVERSE"],
)
def test_what_is_inverse_is_inverted_once(said: dict[str, str]) -> None:
    made = shown(native(GREY, 12, WindowCenter=2000, WindowWidth=999, **said)).pixels
    assert near(made, 255 - linear(GREY, 2000, 999), 0.51)


def test_overlays_in_unused_bits_are_no_part_of_the_picture() -> None:
    overlay = _RNG.integers(0, 2, GREY.shape) << 15
    data = native((GREY | overlay).astype(np.uint16), 12)
    assert near(shown(data).pixels, spread(GREY))


@pytest.mark.parametrize("nearest", [True, False], ids=["per frame", "shared"])
def test_frames_have_their_own_windows_and_rescales(nearest: bool) -> None:
    frames = np.stack([GREY, GREY[::-1], GREY[:, ::-1]])
    groups = Sequence([_group(100.0 * n, 1000 + n) for n in range(3)])
    shared = Sequence([_group(7.0, 500)])
    said = {"SharedFunctionalGroupsSequence": shared}
    if nearest:
        said["PerFrameFunctionalGroupsSequence"] = groups
    data = native(frames, 12, NumberOfFrames=3, WindowCenter=1, WindowWidth=2, **said)
    for n in range(3):
        intercept, width = (100.0 * n, 1000 + n) if nearest else (7.0, 500)
        made = shown(data, n)
        assert near(made.pixels, linear(frames[n] * 2 + intercept, 2000, width), 0.51)
        assert made.rule == f"window 2000/{width}"


def _group(intercept: float, width: float) -> Dataset:
    rescale, window, group = Dataset(), Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 2, intercept
    window.WindowCenter, window.WindowWidth = 2000, width
    group.PixelValueTransformationSequence = Sequence([rescale])
    group.FrameVOILUTSequence = Sequence([window])
    return group


# --- colours -------------------------------------------------------------------------------------


def ycbcr(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).convert("YCbCr"))


@SYNTAXES
@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_red_green_and_blue(bits: int, planar: int, syntax: str) -> None:
    wide = COLOURS.astype(f"u{bits // 8}") << (bits - 8)
    stored = wide.transpose(2, 0, 1).reshape(wide.shape) if planar else wide
    made = shown(native(stored, syntax=syntax, PlanarConfiguration=planar))
    assert np.array_equal(made.pixels, COLOURS)
    assert made.rule == "colour rgb"


def test_colours_of_few_bits() -> None:
    few = native(COLOURS >> 5, 3)
    assert near(shown(few).pixels, (COLOURS >> 5) / 7 * 255)
    twelve = native(COLOURS.astype(np.uint16) << 4, 12)
    assert np.array_equal(shown(twelve).pixels, COLOURS)


@pytest.mark.parametrize("planar", [0, 1])
def test_ybr_full(planar: int) -> None:
    values = ycbcr(COLOURS)
    stored = values.transpose(2, 0, 1).reshape(values.shape) if planar else values
    made = shown(native(stored, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=planar))
    assert near(made.pixels, COLOURS, 3)  # rounding, there and back
    assert made.rule == "colour ybr"


def _halved(values: np.ndarray) -> np.ndarray:
    """Y Y Cb Cr for each two pixels."""
    pairs = values.reshape(values.shape[0], -1, 2, 3)
    parts = (pairs[..., 0, 0], pairs[..., 1, 0], pairs[..., 0, 1], pairs[..., 0, 2])
    return np.stack(parts, -1)


def _of_pairs(photometric: str, values: np.ndarray) -> bytes:
    dataset = header(34, 38, 3, 8, signed=False, PhotometricInterpretation=photometric)
    dataset.PixelData = _halved(values).tobytes()
    dataset["PixelData"].VR = "OB"
    return saved(dataset)


def test_half_of_the_colours() -> None:
    soft = np.repeat(COLOURS[:, ::2], 2, axis=1)
    assert near(shown(_of_pairs("YBR_FULL_422", ycbcr(soft))).pixels, soft, 3)
    y, b, r = (soft @ np.array(row) for row in _BT601)
    values = np.stack([16 + y, 128 + b, 128 + r], -1).round().astype(np.uint8)
    assert near(shown(_of_pairs("YBR_PARTIAL_422", values)).pixels, soft, 4)


# ITU-R BT.601, for 8 bits.
_BT601 = (
    [0.25679, 0.50413, 0.09791],
    [-0.14822, -0.29099, 0.43922],
    [0.43922, -0.36779, -0.07143],
)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("segmented", [False, True])
def test_palettes(bits: int, segmented: bool) -> None:
    entries = _RNG.integers(0, 256, (3, 200)).astype(np.uint16)
    values = _RNG.integers(0, 256, (34, 38)).astype(np.uint8)
    said = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, row in zip(("Red", "Green", "Blue"), entries, strict=True):
        said[f"{name}PaletteColorLookupTableDescriptor"] = [200, 10, bits]
        stored = row * (257 if bits == 16 else 1)
        words = np.concatenate([[0, 200], stored]) if segmented else stored
        start = "Segmented" if segmented else ""
        form = np.uint16 if bits == 16 else np.uint8
        said[f"{start}{name}PaletteColorLookupTableData"] = words.astype(form).tobytes()
    made = shown(native(values, **said))
    expected = entries[:, np.clip(values.astype(int) - 10, 0, 199)].transpose(1, 2, 0)
    assert np.array_equal(made.pixels, expected)
    assert made.rule == "colour palette"


def test_a_palette_that_is_missing() -> None:
    values = np.zeros((9, 9), np.uint8)
    data = native(values, PhotometricInterpretation="PALETTE COLOR")
    assert refused(data) == errors.NO_PALETTE


@pytest.mark.parametrize("name", ["HSV", "CMYK", "ARGB", "YBR_PARTIAL_420", "XYZ", "MONOCHROME2"])
def test_other_colours_are_refused(name: str) -> None:
    reason = refused(native(COLOURS, PhotometricInterpretation=name))
    assert reason == (errors.BROKEN if name == "MONOCHROME2" else errors.COLOURS)


# --- streams -------------------------------------------------------------------------------------


def in_colour(photometric: str) -> Dataset:
    return header(34, 38, 3, 8, signed=False, PhotometricInterpretation=photometric)


def jpeg(*, rgb: bool = False, subsampling: int = 0) -> bytes:
    """Of COLOURS; `rgb`: not transformed, which Pillow marks by components' names and Adobe's."""
    options = {"keep_rgb": True} if rgb else {}
    return encoded(Image.fromarray(COLOURS), "JPEG", quality=95, subsampling=subsampling, **options)


def without(data: bytes, mark: int) -> bytes:
    """A JPEG without its first segment of that kind."""
    at = data.index(bytes([0xFF, mark]))
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


def renamed(data: bytes, names: bytes) -> bytes:
    """A JPEG whose components have other names, in its frame and in its scan."""
    changed, frame, scan = bytearray(data), data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    for n, name in enumerate(names):
        changed[frame + 10 + 3 * n] = changed[scan + 5 + 2 * n] = name
    return bytes(changed)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_jpeg_of_a_file_is_the_same_picture_here(photometric: str, subsampling: int) -> None:
    data = jpeg(subsampling=subsampling)
    made = shown(encapsulated([data], JPEGBaseline8Bit, in_colour(photometric)))
    assert np.array_equal(made.pixels, np.asarray(Image.open(io.BytesIO(data))))


def _unmarked() -> dict[str, tuple[bytes, str]]:
    """JPEGs as makers write them and tag them, all of the same picture."""
    plain, true_rgb = without(jpeg(), 0xE0), without(jpeg(rgb=True), 0xEE)
    half = without(jpeg(subsampling=2), 0xE0)
    return {
        "JFIF, tagged RGB": (jpeg(), "RGB"),
        "no mark": (plain, "YBR_FULL"),
        "no mark, tagged RGB": (plain, "RGB"),
        "no mark, names 0 1 2, tagged RGB": (renamed(plain, b"\0\1\2"), "RGB"),
        "no mark, fewer colours, tagged RGB": (half, "RGB"),
        "RGB by its names, tagged YBR": (true_rgb, "YBR_FULL_422"),
        "RGB by its names": (true_rgb, "RGB"),
        "RGB by Adobe's mark": (renamed(jpeg(rgb=True), b"\1\2\3"), "YBR_FULL"),
        "RGB without a mark, names 0 1 2": (renamed(true_rgb, b"\0\1\2"), "RGB"),
        "RGB without a mark, names 1 2 3": (renamed(true_rgb, b"\1\2\3"), "RGB"),
        "YCbCr by Adobe's mark": (
            with_segments(plain, 0xEE, b"Adobe\0\x64\0\0\0\0\1"),
            "RGB",
        ),
    }


@pytest.mark.parametrize("name", _unmarked())
def test_the_colours_of_a_jpeg_are_what_its_own_marks_say(name: str) -> None:
    data, photometric = _unmarked()[name]
    made = shown(encapsulated([data], JPEGBaseline8Bit, in_colour(photometric)))
    assert float(np.abs(made.pixels.astype(int) - COLOURS).mean()) < 4, name


def test_a_grey_jpeg_has_a_window_like_any_other_values() -> None:
    grey = Image.fromarray(COLOURS).convert("L")
    dataset = header(34, 38, 1, 8, signed=False, WindowCenter=100, WindowWidth=50)
    data = encoded(grey, "JPEG", quality=95)
    made = shown(encapsulated([data], JPEGBaseline8Bit, dataset))
    assert near(made.pixels, linear(np.asarray(Image.open(io.BytesIO(data))), 100, 50), 0.51)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("kind", ["grey", "signed", "colours"])
def test_streams_without_loss_are_as_what_they_were_made_of(syntax: str, kind: str) -> None:
    values = {"grey": GREY, "signed": GREY.astype(np.int16) - 2048, "colours": COLOURS}[kind]
    window = {"WindowCenter": 100, "WindowWidth": 3000}
    bits = 8 if kind == "colours" else 12
    plain = native(values, bits, **window)
    dataset = dcmread(io.BytesIO(plain))
    dataset.compress(syntax, generate_instance_uid=False)
    out = io.BytesIO()
    dataset.save_as(out)
    assert np.array_equal(shown(out.getvalue()).pixels, shown(plain).pixels)


@pytest.mark.parametrize("named", ["RGB", "YBR_RCT", "YBR_ICT"])
@pytest.mark.parametrize("mixed", [True, False], ids=["transformed", "not transformed"])
def test_jpeg_2000_is_rgb_by_whatever_name(named: str, mixed: bool) -> None:
    from openjpeg.utils import encode_array

    stream = encode_array(
        np.ascontiguousarray(COLOURS), photometric_interpretation=1, use_mct=mixed
    )
    data = encapsulated([stream], JPEG2000Lossless, in_colour(named))
    assert np.array_equal(shown(data).pixels, COLOURS)


def test_jpeg_2000_of_brightness_and_colours() -> None:
    from openjpeg.utils import encode_array

    stream = encode_array(np.ascontiguousarray(ycbcr(COLOURS)), photometric_interpretation=3)
    made = shown(encapsulated([stream], JPEG2000, in_colour("YBR_FULL")))
    assert near(made.pixels, COLOURS, 3)


def test_jpeg_lossless(tmp_path: Path) -> None:
    for values, bits in ((GREY, 12), (GREY.astype(np.int16) - 2048, 16), (COLOURS, 8)):
        plain = native(values, bits, WindowCenter=100, WindowWidth=3000)
        assert np.array_equal(shown(lossless(plain, tmp_path)).pixels, shown(plain).pixels)


def lossless(plain: bytes, folder: Path) -> bytes:
    """The same file as JPEG Lossless, by GDCM."""
    import gdcm

    (folder / "plain.dcm").write_bytes(plain)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(folder / "plain.dcm"))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetFileName(str(folder / "lossless.dcm"))
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    made = (folder / "lossless.dcm").read_bytes()
    assert dcmread(io.BytesIO(made)).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    return made


def test_frames_that_are_deflated_one_by_one() -> None:
    packer = zlib.compressobj(wbits=-15)
    stream = packer.compress(GREY.tobytes()) + packer.flush()
    dataset = header(34, 38, 1, 12, signed=False)
    data = encapsulated([stream], "1.2.840.10008.1.2.8.1", dataset)
    assert near(shown(data).pixels, spread(GREY))


@pytest.mark.parametrize("how", ["table", "no table", "extended table", "pieces", "wrong table"])
def test_a_frame_is_found_by_tables_and_without(how: str) -> None:
    from pydicom.encaps import encapsulate, encapsulate_extended

    streams = [jpeg() + bytes(1000 * n) for n in range(4)]
    turned = np.asarray(Image.open(io.BytesIO(jpeg())))[::-1]
    streams[2] = encoded(Image.fromarray(turned), "JPEG", quality=95)
    dataset = in_colour("YBR_FULL_422")
    dataset.NumberOfFrames = 4
    if how == "extended table":
        data, offsets, lengths = encapsulate_extended(streams)
        dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths
    else:
        pieces = 3 if how == "pieces" else 1
        data = encapsulate(streams, fragments_per_frame=pieces, has_bot="no" not in how)
    if how == "wrong table":
        data = data[:8] + struct.pack("<4I", 5, 6, 7, 9) + data[24:]
    if how == "pieces":  # their table is empty
        data = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + data[24:]
    dataset.PixelData = data
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    file = saved(dataset, JPEGBaseline8Bit)
    for frame in range(4):
        expected = np.asarray(Image.open(io.BytesIO(streams[frame])))
        assert np.array_equal(shown(file, frame).pixels, expected)
    assert refused(file, 4) == errors.NO_FRAME


def test_only_the_asked_frame_is_decoded() -> None:
    """The others are no pictures at all."""
    streams = [b"\xff\xd8 no picture "] * 9
    streams[7] = jpeg()
    data = encapsulated(streams, JPEGBaseline8Bit, in_colour("YBR_FULL_422"))
    assert shown(data, 7).pixels.shape == (34, 38, 3)
    assert refused(data, 6) == errors.BROKEN


# --- the shape of pixels -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "shape"),
    [
        ({"PixelAspectRatio": [4, 3]}, (45, 38)),
        ({"PixelAspectRatio": [1, 2]}, (34, 76)),
        ({"PixelSpacing": [0.5, 0.25]}, (68, 38)),
        ({"ImagerPixelSpacing": [0.1, 0.2]}, (34, 76)),
        ({"PixelAspectRatio": [1, 1], "PixelSpacing": [1, 2]}, (34, 38)),
        ({"PixelSpacing": [0.4883, 0.4885]}, (34, 38)),
        ({"PixelSpacing": [0, 1]}, (34, 38)),
        ({"PixelSpacing": [1, -2]}, (34, 38)),
        ({"PixelAspectRatio": [1, 1000]}, (34, 38)),
        ({"PixelSpacing": [1]}, (34, 38)),
    ],
)
def test_pixels_become_square(said: dict[str, list[float]], shape: tuple[int, int]) -> None:
    made = shown(native(GREY, 12, **said)).pixels
    assert made.shape == shape
    assert abs(float(made.mean()) - float(spread(GREY).mean())) < 5


def test_square_pixels_are_not_more_than_may_be() -> None:
    data = native(GREY, 12, PixelSpacing=[4, 1])
    assert render(data, 0, 34 * 38).pixels.shape == (34, 10)


def test_frames_have_their_own_spacing() -> None:
    measures, group = Dataset(), Dataset()
    measures.PixelSpacing = [2, 1]
    group.PixelMeasuresSequence = Sequence([measures])
    data = native(GREY, 12, SharedFunctionalGroupsSequence=Sequence([group]), NumberOfFrames=None)
    assert shown(data).pixels.shape == (68, 38)


# --- what is refused -----------------------------------------------------------------------------


def test_a_jpeg_of_twelve_bits_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "libjpeg", None)
    data = jpeg()
    frame = data.index(b"\xff\xc0")
    deep = data[: frame + 1] + b"\xc1" + data[frame + 2 : frame + 4] + b"\x0c" + data[frame + 5 :]
    file = encapsulated([deep], "1.2.840.10008.1.2.4.51", in_colour("YBR_FULL_422"))
    assert refused(file) == errors.TWELVE_BITS
    assert "dicom12" in errors.TWELVE_BITS


@pytest.mark.parametrize(
    ("syntax", "reason"),
    [
        ("1.2.840.10008.1.2.4.102", errors.VIDEO),
        ("1.2.840.10008.1.2.4.100.1", errors.VIDEO),
        ("1.2.840.10008.1.2.4.94", errors.ELSEWHERE),
        ("1.2.840.10008.1.2.4.110", errors.NOT_READ),
        ("1.2.840.10008.1.2.4.90", errors.BROKEN),
        ("1.2.826.0.1.3680043.9.9", errors.NOT_READ),
    ],
)
def test_other_encodings_are_refused(syntax: str, reason: str) -> None:
    stream = b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(64)
    assert refused(encapsulated([stream], syntax, in_colour("RGB"))) == reason


def test_a_stream_decides_which_codec_reads_it() -> None:
    """Some archives write the name of one encoding, and the pixels of another."""
    made = shown(encapsulated([jpeg()], JPEG2000, in_colour("YBR_FULL_422")))
    assert near(made.pixels, np.asarray(Image.open(io.BytesIO(jpeg()))), 0)


def test_a_name_of_a_compression_over_plain_pixels() -> None:
    data = native(COLOURS).replace(ExplicitVRLittleEndian.encode(), RLELossless.encode())
    assert refused(data) == errors.NOT_READ


def test_a_stream_of_another_size_is_refused_before_it_is_decoded() -> None:
    small = encoded(Image.new("RGB", (20_000, 1)), "JPEG")
    assert refused(encapsulated([small], JPEGBaseline8Bit, in_colour("RGB"))) == errors.OTHER_PIXELS
    grey = encoded(Image.new("L", (38, 34)), "JPEG")
    assert refused(encapsulated([grey], JPEGBaseline8Bit, in_colour("RGB"))) == errors.OTHER_PIXELS


@pytest.mark.parametrize("kind", ["JPEG", "JPEG-LS", "JPEG 2000", "RLE"])
def test_a_stream_that_is_cut_off_is_refused(kind: str) -> None:
    noise = _RNG.integers(0, 4096, (64, 64)).astype(np.uint16)
    plain = native(noise, 12, PatientName="Doe^Jane")
    if kind == "JPEG":
        picture = Image.fromarray((noise >> 4).astype(np.uint8))
        stream = encoded(picture, "JPEG", quality=95)
        whole = encapsulated([stream], JPEGBaseline8Bit, header(64, 64, 1, 8, signed=False))
    else:
        syntax = {"JPEG-LS": JPEGLSLossless, "JPEG 2000": JPEG2000Lossless, "RLE": RLELossless}
        dataset = dcmread(io.BytesIO(plain))
        dataset.compress(syntax[kind], generate_instance_uid=False)
        out = io.BytesIO()
        dataset.save_as(out)
        whole = out.getvalue()
    assert shown(whole).pixels.shape == (64, 64)
    assert refused(whole[: len(whole) * 2 // 3]) == errors.BROKEN
    # The fragment is whole, and what is in it is not.
    at = whole.index(struct.pack("<HHI", 0xFFFE, 0xE000, 0)[:4], whole.index(b"\xe0\x7f\x10\0"))
    first = at + 8 + int.from_bytes(whole[at + 4 : at + 8], "little")
    length = int.from_bytes(whole[first + 4 : first + 8], "little") // 2 & ~1
    inner = whole[: first + 4] + struct.pack("<I", length) + whole[first + 8 :][:length]
    assert refused(inner + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)) == errors.BROKEN


def test_a_last_frame_that_is_cut_off_is_refused_and_the_others_are_not() -> None:
    frames = np.stack([GREY, GREY])
    data = native(frames, 12, NumberOfFrames=2)[:-10]
    assert near(shown(data).pixels, spread(GREY))
    assert refused(data, 1) == errors.BROKEN
