"""What departments send, by name: each kind with what is to become of it. All of it is made here.

A file is taken, as the picture named, or refused with the reason named. `SECRET` is planted
wherever a file can hold text, so that a test can look for it in what is kept, answered and logged.
"""

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin
from PIL.Image import Transpose

from pipeline.images import decoding
from pipeline.images.decoding import Unusable
from pipeline.images.kinds import KINDS, not_read, reads_heic
from tests import made_bytes as made
from tests.made_bytes import drawing, encoded

SECRET = "Doe-Jane-19500401"

# Mean difference of a channel, 0 to 255, that lossy formats may make of the drawing.
LOSSY = 4.0

# EXIF's orientations, and what a program must have done to the upright picture to store it so.
STORED_AS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class Kind:
    """A file and its fate: an upright picture, about so far from the file's, or a reason."""

    name: str
    data: bytes
    becomes: Image.Image | Unusable
    tolerance: float = 0.0

    @property
    def taken(self) -> bool:
        return isinstance(self.becomes, Image.Image)


@cache
def catalogue() -> tuple[Kind, ...]:
    """All kinds, no two with the same bytes."""
    return (*_refused(), *_taken())


def _refused() -> Iterator[Kind]:
    for reason, files in (
        (decoding.EMPTY, {"empty": b""}),
        (decoding.TOO_MANY_PIXELS, dict(_bombs_of_pixels())),
        (decoding.TOO_LONG, {"PNG 1 by 90,000,000": made.png(1, 90_000_000, bytes(64))}),
        (decoding.TOO_MANY_SCANS, {"JPEG of 300 scans": _scans()}),
        (decoding.BROKEN, dict(_broken())),
    ):
        for name, data in files.items():
            yield Kind(name, data, reason)
    for kind, name, data in _other_things():
        yield Kind(name, data, unusable(kind))
    for name, encoding, data in _unread():
        yield Kind(name, data, Unusable(not_read(encoding)))


def unusable(kind: str) -> Unusable:
    """Why a file of a kind, by its name, is no picture."""
    return Unusable(KINDS[kind].reason) if KINDS[kind].reason else decoding.BROKEN


def _other_things() -> Iterator[tuple[str, str, bytes]]:
    """Their kind, what they are, and their bytes."""
    text = SECRET.encode()
    yield "unknown", "one byte", b"\xff"
    yield "text", "text", b"Dear colleague, " + text
    yield "text", "megabytes of text", text * 100_000
    page = b"<!DOCTYPE html><html><img src=x onerror=alert(1)>" + text + b"</html>"
    yield "html", "HTML", page
    drawn = b"<svg xmlns='http://www.w3.org/2000/svg'><text>" + text + b"</text></svg>"
    yield "svg", "SVG", drawn
    yield "gzip", "SVG, packed", gzip.compress(b"<svg>" + text + b"</svg>", mtime=0)
    yield "json", "JSON", json.dumps({"name": SECRET}).encode()
    yield "zeros", "NULs", bytes(4096)
    yield "unknown", "noise", np.random.default_rng(0).bytes(4096)
    yield "postscript", "EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%" + text
    shop = b"8BPS" + struct.pack(">HxxxxxxHIIHH", 1, 3, 9, 9, 8, 3) + text
    yield "psd", "Photoshop", shop
    yield "video", "MP4", made.box(b"ftyp", b"isom", bytes(12)) + made.box(b"mdat", text)
    yield "program", "program", b"\x7fELF\x02\x01\x01" + bytes(57)
    yield "zip", "zip", _zip(b"report.txt", text)
    yield "zip", "zip bomb", _zip(b"picture.png", bytes(30_000_000))
    yield "gzip", "gzip bomb", gzip.compress(bytes(30_000_000), mtime=0)
    yield "unknown", "JPEG of its first two bytes", b"\xff\xd8"
    yield "unknown", "JPEG behind a line of text", text + b"\n" + encoded(drawing(), "JPEG")
    yield "pdf", "PDF", b"%PDF-1.7\n" + SECRET.encode()
    yield "heic", "HEIC without a picture", made.box(b"ftyp", b"heic", bytes(8))
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + text + b"\nsize 1\n"
    yield "lfs pointer", "Git LFS pointer", pointer
    yield "jxl", "JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n" + text
    yield "raw", "raw file of a camera", made.tiff({**_grey(8, 8), 50706: 0x401}, bytes(64))


def _unread() -> Iterator[tuple[str, str, bytes]]:
    """What they are, the name of their encoding in the reason, and their bytes."""
    colours = np.asarray(drawing())
    for form, name in (
        ("f4", "a TIFF of 32-bit floats in colour"),
        ("f8", "a TIFF of 64-bit floats in colour"),
        ("u4", "a TIFF of 32-bit integers in colour"),
        ("i2", "a TIFF of 16-bit signed integers in colour"),
    ):
        yield name, name, made.any_tiff(colours.astype(form), photometric=2)
    rare = {**_grey(8, 8), made.COMPRESSION: 34712}
    yield "TIFF of JPEG 2000", "a TIFF of a rare compression", made.tiff(rare, bytes(64))
    frame = (jpeg := encoded(drawing(), "JPEG")).index(b"\xff\xc0")
    deep = jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :]
    yield "JPEG of 12 bits", "a JPEG of 12 bits a channel", deep
    lossless = jpeg[: frame + 1] + b"\xc3" + jpeg[frame + 2 :]
    yield "lossless JPEG", "a lossless JPEG", lossless


def _bombs_of_pixels() -> Iterator[tuple[str, bytes]]:
    side = 60_000
    yield "PNG of 3,600 megapixels", made.png(side, side, bytes(64))
    yield "JPEG of 3,600 megapixels", made.with_size(encoded(drawing(), "JPEG"), side, side)
    yield "BMP of 3,600 megapixels", made.bmp(side, side)
    yield "GIF of 3,600 megapixels", made.gif(side, side)
    yield "JPEG 2000 of 3,600 megapixels", made.jpeg2000(side, side)
    yield "PPM of 3,600 megapixels", f"P6 {side} {side} 255 ".encode() + bytes(64)
    yield (
        "TIFF of 3,600 megapixels",
        made.tiff({**_grey(side, side), made.COMPRESSION: 8}, _zeros()),
    )
    yield "TIFF of 16 by 16 in a tile of 100.3 megapixels", made.tiff_with_a_tile(10_016)


def _broken() -> Iterator[tuple[str, bytes]]:
    yield "PNG of its signature alone", made.PNG_START
    yield "PNG cut in its header", encoded(drawing())[:20]
    yield "PNG with a wrong checksum in its header", _flipped(encoded(drawing()), 30)
    yield "PNG with a wrong checksum of its pixels", made.with_wrong_checksum(_tiny(), b"IDAT")
    yield "PNG with a bomb of text", made.with_png_chunk(_tiny(), b"zTXt", b"a\0\0" + _zeros())
    yield (
        "PNG with a bomb for a profile",
        made.with_png_chunk(_tiny(), b"iCCP", b"a\0\0" + _zeros()),
    )
    yield "JPEG cut in its tables", encoded(drawing(), "JPEG")[:60]
    yield "TIFF with a tile as wide as a text", made.tiff_with_odd_tile(2, b"abc\0")
    yield (
        "TIFF with a tile as wide as no number",
        made.tiff_with_odd_tile(11, struct.pack("<f", float("nan"))),
    )
    yield "TIFF of its first eight bytes", b"II*\0" + struct.pack("<I", 8)
    yield "GIF cut in its header", b"GIF89a\x10"
    yield "WebP cut in its header", encoded(drawing(), "WEBP")[:20]
    for kind in ("JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP", "JPEG2000", "AVIF", "PPM"):
        whole = encoded(_noise(), kind)
        for part in (4, 2):
            yield f"{kind} cut at 1/{part}", whole[: len(whole) // part]
    progressive = encoded(_noise(), "JPEG", progressive=True)
    yield "progressive JPEG cut at 1/2", progressive[: len(progressive) // 2]
    yield "PNG without a pixel", made.png(0, 5, b"")
    yield "PNG with a flipped bit among its pixels", _flipped(encoded(_noise()), 2000)


def _taken() -> Iterator[Kind]:
    yield from _sizes()
    yield from _colours()
    yield from _deep_greys()
    yield from _frames()
    yield from _orientations()
    yield from _with_metadata()


def _same(name: str, image: Image.Image, kind: str = "PNG", **options: object) -> Kind:
    """What the file shows is the image itself."""
    lossy = kind in ("JPEG", "WEBP", "AVIF", "HEIF") and not options.get("lossless")
    tolerance = LOSSY if lossy else 0.0
    return Kind(name, encoded(image, kind, **options), image.convert("RGB"), tolerance)


def _sizes() -> Iterator[Kind]:
    for width, height in ((1, 1), (1, 20_000), (20_000, 1), (65_535, 1)):
        image = Image.new("RGB", (width, height), "teal")
        yield _same(f"PNG {width:,} by {height:,}", image)


def _colours() -> Iterator[Kind]:
    image, grey = drawing(), drawing().convert("L")
    for kind in ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "AVIF", "JPEG2000", "PPM"):
        yield _same(kind, image, kind)
    if reads_heic():
        yield _same("HEIC", image, "HEIF")
    yield _same("GIF", image.quantize(64), "GIF")
    yield _same("progressive JPEG", image, "JPEG", progressive=True)
    yield _same("JPEG with all its colours", image, "JPEG", subsampling="4:4:4")
    yield _same("JPEG in RGB", image, "JPEG", keep_rgb=True)
    yield _same("JPEG in grey", grey, "JPEG")
    yield _same("lossless WebP", image, "WEBP", lossless=True)
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield _same(f"TIFF, {packing}", image, "TIFF", compression=packing)
    yield _same("TIFF of a fax", grey.convert("1"), "TIFF", compression="group4")
    yield _same("BigTIFF", image, "TIFF", big_tiff=True)
    yield _same("interlaced GIF", grey, "GIF", interlace=1)
    yield _same("PNG in grey", grey)
    yield _same("PNG of one bit", grey.convert("1"))
    yield _same("PNG of a palette of two bits", image.quantize(4), bits=2)
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    yield Kind("palette, one colour clear", encoded(palette, transparency=0), _row("white", "blue"))
    halves = encoded(palette, transparency=b"\x80\xff")
    yield Kind("palette, one colour half clear", halves, _row((255, 127, 127), "blue"), 1)
    clear = _row((255, 0, 0, 0), (0, 0, 255, 255), mode="RGBA")
    for kind in ("PNG", "TIFF", "WEBP"):
        data = encoded(clear, kind, **({"lossless": True} if kind == "WEBP" else {}))
        yield Kind(f"{kind} with transparency", data, _row("white", "blue"))
    grey_clear = encoded(Image.new("LA", (2, 1), (0, 128)))
    yield Kind("grey with transparency", grey_clear, Image.new("RGB", (2, 1), (127,) * 3))
    yield Kind("PNG of 16 bits a colour", _deep_colour(), _row((18, 52, 86), (255, 128, 0)))
    for name, ink, colour in (("no ink", 0, 255), ("all ink", 255, 0)):
        image = Image.new("CMYK", (16, 16), (ink,) * 4)
        shown = Image.new("RGB", (16, 16), (colour,) * 3)
        # Pillow writes the inks inverted, with Adobe's marker, as Photoshop does.
        yield Kind(f"CMYK JPEG of Adobe, {name}", encoded(image, "JPEG", quality=95), shown, LOSSY)
        yield Kind(f"CMYK TIFF, {name}", encoded(image, "TIFF"), shown, LOSSY)
    white = encoded(Image.new("LAB", (4, 4), (255, 128, 128)), "TIFF")
    yield Kind("TIFF in Lab", white, Image.new("RGB", (4, 4), "white"), 3)


def _deep_greys() -> Iterator[Kind]:
    """What is shown of a deep grey reaches from black to white, whatever its range."""
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    shown = Image.fromarray(ramp).convert("RGB")
    deep = {
        "12 of 16 bits": ramp.astype(np.uint16) * 16,
        "16 bits": ramp.astype(np.uint16) * 257,
        "Hounsfield units": ramp.astype(np.int32) * 16 - 1024,
        "floats": ramp.astype(np.float32) / 255 - 0.5,
    }
    for name, form, values in (
        ("32 bits, unsigned", "u4", ramp.astype(np.uint32) * 0x01010101),
        ("8 bits, signed", "i1", ramp.astype(np.int16) - 128),
        ("16 bits, signed", "i2", ramp.astype(np.int16) * 16 - 1024),
        ("doubles", "f8", ramp / 255 - 0.5),
    ):
        data = made.any_tiff(values.astype(form)[..., None], photometric=1)
        yield Kind(f"TIFF of {name}", data, shown)
    colours = np.stack([ramp, ramp.T, 255 - ramp], axis=-1)
    twelve, seen = colours.astype(np.uint16) * 16, Image.fromarray(colours)
    yield Kind("PNG of 12 in 16 bits a colour", made.png16(twelve), seen, 1)
    tiff = made.any_tiff(twelve, photometric=2)
    yield Kind("TIFF of 12 in 16 bits a colour", tiff, seen, 1)
    for name, values in deep.items():
        yield Kind(f"TIFF of {name}", encoded(Image.fromarray(values), "TIFF"), shown)
    yield Kind("PNG of 16 bits", encoded(Image.fromarray(deep["16 bits"])), shown)
    inverted = Image.fromarray(255 - ramp).convert("RGB")
    yield Kind("TIFF of 8 bits, zero is white", made.grey_tiff(ramp, photometric=0), inverted)
    radiograph = made.grey_tiff(deep["12 of 16 bits"], photometric=0)
    yield Kind("TIFF of 16 bits, zero is white", radiograph, inverted)
    holes = np.where(ramp == 7, np.nan, ramp / 255).astype(np.float32)
    filled = Image.fromarray(np.where(ramp == 7, 0, ramp)).convert("RGB")
    yield Kind("TIFF of floats with NaN", encoded(Image.fromarray(holes), "TIFF"), filled)
    flat = Image.fromarray(np.full((4, 4), 1234, np.uint16))
    yield Kind("PNG of 16 bits, all the same", encoded(flat), Image.new("RGB", (4, 4)))


def _frames() -> Iterator[Kind]:
    first, second = drawing(), drawing().transpose(Transpose.ROTATE_180)
    for name, kind, options in (
        ("multi-page TIFF", "TIFF", {}),
        ("animated PNG", "PNG", {}),
        ("animated WebP", "WEBP", {"lossless": True}),
        ("animated AVIF", "AVIF", {}),
        ("two JPEGs in one (MPO)", "MPO", {}),
    ):
        tolerance = LOSSY if kind in ("AVIF", "MPO") else 0
        yield Kind(name, made.each_page(kind, first, second, **options), first, tolerance)
    few = first.quantize(32)
    moving = made.each_page("GIF", few, second.quantize(32), duration=100, loop=0)
    yield Kind("animated GIF", moving, few.convert("RGB"))


def _orientations() -> Iterator[Kind]:
    upright = drawing()
    for orientation in range(10):  # 1 is upright; 0 and 9 are none
        stored = upright
        if orientation in STORED_AS:
            stored = upright.transpose(STORED_AS[orientation])
        exif = Image.Exif()
        exif[0x0112] = orientation
        write = partial(encoded, stored, exif=exif)
        name = f"turned by EXIF {orientation}"
        yield Kind(f"JPEG {name}", write("JPEG", quality=95), upright, LOSSY)
        if orientation == 6:
            yield Kind(f"PNG {name}", write("PNG"), upright)
            yield Kind(f"TIFF {name}", write("TIFF"), upright)
            yield Kind(f"WebP {name}", write("WEBP", lossless=True), upright)


def _with_metadata() -> Iterator[Kind]:
    image, text = drawing(), SECRET.encode()
    jpeg = partial(encoded, image, "JPEG", quality=95)

    def taken(name: str, data: bytes, tolerance: float = LOSSY) -> Kind:
        return Kind(name, data, image, tolerance)

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield taken("JPEG with the profile sRGB", jpeg(icc_profile=profile))
    yield taken("JPEG with a broken profile", jpeg(icc_profile=profile[:100] + text))
    yield taken("PNG with a broken profile", encoded(image, icc_profile=text), 0)
    yield taken("JPEG with a place and a name", jpeg(exif=_located(), comment=text))
    yield taken("PNG with a place and a name", encoded(image, exif=_located()), 0)
    yield taken("WebP with a name", encoded(image, "WEBP", lossless=True, xmp=b"<x>" + text), 0)
    yield taken("TIFF with a name", encoded(image, "TIFF", tiffinfo={270: SECRET, 315: SECRET}), 0)
    garbage = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + text
    yield taken("JPEG with broken EXIF", made.with_segments(jpeg(), 0xE1, garbage))
    comments = made.with_segments(jpeg(), 0xFE, *[text * 3000] * 100)
    yield taken("JPEG with 5 MB of comments", comments)
    chunk = b"Comment\0" + text * 300_000
    yield taken("PNG with 5 MB of text", made.with_png_chunk(encoded(image), b"tEXt", chunk), 0)
    packed = PngImagePlugin.PngInfo()
    packed.add_text("Patient", SECRET, zip=True)
    yield taken("PNG with packed text", encoded(image, pnginfo=packed), 0)
    yield taken("PNG with an unknown chunk", made.with_png_chunk(encoded(image), b"doEJ", text), 0)
    yield taken("JPEG with a zip behind it", jpeg() + _zip(b"report.txt", text))
    wrong = made.with_wrong_checksum(encoded(image, pnginfo=packed), b"zTXt")
    yield taken("PNG with a text of a wrong checksum", wrong, 0)
    yield taken("PNG with bytes behind it", encoded(image) + text, 0)
    yield taken("PNG without its end", encoded(image)[:-12], 0)


# --- parts ---------------------------------------------------------------------------------------


def _noise() -> Image.Image:
    """Nothing that a decoder could guess when a part is missing."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8))


def _tiny() -> bytes:
    return encoded(Image.new("RGB", (4, 4)))


def _row(*colours: object, mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (len(colours), 1))
    for x, colour in enumerate(colours):
        image.paste(colour, (x, 0, x + 1, 1))  # type: ignore[arg-type]
    return image


def _grey(width: int, height: int) -> dict[int, int]:
    return {
        made.WIDTH: width,
        made.HEIGHT: height,
        made.BITS: 8,
        made.PHOTOMETRIC: 1,
        made.SAMPLES: 1,
        made.ROWS: height,
    }


@cache
def _zeros() -> bytes:
    """Fifty million of them, deflated."""
    return zlib.compress(bytes(50_000_000), 1)


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def _zip(name: bytes, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name.decode()), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _scans() -> bytes:
    """Every scan costs a hundred bytes in the file, and a pass over all pixels when it is read."""
    grey = Image.new("L", (3000, 3000), 128)
    return made.with_last_scan_repeated(encoded(grey, "JPEG", progressive=True), 300)


def _deep_colour() -> bytes:
    """Two pixels of 16 bits a channel, whose upper bytes are (18, 52, 86) and (255, 128, 0)."""
    samples = struct.pack(">6H", 0x12FF, 0x3400, 0x5678, 0xFFFF, 0x80FF, 0x00FF)
    return made.png(2, 1, b"\0" + samples, depth=16)


def _located() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = SECRET
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 0.0), 29: SECRET})  # GPS
    return exif
