"""What departments send, and what becomes of it: a picture, or a reason."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from PIL.Image import Transpose

from pipeline.images import decoding
from pipeline.images.picture import Picture, Unusable, decode, inspect
from pipeline.images.previews import preview
from tests.bad_files import unusable

CAP = 1_000_000


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def picture(data: bytes) -> Picture:
    result = decode(data, CAP)
    assert isinstance(result, Picture), result
    return result


def pixel(data: bytes, x: int = 0, y: int = 0) -> tuple[int, ...]:
    value = picture(data).image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def drawing(width: int = 60, height: int = 40) -> Image.Image:
    """Smooth, so that JPEG keeps it, and different in all four corners."""
    y, x = np.mgrid[:height, :width]
    channels = (x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height))
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and holds next to none."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )


def test_an_image_comes_back_pixel_for_pixel() -> None:
    image = drawing()
    got = picture(encoded(image))
    assert (got.width, got.height, got.image.mode) == (60, 40, "RGB")
    assert np.array_equal(np.asarray(got.image), np.asarray(image))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "AVIF", "PPM"])
def test_every_format_named_is_read(kind: str) -> None:
    got = picture(encoded(drawing(), kind))
    assert (got.width, got.height) == (60, 40)


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"", decoding.EMPTY),
        (b"hello, this is a letter", unusable("text")),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, decoding.BROKEN),
        (b"\0\0\0\x18ftypheic" + b"\0" * 32, unusable("heic")),
        (b"%PDF-1.7 ...", unusable("pdf")),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", unusable("postscript")),
        (png_header(2000, 2000), decoding.TOO_MANY_PIXELS),
    ],
)
def test_the_header_is_enough_to_refuse(data: bytes, answer: Unusable) -> None:
    assert inspect(data, CAP) == answer
    assert decode(data, CAP) == answer


def test_size_is_checked_before_decoding_and_pillow_does_not_interfere() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # 400 megapixels: Pillow by itself would raise its DecompressionBombError.
        assert decode(png_header(20_000, 20_000), CAP) == decoding.TOO_MANY_PIXELS
        assert inspect(png_header(20_000, 20_000), 500_000_000) is None


def test_one_pixel_over_the_cap() -> None:
    data = encoded(drawing(60, 40))
    assert isinstance(decode(data, 2400), Picture)
    assert decode(data, 2399) == decoding.TOO_MANY_PIXELS


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (65_535, 1)])
def test_thin_images_are_images(size: tuple[int, int]) -> None:
    got = picture(encoded(Image.new("RGB", size, "red")))
    assert (got.width, got.height) == size


def test_a_thread_of_pixels_that_would_swell_while_it_is_resized_is_refused() -> None:
    assert decode(png_header(1, 100_000_000), 100_000_000) == decoding.TOO_LONG


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"])
def test_a_truncated_file_is_damaged_not_grey(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    result = decode(data[: len(data) // 2], CAP)
    assert isinstance(result, Unusable)


def test_no_byte_that_is_flipped_or_cut_makes_it_raise() -> None:
    fuzz = np.random.default_rng(1)
    kinds = ("JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP", "PPM", "JPEG2000")
    for kind in kinds:
        clean = encoded(drawing(24, 16), kind)
        for _ in range(60):
            data = bytearray(clean)
            for place in fuzz.integers(0, len(data), 4):
                data[place] = fuzz.integers(256)
            cut = bytes(data[: int(fuzz.integers(1, len(data) + 1))])
            assert isinstance(decode(cut, CAP), Picture | Unusable)


@pytest.mark.parametrize("error", [MemoryError, RecursionError, OverflowError, zlib.error])
def test_whatever_a_decoder_raises_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fails(*_: object) -> None:
        raise error("content of the file")

    data = encoded(drawing())
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fails)
    result = decode(data, CAP)
    assert result == (decoding.NO_MEMORY if error is MemoryError else decoding.BROKEN)


def test_an_operators_interrupt_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    data = encoded(drawing())
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decode(data, CAP)


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (2, Transpose.FLIP_LEFT_RIGHT),
        (3, Transpose.ROTATE_180),
        (4, Transpose.FLIP_TOP_BOTTOM),
        (5, Transpose.TRANSPOSE),
        (6, Transpose.ROTATE_270),
        (7, Transpose.TRANSVERSE),
        (8, Transpose.ROTATE_90),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_exif_orientation_comes_before_conversion(
    orientation: int, turned: Transpose, mode: str
) -> None:
    image = drawing().convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    got = picture(encoded(image, exif=exif))
    upright = image.transpose(turned).convert("RGB")
    assert (got.width, got.height) == upright.size
    assert np.array_equal(np.asarray(got.image), np.asarray(upright))


@pytest.mark.filterwarnings("ignore:.*EXIF.*:UserWarning")
def test_broken_exif_says_nothing_against_the_pixels() -> None:
    clean = encoded(drawing(), "JPEG")
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff garbage"
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    assert picture(clean[:2] + segment + clean[2:]).width == 60


def test_what_is_transparent_is_on_white() -> None:
    clear_red = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    half_black = Image.new("LA", (2, 2), (0, 128))
    assert pixel(encoded(clear_red)) == (255, 255, 255)
    assert pixel(encoded(half_black)) == (127, 127, 127)


def test_a_palette_with_a_transparent_colour() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    data = encoded(image, transparency=0)
    assert pixel(data, 0) == (255, 255, 255)
    assert pixel(data, 1) == (0, 0, 255)


def test_one_bit_and_eight_bit_grey() -> None:
    assert pixel(encoded(Image.new("1", (2, 2), 1))) == (255, 255, 255)
    assert pixel(encoded(Image.new("L", (2, 2), 77))) == (77, 77, 77)


def test_cmyk_as_adobe_writes_it() -> None:
    # No ink is white, all the cyan is without red. Pillow writes it inverted, with Adobe's marker.
    for ink, red in (((0, 0, 0, 0), 255), ((255, 0, 0, 0), 0)):
        data = encoded(Image.new("CMYK", (8, 8), ink), "JPEG", quality=95)
        assert b"Adobe" in data
        assert abs(pixel(data)[0] - red) <= 3


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [(np.uint16, 0, 4095), (np.uint16, 100, 900), (np.int32, -1024, 3071), (np.float32, -0.5, 1.5)],
)
def test_deep_greyscale_keeps_its_contrast(dtype: type, low: float, high: float) -> None:
    """12 bits in 16, Hounsfield units, floats: the file does not say which, its values do."""
    values = np.linspace(low, high, 256).reshape(16, 16).astype(dtype)
    got = np.asarray(picture(encoded(Image.fromarray(values), "TIFF")).image)
    assert (got[0, 0] == 0).all()
    assert (got[-1, -1] == 255).all()
    assert len(np.unique(got)) > 250


def test_deep_greyscale_of_one_value_or_of_no_numbers_is_black() -> None:
    flat = np.full((4, 4), 1234, np.uint16)
    empty = np.array([[np.nan, np.inf], [-np.inf, 0]], np.float32)
    assert not np.asarray(picture(encoded(Image.fromarray(flat))).image).any()
    dark = np.asarray(picture(encoded(Image.fromarray(empty), "TIFF")).image)
    assert dark[0, 0].tolist() == [0, 0, 0]


def test_lab_is_converted() -> None:
    assert min(pixel(encoded(Image.new("LAB", (4, 4), (255, 128, 128)), "TIFF"))) > 250


def test_the_first_frame_counts() -> None:
    red, blue = (Image.new("RGB", (3, 3), colour) for colour in ("red", "blue"))
    for kind in ("GIF", "TIFF", "PNG"):
        data = encoded(red, kind, save_all=True, append_images=[blue])
        assert pixel(data) == (255, 0, 0)


def test_a_preview_is_small_in_proportion_and_never_enlarged() -> None:
    wide = Image.open(io.BytesIO(preview(picture(encoded(drawing(600, 150))), 200)))
    assert (wide.format, wide.size) == ("JPEG", (200, 50))
    small = Image.open(io.BytesIO(preview(picture(encoded(drawing(60, 40))), 200)))
    assert small.size == (60, 40)
    thin = Image.open(io.BytesIO(preview(picture(encoded(drawing(2000, 1))), 200)))
    assert thin.size == (200, 1)


def test_a_preview_carries_no_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "Doe, Jane"
    exif.get_ifd(0x8825)[1] = "N"  # GPS
    data = encoded(
        drawing(), "JPEG", exif=exif, comment=b"Doe, Jane", icc_profile=b"Doe, Jane", dpi=(300, 300)
    )
    assert data.count(b"Jane") == 3
    shown = preview(picture(data), 30)
    assert b"Jane" not in shown
    again = Image.open(io.BytesIO(shown))
    assert not again.getexif()
    assert not {"icc_profile", "comment", "exif", "dpi"} & again.info.keys()


def test_reasons_are_constant_and_say_nothing_of_the_file() -> None:
    data = b"Doe, Jane, born 1950"
    result = decode(data, CAP)
    assert isinstance(result, Unusable)
    assert "Jane" not in result.reason


def test_pillow_does_not_log_tags(caplog: pytest.LogCaptureFixture) -> None:
    exif = Image.Exif()
    exif[0x010E] = "Doe, Jane"
    data = encoded(drawing(), "TIFF", tiffinfo={270: "Doe, Jane"}, exif=exif)
    with caplog.at_level("DEBUG"):
        picture(data)
    assert "Jane" not in caplog.text
