"""Image files put together byte by byte: what no program would write, and what it may promise."""

import io
import struct
import zlib
from collections.abc import Mapping

import numpy as np
from PIL import Image

PNG_START = b"\x89PNG\r\n\x1a\n"
JPEG_END = b"\xff\xd9"


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def drawing(width: int = 48, height: int = 32) -> Image.Image:
    """Smooth, so that JPEG keeps it, and different in all four corners."""
    y, x = np.mgrid[:height, :width]
    channels = (x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height))
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


# --- PNG ---------------------------------------------------------------------------------------


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, pixels: bytes, *, depth: int = 8, colour: int = 2, more: bytes = b""
) -> bytes:
    """`pixels` as the PNG holds them before deflate: each row behind its filter byte.

    `more` are chunks between the header and the pixels.
    """
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        PNG_START
        + png_chunk(b"IHDR", header)
        + more
        + png_chunk(b"IDAT", zlib.compress(pixels))
        + png_chunk(b"IEND", b"")
    )


def with_png_chunk(data: bytes, kind: bytes, body: bytes) -> bytes:
    """A chunk more, right behind the header, which ends at byte 33."""
    return data[:33] + png_chunk(kind, body) + data[33:]


def png16(values: np.ndarray) -> bytes:
    """Of 16 bits a channel; uint16 (H, W, C) of 1 to 4 channels."""
    rows = (b"\0" + row.tobytes() for row in values.astype(">u2"))
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    return png(values.shape[1], values.shape[0], b"".join(rows), depth=16, colour=colour)


def with_wrong_checksum(data: bytes, kind: bytes) -> bytes:
    """A PNG whose first chunk of that kind has one."""
    start = data.index(kind) - 4
    end = start + 8 + int.from_bytes(data[start : start + 4], "big")
    return data[:end] + bytes(b ^ 0xFF for b in data[end : end + 4]) + data[end + 4 :]


# --- JPEG --------------------------------------------------------------------------------------


def with_segments(data: bytes, marker: int, *bodies: bytes) -> bytes:
    """Segments more, right behind the start of a JPEG."""
    segments = (bytes([0xFF, marker]) + struct.pack(">H", len(b) + 2) + b for b in bodies)
    return data[:2] + b"".join(segments) + data[2:]


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG that promises another size than it holds."""
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :]


def with_last_scan_repeated(progressive: bytes, times: int) -> bytes:
    """A progressive JPEG whose last pass over all pixels comes again and again."""
    last = progressive[progressive.rindex(b"\xff\xc4") : -2]
    return progressive[:-2] + last * times + JPEG_END


# --- TIFF --------------------------------------------------------------------------------------

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSET, SAMPLES, ROWS, STRIP_BYTES = 273, 277, 278, 279
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSET, TILE_BYTES = 322, 323, 324, 325
DEFLATE = 8


def tiff(tags: Mapping[int, int], pixels: bytes) -> bytes:
    """Little-endian, one strip or tile; its offset and length need not be given."""
    tiled = TILE_WIDTH in tags
    offset, length = (TILE_OFFSET, TILE_BYTES) if tiled else (STRIP_OFFSET, STRIP_BYTES)
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = sorted({**tags, offset: start, length: len(pixels)}.items())
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return (
        b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + struct.pack("<I", 0) + pixels
    )


def grey_tiff(values: np.ndarray, **more: int) -> bytes:
    """uint8 or uint16 of shape (H, W), without compression; `photometric` 0 is white at zero."""
    tags = {
        WIDTH: values.shape[1],
        HEIGHT: values.shape[0],
        BITS: values.dtype.itemsize * 8,
        COMPRESSION: 1,
        PHOTOMETRIC: more.get("photometric", 1),
        SAMPLES: 1,
        ROWS: values.shape[0],
    }
    return tiff(tags, values.astype(values.dtype.newbyteorder("<")).tobytes())


SAMPLE_FORMAT, PLANAR, COLOUR_MAP = 339, 284, 320
_FORMS = {"u": 1, "i": 2, "f": 3, "c": 6}


def any_tiff(
    values: np.ndarray,
    *,
    photometric: int,
    order: str = "<",
    apart: bool = False,
    packed: bool = False,
    tile: int = 0,
    more: Mapping[int, list[int]] | None = None,
) -> bytes:
    """Values (H, W, C) of any type of NumPy, as TIFF 6.0 can hold them.

    `order` is of the bytes, "<" or ">"; with `apart` each channel lies in strips of its own;
    `packed` is deflated; `tile` is a side in pixels, else strips have five rows.
    """
    height, width, channels = values.shape
    values = values.astype(values.dtype.newbyteorder(order))
    planes = np.split(values, channels, axis=2) if apart else [values]
    blocks = [b for plane in planes for b in (_tiles(plane, tile) if tile else _strips(plane))]
    blocks = [zlib.compress(block) for block in blocks] if packed else blocks
    place, size = (TILE_OFFSET, TILE_BYTES) if tile else (STRIP_OFFSET, STRIP_BYTES)
    tags = {
        WIDTH: [width],
        HEIGHT: [height],
        BITS: [values.dtype.itemsize * 8] * channels,
        COMPRESSION: [DEFLATE if packed else 1],
        PHOTOMETRIC: [photometric],
        SAMPLES: [channels],
        PLANAR: [2 if apart else 1],
        SAMPLE_FORMAT: [_FORMS[values.dtype.kind]] * channels,
        size: [len(block) for block in blocks],
        **({TILE_WIDTH: [tile], TILE_HEIGHT: [tile]} if tile else {ROWS: [5]}),
        **(more or {}),
    }
    return _laid_out(tags, place, blocks, order)


def _strips(plane: np.ndarray) -> list[bytes]:
    return [plane[y : y + 5].tobytes() for y in range(0, len(plane), 5)]


def _tiles(plane: np.ndarray, side: int) -> list[bytes]:
    height, width, _ = plane.shape
    whole = np.pad(plane, ((0, -height % side), (0, -width % side), (0, 0)))
    return [
        whole[y : y + side, x : x + side].tobytes()
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


def _laid_out(tags: dict[int, list[int]], place: int, blocks: list[bytes], order: str) -> bytes:
    """The header, the directory, values of more than four bytes, and the blocks."""
    start = 8 + 2 + 12 * (len(tags) + 1) + 4
    apart = 4 * sum(len(v) for v in (*tags.values(), blocks) if len(v) > 1)
    first = start + apart
    offsets = [first + sum(map(len, blocks[:i])) for i in range(len(blocks))]
    directory, outside = b"", b""
    for tag, numbers in sorted({**tags, place: offsets}.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        inside = packed if len(numbers) == 1 else struct.pack(order + "I", start + len(outside))
        outside += packed if len(numbers) > 1 else b""
        directory += struct.pack(order + "HHI", tag, 4, len(numbers)) + inside
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(order + "IH", 8, len(tags) + 1)
    return head + directory + bytes(4) + outside + b"".join(blocks)


def tiff_with_a_tile(side: int) -> bytes:
    """16 by 16 pixels, in one tile of `side` by `side`: next to nothing until it is unpacked."""
    packer = zlib.compressobj(1)
    row = bytes(side)
    tile = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    tags = {
        WIDTH: 16,
        HEIGHT: 16,
        BITS: 8,
        COMPRESSION: DEFLATE,
        PHOTOMETRIC: 1,
        SAMPLES: 1,
        TILE_WIDTH: side,
        TILE_HEIGHT: side,
    }
    return tiff(tags, tile)


def tiff_with_odd_tile(kind: int, value: bytes) -> bytes:
    """A tile as wide as a value of a type (TIFF 6.0, section 2) in which no width can be."""
    plain = struct.pack("<HHII", TILE_WIDTH, 4, 1, 160)
    odd = struct.pack("<HHI", TILE_WIDTH, kind, len(value) if kind == 2 else 1) + value
    return tiff_with_a_tile(160).replace(plain, odd)


# --- others ------------------------------------------------------------------------------------


def bmp(width: int, height: int) -> bytes:
    """A header that promises so many pixels, and none."""
    body = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + body


def gif(width: int, height: int) -> bytes:
    """A canvas of that size with a frame of one pixel."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    table = b"\0\0\0\xff\xff\xff"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + table + frame + b"\x3b"


def webp(width: int, height: int) -> bytes:
    """An extended header that promises a canvas of that size, and an empty lossless frame."""
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + size
    frame = b"VP8L" + struct.pack("<I", 6) + b"\x2f\xff\xff\xff\x0f\0"
    body = b"WEBP" + canvas + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg2000(width: int, height: int) -> bytes:
    """A code stream of another size than it holds."""
    data = bytearray(encoded(drawing(), "JPEG2000", no_jp2=True))
    data[8:16] = struct.pack(">II", width, height)
    return bytes(data)


def box(kind: bytes, *content: bytes) -> bytes:
    """A box of an ISO base media file (HEIC, AVIF, MP4)."""
    body = b"".join(content)
    return struct.pack(">I", len(body) + 8) + kind + body


def each_page(kind: str, *images: Image.Image, **options: object) -> bytes:
    return encoded(images[0], kind, save_all=True, append_images=list(images[1:]), **options)
