"""JPEGs decoded without Pillow show what Pillow shows, and are their own previews, bare."""

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from pipeline.images import jpeg
from pipeline.images.bare_jpeg import bare
from pipeline.images.hashes import perceptual_hash
from pipeline.images.picture import Picture, Unusable, cut, decode
from pipeline.images.pixels import PixelSteps
from pipeline.images.preparing import Order, Prepared, prepare
from pipeline.images.previews import preview
from tests.made_bytes import encoded

CAP = 1_000_000

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")  # of odd metadata
NAME = b"Doe, Jane"


def photograph(width: int = 61, height: int = 45, mode: str = "RGB") -> Image.Image:
    """Smooth, with noise, and of odd sizes: the last blocks are not whole."""
    draw = np.random.default_rng(width * height)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 7), np.cos(y / 5), np.sin((x + y) / 9)], axis=2)
    noise = draw.normal(0, 12, waves.shape)
    return Image.fromarray((128 + 90 * waves + noise).clip(0, 255).astype(np.uint8)).convert(mode)


def segment(code: int, body: bytes) -> bytes:
    return bytes((0xFF, code)) + (len(body) + 2).to_bytes(2, "big") + body


def behind_start(data: bytes, *segments: bytes) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


def without(data: bytes, code: int) -> bytes:
    """Without the first segment of that code."""
    start = data.index(bytes((0xFF, code)))
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(photograph(), "JPEG", exif=exif)


def adobe(transform: int) -> bytes:
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


def kinds() -> Iterator[tuple[str, bytes]]:
    for mode, progressive, sampling, quality in product(
        ("RGB", "L"), (False, True), (0, 1, 2), (30, 95)
    ):
        name = f"{mode} {'progressive' if progressive else 'baseline'} {sampling} q{quality}"
        yield (
            name,
            encoded(
                photograph(mode=mode),
                "JPEG",
                progressive=progressive,
                subsampling=sampling,
                quality=quality,
            ),
        )
    plain = encoded(photograph(), "JPEG")
    for sampling in ("411", "440", "422", "Gray"):
        yield sampling, simplejpeg.encode_jpeg(np.asarray(photograph()), 80, "RGB", sampling)
    for side in (1, 2, 7, 8, 9, 16, 17):
        yield f"{side} wide", encoded(photograph(side, 33), "JPEG")
        yield f"{side} high", encoded(photograph(33, side), "JPEG")
    for orientation in range(10):
        yield f"orientation {orientation}", turned(orientation)
    yield "restarts", encoded(photograph(), "JPEG", restart_marker_blocks=1)
    yield "kept as RGB", encoded(photograph(), "JPEG", keep_rgb=True)
    yield "no JFIF", without(plain, 0xE0)
    for transform in range(3):
        yield f"Adobe {transform}", behind_start(without(plain, 0xE0), adobe(transform))
        yield f"JFIF, Adobe {transform}", behind_start(plain, adobe(transform))
    yield "components by letters", behind_start(with_components(without(plain, 0xE0), b"RGB"))
    yield "odd components", with_components(without(plain, 0xE0), b"\x05\x06\x07")
    yield "CMYK", encoded(photograph(mode="CMYK"), "JPEG")
    yield "broken EXIF", behind_start(plain, segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"))
    yield "orientation in XMP", behind_start(plain, segment(0xE1, XMP))
    yield "fill bytes", plain[:2] + b"\xff\xff\xff" + plain[2:]
    yield "behind its end", plain + NAME
    yield "two pictures", plain + encoded(photograph(9, 9), "JPEG")
    yield "text in a segment of a length too long", behind_start(plain, b"\xff\xe5\xff\xff" + NAME)


XMP = (
    b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description "
    b'tiff:Orientation="6"></rdf:Description></x:xmpmeta>'
)


def with_components(data: bytes, names: bytes) -> bytes:
    """The same with other identifiers of components, in the frame and in the scan."""
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    made = bytearray(data)
    for number, name in enumerate(names):
        made[frame + 10 + 3 * number] = name
        made[scan + 5 + 2 * number] = name
    return bytes(made)


KINDS = dict(kinds())
EVERY = pytest.mark.parametrize("name", KINDS)


def by_pillow(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    with suppress(Exception):  # its EXIF is broken, so it is not turned
        ImageOps.exif_transpose(image, in_place=True)
    return image.convert("RGB")


@EVERY
def test_every_pixel_and_the_hash_are_pillows(name: str) -> None:
    try:
        expected = by_pillow(KINDS[name])
    except (OSError, SyntaxError):
        assert isinstance(decode(KINDS[name], CAP), Unusable)
        return
    made = decode(KINDS[name], CAP)
    assert isinstance(made, Picture)
    np.testing.assert_array_equal(np.asarray(made.image), np.asarray(expected))
    np.testing.assert_array_equal(made.array[..., :3], np.asarray(expected))
    assert (made.width, made.height) == expected.size
    assert perceptual_hash(made) == perceptual_hash(Picture(expected))


def test_nearly_all_of_them_take_the_fast_way() -> None:
    slow = {name for name, data in KINDS.items() if not is_fast(data)}
    assert slow == {"CMYK", "Adobe 2", "text in a segment of a length too long"}


def is_fast(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return jpeg.plain(opened, data) is not None
    except OSError:
        return False


@pytest.mark.parametrize("progressive", [False, True])
def test_whatever_is_damaged_is_judged_as_pillow_judges_it(
    progressive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut anywhere, and with any byte changed: the same pixels, or the same reason."""
    data = encoded(photograph(), "JPEG", progressive=progressive, quality=60)
    draw = np.random.default_rng(1)
    damaged = [data[:end] for end in range(2, len(data), 7)]
    for place in draw.integers(2, len(data), 400):
        changed = bytearray(data)
        changed[place] = draw.integers(0, 256)
        damaged.append(bytes(changed))
    fast = [decode(each, CAP) for each in damaged]
    monkeypatch.setattr(jpeg, "plain", lambda *_: None)
    for ours, each in zip(fast, damaged, strict=True):
        theirs = decode(each, CAP)
        if isinstance(theirs, Unusable) or isinstance(ours, Unusable):
            assert ours == theirs
        else:
            np.testing.assert_array_equal(np.asarray(ours.image), np.asarray(theirs.image))


# --- previews ------------------------------------------------------------------------------------


@EVERY
def test_a_jpeg_that_is_its_own_preview_keeps_every_pixel(name: str) -> None:
    made = decode(KINDS[name], CAP)
    if isinstance(made, Unusable) or made.file is None:
        return
    own = bare(made.file)
    assert own is not None
    shown = decode(own, CAP)
    assert isinstance(shown, Picture)
    np.testing.assert_array_equal(shown.array, made.array)
    assert NAME not in own and len(own) <= len(made.file) + 2


def full_of_names() -> bytes:
    """A name in every segment that can hold one, in a thumbnail, behind each scan and the end."""
    data = encoded(photograph(), "JPEG", progressive=True)
    codes = (*range(0xE0, 0xF0), 0xFE)
    beside = b"".join(segment(code, NAME) for code in codes)
    thumbnail = b"JFIF\0\x01\x02\0\0\1\0\1\x03\x01" + NAME
    parts = data.split(b"\xff\xda")
    return behind_start(
        (beside + b"\xff\xda").join(parts) + NAME,
        segment(0xE0, thumbnail),
        segment(0xEE, b"Adobe\0\x64\0\0\0\0\1" + NAME),
        beside,
    )


def test_nothing_beside_the_picture_is_left() -> None:
    data = full_of_names()
    made = decode(data, CAP)
    assert isinstance(made, Picture)
    assert made.file is not None and data.count(NAME) > 100
    shown = preview(made, 100)
    assert NAME not in shown
    np.testing.assert_array_equal(decode(shown, CAP).array, made.array)  # type: ignore[union-attr]
    codes = {shown[at + 1] for at in range(len(shown) - 1) if shown[at] == 0xFF} - set(
        range(0xD0, 0xD8)
    )
    assert codes <= {0x00, 0xD8, 0xD9, 0xDA, 0xDB, 0xC2, 0xC4, 0xE0, 0xEE, 0xFF}


def before_end(data: bytes) -> bytes:
    return data[:-2] + NAME + data[-2:]


def in_a_table(data: bytes) -> bytes:
    """Longer than its table: libjpeg refuses it, so nothing hides there."""
    return behind_start(data, segment(0xDB, bytes([0]) + bytes([1]) * 64 + NAME))


def in_a_rare_segment(data: bytes) -> bytes:
    return behind_start(data, segment(0xDF, NAME))


@pytest.mark.parametrize("hide", [before_end, in_a_table, in_a_rare_segment])
def test_what_hides_in_the_picture_is_not_shown(hide: Callable[[bytes], bytes]) -> None:
    data = hide(encoded(photograph(), "JPEG"))
    made = decode(data, CAP)
    if isinstance(made, Picture):
        assert NAME not in preview(made, 100)


@pytest.mark.parametrize(
    ("data", "longest"),
    [
        (encoded(photograph(), "JPEG"), 60),
        (turned(6), 100),
        (encoded(photograph(mode="CMYK"), "JPEG"), 100),
        (encoded(photograph(), "PNG"), 100),
        (encoded(photograph(), "JPEG") + bytes(9), 20),
    ],
    ids=["larger", "turned", "CMYK", "no JPEG", "much larger"],
)
def test_others_are_drawn(data: bytes, longest: int) -> None:
    made = decode(data, CAP)
    assert isinstance(made, Picture)
    shown = Image.open(io.BytesIO(preview(made, longest)))
    assert (shown.format, shown.mode) == ("JPEG", "RGB")
    assert max(shown.size) == min(longest, 61)
    assert (shown.width > shown.height) == (made.width > made.height)
    small = made.image.resize(shown.size, Image.Resampling.BILINEAR)
    by_pillow = Image.open(io.BytesIO(encoded(small, "JPEG", quality=88)))
    assert apart(shown, small) < 1.1 * apart(by_pillow, small)


def apart(one: Image.Image, other: Image.Image) -> float:
    """In grey levels, on average."""
    return float(np.abs(np.asarray(one).astype(float) - np.asarray(other)).mean())


def test_a_preview_is_no_larger_than_its_pixels() -> None:
    """Fill bytes before a marker are allowed, in any number."""
    plain = encoded(photograph(), "JPEG", quality=95)
    data = plain[:-2] + b"\xff" * 100_000 + plain[-2:]
    made = decode(data, CAP)
    assert isinstance(made, Picture)
    assert len(preview(made, 100)) < len(plain) + 10


def test_a_part_of_a_picture_has_no_file() -> None:
    made = decode(encoded(photograph(), "JPEG"), CAP)
    assert isinstance(made, Picture)
    part = cut(made, 0.25, 0.25, 0.5, 0.5)
    assert isinstance(part, Picture) and part.file is None
    np.testing.assert_array_equal(
        np.asarray(part.image), np.asarray(made.image.crop((15, 11, 46, 34)))
    )


def test_a_masked_picture_is_never_its_own_preview() -> None:
    data = encoded(photograph(), "JPEG")
    steps = PixelSteps((32, 32), Image.Resampling.BICUBIC, None, resizer="torch")
    plain = prepare(data, CAP, Order(steps, 100))
    masked = prepare(data, CAP, Order(steps, 100, masks=((0, 0, 61, 20),)))
    assert isinstance(plain, Prepared) and isinstance(masked, Prepared)
    assert np.asarray(Image.open(io.BytesIO(masked.preview)))[:16].max() < 16
    assert np.asarray(Image.open(io.BytesIO(plain.preview)))[:16].max() > 100
    assert np.asarray(masked.pixels)[:, :8].max() == 0
    assert masked.phash != plain.phash
