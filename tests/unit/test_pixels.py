"""Every encoding gives the picture of its twin of 8 bits, or is named as not read.

Never is an intact file called damaged, and never are its pixels others. The rules are those of
docs/formats.md.
"""

from itertools import product

import numpy as np
import pytest

from pipeline.images import decoding
from pipeline.images.picture import Picture, Unusable, decode, inspect
from tests import made_bytes as made
from tests.made_bytes import any_tiff, encoded, png16

CAP = 1_000_000

# In grey levels: what rounding may change.
ROUNDING = 1

_RNG = np.random.default_rng(0)
COLOURS = _RNG.integers(0, 256, (22, 37, 3)).astype(np.uint8)
COLOURS[0, 0], COLOURS[0, 1] = 0, 255  # so that each range is whole
GREY = COLOURS[..., :1]

BLACK_IS_ZERO, WHITE_IS_ZERO, RGB, PALETTE, YCBCR = 1, 0, 2, 3, 6

LAYOUTS = pytest.mark.parametrize(
    "layout",
    [
        {"order": order, "apart": apart, "packed": packed, "tile": tile}
        for order, apart, packed, tile in product("<>", (False, True), (False, True), (0, 16))
    ],
    ids=lambda layout: "-".join(name for name, value in layout.items() if value),
)


def as_type(values: np.ndarray, form: str) -> np.ndarray:
    """The same picture in other numbers: through the whole range of integers, 0 to 1 in floats."""
    kind = np.dtype(form)
    if kind.kind == "f":
        return (values / 255).astype(kind)
    if kind.kind == "c":
        return values.astype(kind)
    wide = values.astype(object) * (np.iinfo(kind).max // 255) if kind.itemsize > 1 else values
    if kind.kind == "i":
        wide = (values.astype(np.int64) - 128) * (2 ** (8 * kind.itemsize - 8))
    return np.asarray(wide).astype(kind)


def apart_by(data: bytes, twin: np.ndarray) -> int:
    """The largest difference of a channel, in grey levels."""
    result = decode(data, CAP)
    assert isinstance(result, Picture), result
    return int(np.abs(np.asarray(result.image).astype(int) - twin).max())


@LAYOUTS
@pytest.mark.parametrize("form", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
@pytest.mark.parametrize("zero", [BLACK_IS_ZERO, WHITE_IS_ZERO], ids=["black", "white"])
def test_grey_of_every_type(form: str, zero: int, layout: dict[str, object]) -> None:
    data = any_tiff(as_type(GREY, form), photometric=zero, **layout)
    assert apart_by(data, GREY if zero == BLACK_IS_ZERO else 255 - GREY) <= ROUNDING


@LAYOUTS
@pytest.mark.parametrize("form", ["u1", "u2"])
def test_colours_of_8_and_16_bits(form: str, layout: dict[str, object]) -> None:
    assert apart_by(any_tiff(as_type(COLOURS, form), photometric=RGB, **layout), COLOURS) == 0


@LAYOUTS
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_colours_of_a_sensors_bits_in_16(bits: int, layout: dict[str, object]) -> None:
    deep = COLOURS.astype(np.uint16) << bits - 8
    data = any_tiff(deep, photometric=RGB, **layout)
    if layout["apart"] and layout["packed"]:
        result = decode(data, CAP)
        assert isinstance(result, Unusable)
        assert "not read" in result.reason
    else:
        assert apart_by(data, COLOURS) <= ROUNDING


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_png_of_a_sensors_bits_in_16(bits: int, channels: int) -> None:
    """With transparency too, all of it opaque: the picture is the same."""
    shown = COLOURS if channels > 2 else np.repeat(GREY, 3, axis=2)
    deep = shown / 255 * ((1 << bits) - 1)
    values = deep[..., : channels if channels > 2 else 1].round().astype(np.uint16)
    if channels in (2, 4):
        opaque = np.full((*values.shape[:2], 1), (1 << bits) - 1, np.uint16)
        values = np.concatenate([values, opaque], axis=2)
    assert apart_by(png16(values), shown) <= ROUNDING


def test_a_black_picture_of_16_bits_is_black() -> None:
    assert apart_by(png16(np.zeros((8, 8, 3), np.uint16)), np.zeros((8, 8, 3))) == 0


@pytest.mark.parametrize(
    ("low", "high", "form"),
    [(4_294_967_000, 4_294_967_255, "u4"), (-(2**31), 2**31 - 1, "i4"), (-1e30, 1e30, "f8")],
)
def test_grey_at_the_end_of_its_range(low: float, high: float, form: str) -> None:
    """Where floats of 32 bits would merge neighbours, or differences would not fit."""
    values = (low + GREY / 255 * (high - low)).astype(form)
    assert apart_by(any_tiff(values, photometric=BLACK_IS_ZERO), GREY) <= ROUNDING


@LAYOUTS
@pytest.mark.parametrize(
    ("form", "photometric", "channels", "name"),
    [
        ("f2", BLACK_IS_ZERO, 1, "16-bit floats in grey"),
        ("u8", BLACK_IS_ZERO, 1, "64-bit integers in grey"),
        ("i8", WHITE_IS_ZERO, 1, "64-bit signed integers in grey"),
        ("c8", BLACK_IS_ZERO, 1, "64-bit complex numbers in grey"),
        ("u2", PALETTE, 1, "16-bit integers in a palette"),
        ("i1", RGB, 3, "8-bit signed integers in colour"),
        ("i2", RGB, 3, "16-bit signed integers in colour"),
        ("u4", RGB, 3, "32-bit integers in colour"),
        ("i4", RGB, 3, "32-bit signed integers in colour"),
        ("f2", RGB, 3, "16-bit floats in colour"),
        ("f4", RGB, 3, "32-bit floats in colour"),
        ("f8", RGB, 3, "64-bit floats in colour"),
    ],
)
def test_what_is_not_read_is_named(
    form: str, photometric: int, channels: int, name: str, layout: dict[str, object]
) -> None:
    values = as_type(COLOURS[..., :channels], form)
    data = any_tiff(values, photometric=photometric, **layout)
    for result in (decode(data, CAP), inspect(data, CAP)):
        assert isinstance(result, Unusable)
        assert result.reason.startswith(f"a TIFF of {name}; this encoding is not read")


@pytest.mark.parametrize("step", [1, 257], ids=["8 bits, as old programs write", "16 bits"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_colours_of_a_palette(step: int, packed: bool) -> None:
    ramp = [step * i for i in range(256)]
    colours = [*ramp, *reversed(ramp), *ramp]
    data = any_tiff(GREY, photometric=PALETTE, packed=packed, more={made.COLOUR_MAP: colours})
    shown = np.concatenate([GREY, 255 - GREY, GREY], axis=2)
    assert apart_by(data, shown) == 0


@pytest.mark.parametrize("form", ["u1", "i1", "u2", "u4", "f4", "f8"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_cut_tiff_is_damaged_whatever_its_type(form: str, packed: bool) -> None:
    data = any_tiff(as_type(GREY, form), photometric=BLACK_IS_ZERO, packed=packed)
    assert decode(data[: len(data) * 3 // 4], CAP) == decoding.BROKEN


def test_raw_files_whose_tags_lie_at_the_end_are_known() -> None:
    """Beyond the bytes by which a folder's walk judges; their small picture is not taken."""
    tags = {made.WIDTH: 8, made.HEIGHT: 8, made.BITS: 8, made.PHOTOMETRIC: 1, 254: 1, 330: 8}
    near = made.tiff(tags, bytes(64))
    count = int.from_bytes(near[8:10], "little")
    directory = near[8 : 10 + 12 * count + 4]
    far = b"II*\0" + (8000).to_bytes(4, "little") + bytes(7992) + directory
    for data in (near, far):
        result = decode(data, CAP)
        assert isinstance(result, Unusable)
        assert "raw" in result.reason


# --- PNG's checksums -----------------------------------------------------------------------------

# By the specification, the fifth bit of the first letter says whether a picture needs a chunk.
TEXTS = [b"tEXt", b"zTXt", b"iTXt", b"tIME", b"gAMA", b"eXIf", b"iCCP", b"prIv"]


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind the pixels"])
def test_a_wrong_checksum_beside_the_picture_is_no_matter(kind: bytes, behind: bool) -> None:
    chunk = made.with_wrong_checksum(made.PNG_START + made.png_chunk(kind, b"a\0bcd"), kind)[8:]
    whole = encoded(made.drawing())
    at = len(whole) - 12 if behind else 33
    assert apart_by(whole[:at] + chunk + whole[at:], np.asarray(made.drawing())) == 0


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS", b"IDAT"])
def test_a_wrong_checksum_of_the_picture_is_damage(kind: bytes) -> None:
    data = encoded(made.drawing().quantize(16), transparency=0)
    assert isinstance(decode(data, CAP), Picture)
    assert decode(made.with_wrong_checksum(data, kind), CAP) == decoding.BROKEN
