"""Bytes in, a picture or a reason out: decoding whatever a department sends, and drawing previews.

That an image cannot be used is expected, so it is a value (`Unusable`), never an exception. The api
uses this module too: it imports Pillow and NumPy, not torch.
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

# Formats whose decoders are maintained against hostile files. Pillow would also read EPS (through
# Ghostscript), WMF, PSD and others, which no department sends.
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

# What phones write, where the extra `heic` is installed, for the workers and for the api.
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

# JPEG's own limit. The work and the memory to resize grow with the longer side: an image one pixel
# wide and a hundred million high, which a PNG of 100 KB can be, would take 3 GB of coefficients.
MAX_SIDE = 65_535

# JPEG quality of previews: no artefacts that could be taken for structure, a fifth of a PNG's size.
PREVIEW_QUALITY = 88

_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF 6.0, section 4

# The caller's cap is checked right after opening; Pillow's own would warn or raise by itself.
Image.MAX_IMAGE_PIXELS = None
# A file cut short must be refused, not filled up with grey.
ImageFile.LOAD_TRUNCATED_IMAGES = False
# At DEBUG, Pillow logs the values of EXIF and TIFF tags: patients' names, places, serial numbers.
# What it logs at ERROR is told by the reason that is returned.
logging.getLogger("PIL").setLevel(logging.CRITICAL)
# Pillow warns of odd metadata, which is not looked at here.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True)
class Unusable:
    """Why an image is not taken: a constant sentence, without content, names or numbers of it."""

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

# Pixels. Less than this of a picture, made larger, shows nothing that could be compared.
LEAST_SIDE = 8
TOO_SMALL = Unusable(f"the rectangle must be at least {LEAST_SIDE} pixels wide and high")

# What Pillow does not read, or not in this state: (offset, magic bytes, what to say).
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
        """Pixels, as the image is looked at: after its EXIF orientation."""
        return self.image.width

    @property
    def height(self) -> int:
        """Pixels, as the image is looked at: after its EXIF orientation."""
        return self.image.height


def inspect(data: bytes, max_pixels: int) -> Unusable | None:
    """What the header alone tells against an image; None when it must be decoded to know more."""
    opened = _open(data, max_pixels)
    if isinstance(opened, Unusable):
        return opened
    opened.close()
    return None


def decode(data: bytes, max_pixels: int) -> Picture | Unusable:
    """The first frame of an image file, upright and in RGB, or why not.

    Never raises over the content of `data`, whatever it is. An ICC profile is dropped, not applied:
    the seed's pixels are the file's own, and the preview shows what the encoder saw.
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
    rgb.info.clear()  # comments and profiles would travel into whatever is saved from it
    return Picture(rgb)


def cut(
    picture: Picture, left: float, top: float, width: float, height: float
) -> Picture | Unusable:
    """The rectangle, given in fractions of the picture's width and height, as a picture."""
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
    """A JPEG of the picture, its longest side at most `longest` pixels, its aspect kept.

    Never enlarged, and free of metadata because a `Picture` is.
    """
    scale = min(1.0, longest / max(picture.image.size))
    width, height = (max(1, round(side * scale)) for side in picture.image.size)
    image = picture.image
    if (width, height) != image.size:
        # Half the time of bicubic, and sharper than bilinear; the gap lets Pillow shrink large
        # scans in two steps.
        image = image.resize((width, height), Resampling.HAMMING, reducing_gap=2.0)
    with _scratch() as out:
        image.save(out, "JPEG", quality=PREVIEW_QUALITY)
        out.seek(0)
        return out.read()


def _scratch() -> BinaryIO:
    """A file in memory; with a descriptor where the system has such files.

    Into one with a descriptor Pillow encodes without holding Python's interpreter lock. Into any
    other it holds it, for about a millisecond a preview, during which no other picture is decoded.
    """
    try:
        return cast(BinaryIO, os.fdopen(os.memfd_create("preview"), "w+b", buffering=0))
    except (AttributeError, OSError):
        return io.BytesIO()


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile | Unusable:
    """The image with its header read and its pixels not."""
    if not data:
        return EMPTY
    try:
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
    except MemoryError:
        return NO_MEMORY
    # On hostile bytes Pillow raises whatever its parsers stumble over: OSError, SyntaxError,
    # ValueError, struct.error, EOFError, zlib.error, OverflowError and more, release by release.
    # One bad file must not end a job of a million, so this module takes them all.
    # KeyboardInterrupt and SystemExit are no Exception, and pass.
    except Exception:  # noqa: BLE001
        return _unreadable(data)
    try:
        return _too_large(opened, data, max_pixels) or opened
    except Exception:  # noqa: BLE001 - what stands in a header can be of any type
        return BROKEN


def _too_large(opened: ImageFile.ImageFile, data: bytes, max_pixels: int) -> Unusable | None:
    """Why the image would take too much time or memory to decode, as far as its header tells."""
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
    """Apply the EXIF orientation, in place. It has to come first: `convert` forgets it."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:  # to go on would be to take it lying
        raise
    except Exception:  # noqa: BLE001 - broken EXIF says nothing against the pixels
        return


def _rgb(image: Image.Image) -> Image.Image:
    """A new RGB image. CMYK needs no care: Pillow undoes Adobe's inversion while it decodes."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        grey = _grey(image)
        if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            grey = 255 - grey  # Pillow does it for 8 bits only, and radiographs come like this
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        # On white, as transformers' processors and every viewer's page do. To just drop the alpha
        # would bring out what lies under it, which nobody has ever seen.
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _grey(image: Image.Image) -> np.ndarray:
    """Deep greyscale as uint8 (H, W): the image's own darkest value is 0, its brightest 255.

    Medical images put 10, 12 or 14 bits, or Hounsfield units, into 16 or 32 and the file does not
    say which. Scaled by the type's range a 12-bit scan would keep 16 shades of near-black, so the
    range is taken from the image, as a viewer's automatic window does. What is no number is black.
    """
    values = np.asarray(image).astype(np.float32)
    numbers = values[np.isfinite(values)]
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        shades = np.clip((values - low) * (255 / ((high - low) or 1.0)), 0, 255)
    grey: np.ndarray = np.nan_to_num(shades).round().astype(np.uint8)
    return grey
