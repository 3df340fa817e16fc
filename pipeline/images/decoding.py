"""Decodes whatever a department sends into a picture or a reason.

Unusable images are expected, so they are values (`Unusable`), never exceptions. The api uses this
module too: it imports Pillow and NumPy, not torch.
"""

import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, ImageOps

from pipeline.dicom.errors import Refused
from pipeline.images import depths, jpeg, png, tiff
from pipeline.images.bombs import tile_pixels, too_many_scans
from pipeline.images.kinds import HEAD, KINDS, Fate, kind_of, not_read, reads_heic
from pipeline.images.picture import Picture
from pipeline.images.signatures import is_raw

# The decoders of these formats are maintained against hostile files. Pillow would also read EPS
# (through Ghostscript), WMF, PSD and others, which no department sends.
FORMATS: tuple[str, ...] = (
    "JPEG",
    "PNG",
    "TIFF",
    "BMP",
    "DIB",
    "GIF",
    "WEBP",
    "AVIF",
    "JPEG2000",
    "PPM",
)

# Phones write HEIC. The extra `heic` adds it, for the workers and for the api.
if reads_heic():
    import pillow_heif

    pillow_heif.register_heif_opener(
        thumbnails=False, depth_images=False, aux_images=False, decode_threads=1
    )
    FORMATS = (*FORMATS, "HEIF")

# This is JPEG's own limit. Resizing takes more work and memory the longer a side is: a PNG of
# 100 KB can be one pixel wide and a hundred million high, and would take 3 GB of coefficients.
MAX_SIDE = 65_535

# Of 9, for whole pictures: 6 takes twice the time and saves a tenth.
PNG_EFFORT = 3

# We check the caller's limit right after opening; Pillow's own limit would warn or raise by itself.
Image.MAX_IMAGE_PIXELS = None
# We reject truncated files; Pillow must not fill them up with grey.
ImageFile.LOAD_TRUNCATED_IMAGES = False
# At DEBUG, Pillow logs the values of EXIF and TIFF tags: patients' names, places, serial numbers.
# The reasons that we return already say what it logs at ERROR.
logging.getLogger("PIL").setLevel(logging.CRITICAL)
# Pillow warns about odd metadata, which we ignore.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True)
class Unusable:
    """Why an image is rejected: a constant sentence without the image's content or names."""

    reason: str


EMPTY = Unusable("there is no file, or it is empty or cannot be read")
TOO_MANY_PIXELS = Unusable("more pixels than KINDRED_MAX_PIXELS allows")
TOO_LONG = Unusable(f"a side is longer than {MAX_SIDE:,} pixels")
TOO_MANY_SCANS = Unusable("a progressive JPEG of more scans than any program writes")
BROKEN = Unusable("the image is truncated or damaged")
NO_MEMORY = Unusable("the image takes more memory than there is")

# In pixels. A smaller part of a picture, once enlarged, shows nothing to compare.
LEAST_SIDE = 8
TOO_SMALL = Unusable(f"the rectangle must be at least {LEAST_SIDE} pixels wide and high")


def inspect(data: bytes, max_pixels: int) -> Unusable | None:
    """Why the header alone rules out an image; None if only decoding can tell."""
    if is_dicom(data):
        return _checked(data, max_pixels)
    opened = _open(data, max_pixels)
    if isinstance(opened, Unusable):
        return opened
    opened.close()
    return None


def decode(
    data: bytes, max_pixels: int, frame: int = 0, window: tuple[float, float] | None = None
) -> Picture | Unusable:
    """The first frame of an image file, upright and in RGB, or the reason why it is unusable.

    Of DICOM, it is the frame with this number, counted from 0; by its own rule, or in a `window`
    that a reader has chosen.

    No content of `data` makes it raise. It drops an ICC profile instead of applying it: the
    reference notebook uses the file's own pixels, and the preview shows what the encoder saw.
    """
    if is_dicom(data):
        return _rendered(data, max_pixels, frame, window)
    opened = _open(data, max_pixels)
    if isinstance(opened, Unusable):
        return opened
    try:
        with opened:
            if (plain := jpeg.plain(opened, data)) is not None:
                return plain
            rgb = _rgb(opened, data)
            if isinstance(rgb, Unusable):
                return rgb
    except MemoryError:
        return NO_MEMORY
    except Exception:  # noqa: BLE001 - see _open
        return _unread_or_broken(data)
    rgb.info.clear()  # saving the image would copy comments and profiles into the new file
    return Picture(rgb)


def is_dicom(data: bytes) -> bool:
    return kind_of(data[:HEAD]).name == "dicom"


def _checked(data: bytes, max_pixels: int) -> Unusable | None:
    from pipeline.dicom.rendering import check  # with pydicom

    try:
        check(data, max_pixels)
    except Refused as refused:
        return Unusable(refused.reason)
    except MemoryError:
        return NO_MEMORY
    return None


def _rendered(
    data: bytes, max_pixels: int, frame: int, window: tuple[float, float] | None
) -> Picture | Unusable:
    from pipeline.dicom.rendering import render

    try:
        made = render(data, frame, max_pixels, window)
        return Picture(
            Image.fromarray(made.pixels).convert("RGB"), rule=made.rule, window=made.window
        )
    except Refused as refused:
        return Unusable(refused.reason)
    except MemoryError:
        return NO_MEMORY


def cut(
    picture: Picture, left: float, top: float, width: float, height: float
) -> Picture | Unusable:
    """Cuts out a rectangle, given in fractions of the picture's width and height."""
    box = (
        round(left * picture.width),
        round(top * picture.height),
        min(picture.width, round((left + width) * picture.width)),
        min(picture.height, round((top + height) * picture.height)),
    )
    if min(box[2] - box[0], box[3] - box[1]) < LEAST_SIDE:
        return TOO_SMALL
    return picture.drawn(picture.image.crop(box))


def masked(picture: Picture, rectangles: Sequence[tuple[int, int, int, int]]) -> Picture:
    """With these (left, top, width, height), in pixels, made black."""
    image = picture.image.copy()
    for left, top, width, height in rectangles:
        image.paste((0, 0, 0), (left, top, left + width, top + height))
    return picture.drawn(image)


def whole(picture: Picture) -> bytes:
    """A PNG of all its pixels as they are; of a grey picture with one channel."""
    image = picture.image
    red, green, blue = image.split()
    if red.tobytes() == green.tobytes() == blue.tobytes():
        image = red
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=PNG_EFFORT)
    return out.getvalue()


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile | Unusable:
    """Reads the header of an image, but not its pixels."""
    if not data:
        return EMPTY
    kind = kind_of(data[:HEAD])
    if kind.fate is not Fate.TAKEN:
        return Unusable(kind.reason)
    try:
        opened = _opened(data)
        if opened is None:
            return BROKEN
        return _preview_alone(opened) or _too_large(opened, data, max_pixels) or opened
    except MemoryError:
        return NO_MEMORY
    # On hostile bytes Pillow raises whatever its parsers stumble over: OSError, SyntaxError,
    # ValueError, struct.error, EOFError, zlib.error, OverflowError and more, release by release.
    # One bad file must not end a job of a million, so this module catches them all.
    # KeyboardInterrupt and SystemExit are not subclasses of Exception, and pass.
    except Exception:  # noqa: BLE001
        return _unread_or_broken(data)


def _opened(data: bytes) -> ImageFile.ImageFile | None:
    """Pillow's own object, which has not read the pixels; None for a PNG with a wrong checksum."""
    intact = png.checked(data) if data.startswith(png.SIGNATURE) else data
    if intact is None:
        return None
    image = Image.open(io.BytesIO(intact), formats=FORMATS)
    tiff.mend(image)
    return image


def _preview_alone(opened: ImageFile.ImageFile) -> Unusable | None:
    """Cameras' raw files are TIFFs whose first picture is small, or no picture yet."""
    raw = opened.format == "TIFF" and is_raw(getattr(opened, "tag_v2", {}))
    return Unusable(KINDS["raw"].reason) if raw else None


def _unread_or_broken(data: bytes) -> Unusable:
    """Why Pillow has given up: an encoding that it does not know, or else damage."""
    name = jpeg.unread(data) if data.startswith(b"\xff\xd8") else tiff.unread(data)
    return Unusable(not_read(name)) if name else BROKEN


def _too_large(opened: ImageFile.ImageFile, data: bytes, max_pixels: int) -> Unusable | None:
    """Why decoding would take too much time or memory, as far as the header tells."""
    width, height = opened.size
    if width < 1 or height < 1:
        return BROKEN
    if max(width * height, tile_pixels(opened)) > max_pixels:
        return TOO_MANY_PIXELS
    if max(width, height) > MAX_SIDE:
        return TOO_LONG
    if opened.format in ("JPEG", "MPO") and too_many_scans(data, width * height, max_pixels):
        return TOO_MANY_SCANS
    return None


def _make_upright(image: Image.Image) -> None:
    """Applies the EXIF orientation in place. This has to come first: `convert` drops it."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:  # going on would use the image in the wrong orientation
        raise
    except Exception:  # noqa: BLE001 - the pixels can be fine although the EXIF is broken
        return


def _rgb(opened: ImageFile.ImageFile, data: bytes) -> Image.Image | Unusable:
    """A new RGB image, upright. The pixels of `opened` are not loaded yet."""
    deep, apart = depths.sixteen_bits(opened), tiff.channels_apart(opened)
    opened.load()
    if deep and depths.dark(opened):
        if apart:  # libtiff's part of Pillow has no way to the lower bytes
            return Unusable(not_read("a compressed TIFF of few bits in 16, its channels apart"))
        _lighten(opened, data)
    _make_upright(opened)
    numbers = tiff.numbers(opened)
    return _eight_bits(opened) if numbers is None else _of_numbers(opened, numbers)


def _lighten(loaded: ImageFile.ImageFile, data: bytes) -> None:
    """Replaces the upper bytes of 16 bits a channel by what the depth of the sensor makes of them.

    Pillow has no colours of 16 bits, so the file is decoded once more, for the lower bytes.
    """
    again = _opened(data)
    assert again is not None  # noqa: S101 - it was opened before
    with again:
        joined = depths.joined(np.asarray(loaded), depths.lower_bytes(again))
    loaded.paste(Image.fromarray(joined))


def _of_numbers(image: Image.Image, numbers: np.ndarray) -> Image.Image:
    grey = depths.shades(numbers)
    return Image.fromarray(255 - grey if tiff.white_is_zero(image) else grey).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """CMYK needs no special case: Pillow's decoder undoes Adobe's inversion."""
    if image.has_transparency_data:
        # Transformers' processors and every viewer use a white background too. Merely dropping the
        # alpha channel would uncover pixels that nobody has ever seen.
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
