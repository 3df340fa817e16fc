"""Decodes whatever a department sends into a picture or a reason, and draws previews.

Unusable images are expected, so they are values (`Unusable`), never exceptions. The api uses this
module too: it imports Pillow and NumPy, not torch.
"""

import io
import logging
import os
import warnings
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np
from PIL import Image, ImageFile, ImageOps
from PIL.Image import Resampling

from pipeline.images.bombs import tile_pixels, too_many_scans

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
try:
    import pillow_heif
except ImportError:
    _HEIC = "HEIC is not read here: install Kindred's extra heic, or export as JPEG or PNG"
else:
    pillow_heif.register_heif_opener(
        thumbnails=False, depth_images=False, aux_images=False, decode_threads=1
    )
    FORMATS = (*FORMATS, "HEIF")
    _HEIC = "a HEIC image that is truncated or damaged"

# This is JPEG's own limit. Resizing takes more work and memory the longer a side is: a PNG of
# 100 KB can be one pixel wide and a hundred million high, and would take 3 GB of coefficients.
MAX_SIDE = 65_535

# The JPEG quality of previews: no artefact looks like structure, and a preview takes a fifth of a
# PNG's size.
PREVIEW_QUALITY = 88

_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF 6.0, section 4

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
NOT_AN_IMAGE = Unusable("not an image that can be read: JPEG, PNG, TIFF, BMP, GIF, WebP, AVIF, PNM")
DICOM = Unusable("DICOM is not supported: export the image as PNG, TIFF or JPEG")
HEIC = Unusable(_HEIC)
PDF = Unusable("PDF is not supported: export the image as PNG, TIFF or JPEG")
TOO_MANY_PIXELS = Unusable("more pixels than KINDRED_MAX_PIXELS allows")
TOO_LONG = Unusable(f"a side is longer than {MAX_SIDE:,} pixels")
TOO_MANY_SCANS = Unusable("a progressive JPEG of more scans than any program writes")
BROKEN = Unusable("the image is truncated or damaged")
NO_MEMORY = Unusable("the image takes more memory than there is")

# In pixels. A smaller part of a picture, once enlarged, shows nothing to compare.
LEAST_SIDE = 8
TOO_SMALL = Unusable(f"the rectangle must be at least {LEAST_SIDE} pixels wide and high")

# Files that Pillow cannot read, or cannot read in this state: (offset, magic bytes, answer).
_SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", BROKEN),
    (0, b"\xff\xd8\xff", BROKEN),
    (0, b"II*\0", BROKEN),
    (0, b"MM\0*", BROKEN),
    (0, b"GIF8", BROKEN),
    (8, b"WEBP", BROKEN),
    (4, b"ftypavi", BROKEN),
    (128, b"DICM", DICOM),
    (4, b"ftyphei", HEIC),
    (4, b"ftyphev", HEIC),
    (4, b"ftypmif1", HEIC),
    (0, b"%PDF", PDF),
)


@dataclass(frozen=True)
class Picture:
    """An upright RGB image, 8 bits a channel, without any metadata."""

    image: Image.Image

    @property
    def width(self) -> int:
        """In pixels, after applying the EXIF orientation."""
        return self.image.width

    @property
    def height(self) -> int:
        """In pixels, after applying the EXIF orientation."""
        return self.image.height


def inspect(data: bytes, max_pixels: int) -> Unusable | None:
    """Why the header alone rules out an image; None if only decoding can tell."""
    opened = _open(data, max_pixels)
    if isinstance(opened, Unusable):
        return opened
    opened.close()
    return None


def decode(data: bytes, max_pixels: int) -> Picture | Unusable:
    """The first frame of an image file, upright and in RGB, or the reason why it is unusable.

    No content of `data` makes it raise. It drops an ICC profile instead of applying it: the
    reference notebook uses the file's own pixels, and the preview shows what the encoder saw.
    """
    opened = _open(data, max_pixels)
    if isinstance(opened, Unusable):
        return opened
    try:
        with opened:
            opened.load()
            _make_upright(opened)
            rgb = _rgb(opened)
    except MemoryError:
        return NO_MEMORY
    except Exception:  # noqa: BLE001 - see _open
        return BROKEN
    rgb.info.clear()  # saving the image would copy comments and profiles into the new file
    return Picture(rgb)


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
    return Picture(picture.image.crop(box))


def preview(picture: Picture, longest: int) -> bytes:
    """A JPEG of the picture with the same aspect, at most `longest` pixels on its longest side.

    It is never enlarged. It has no metadata because a `Picture` has none.
    """
    scale = min(1.0, longest / max(picture.image.size))
    width, height = (max(1, round(side * scale)) for side in picture.image.size)
    image = picture.image
    if (width, height) != image.size:
        # Hamming takes half the time of bicubic and is sharper than bilinear. The gap lets Pillow
        # shrink large scans in two steps.
        image = image.resize((width, height), Resampling.HAMMING, reducing_gap=2.0)
    with _scratch() as out:
        image.save(out, "JPEG", quality=PREVIEW_QUALITY)
        out.seek(0)
        return out.read()


def _scratch() -> BinaryIO:
    """A file in memory, with a descriptor if the system has such files.

    Pillow encodes into a file with a descriptor without holding Python's interpreter lock. For any
    other file it holds the lock, about a millisecond a preview, and no other picture is decoded
    meanwhile.
    """
    try:
        return cast(BinaryIO, os.fdopen(os.memfd_create("preview"), "w+b", buffering=0))
    except (AttributeError, OSError):
        return io.BytesIO()


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile | Unusable:
    """Reads the header of an image, but not its pixels."""
    if not data:
        return EMPTY
    try:
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
    except MemoryError:
        return NO_MEMORY
    # On hostile bytes Pillow raises whatever its parsers stumble over: OSError, SyntaxError,
    # ValueError, struct.error, EOFError, zlib.error, OverflowError and more, release by release.
    # One bad file must not end a job of a million, so this module catches them all.
    # KeyboardInterrupt and SystemExit are not subclasses of Exception, and pass.
    except Exception:  # noqa: BLE001
        return _unreadable(data)
    try:
        return _too_large(opened, data, max_pixels) or opened
    except Exception:  # noqa: BLE001 - values in a header can have any type
        return BROKEN


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


def _unreadable(data: bytes) -> Unusable:
    for offset, magic, answer in _SIGNATURES:
        if data.startswith(magic, offset):
            return answer
    return NOT_AN_IMAGE


def _make_upright(image: Image.Image) -> None:
    """Applies the EXIF orientation in place. This has to come first: `convert` drops it."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:  # going on would use the image in the wrong orientation
        raise
    except Exception:  # noqa: BLE001 - the pixels can be fine although the EXIF is broken
        return


def _rgb(image: Image.Image) -> Image.Image:
    """A new RGB image. CMYK needs no special case: Pillow's decoder undoes Adobe's inversion."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        grey = _grey(image)
        if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            grey = 255 - grey  # Pillow inverts only 8 bits, and radiographs have more
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        # Transformers' processors and every viewer use a white background too. Merely dropping the
        # alpha channel would uncover pixels that nobody has ever seen.
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _grey(image: Image.Image) -> np.ndarray:
    """Deep greyscale as uint8 (H, W): the image's own darkest value becomes 0, its brightest 255.

    Medical images store 10, 12 or 14 bits, or Hounsfield units, in 16 or 32 bits, and the file does
    not say which. Scaled by the type's range, a 12-bit scan would keep 16 shades of near-black. So
    the range comes from the image, as in a viewer's automatic window. NaN and infinity become
    black.
    """
    values = np.asarray(image).astype(np.float32)
    numbers = values[np.isfinite(values)]
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        shades = np.clip((values - low) * (255 / ((high - low) or 1.0)), 0, 255)
    grey: np.ndarray = np.nan_to_num(shades).round().astype(np.uint8)
    return grey
