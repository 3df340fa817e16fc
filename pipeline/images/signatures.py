"""The marks by which binary files are recognised: a name from `kinds.KINDS`, or nothing.

Most formats begin with bytes of their own ("magic"). Marks of two or three bytes also begin texts
("BMI;age", "P1 is well"), so those are believed only where the numbers behind them fit.
"""

import re
import struct
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

# (offset, bytes, kind), the longest first where one begins another.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI", "cgbi"),
    (0, b"\x89PNG\r\n\x1a\n", "picture"),
    (0, b"\xff\xd8\xff\xf7", "jpeg-ls"),
    (0, b"\xff\xd8\xff", "picture"),
    (0, b"GIF87a", "picture"),
    (0, b"GIF89a", "picture"),
    (0, b"\xff\x4f\xff\x51", "picture"),  # a bare JPEG 2000 codestream
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "picture"),
    (0, b"\xff\x0a", "jxl"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (0, b"II\xbc\x01", "jxr"),
    (0, b"IIRO", "raw"),
    (0, b"IIRS", "raw"),
    (0, b"MMOR", "raw"),
    (0, b"IIU\0", "raw"),
    (0, b"\0MRM", "raw"),
    (0, b"FOVb", "raw"),
    (0, b"FUJIFILMCCD-RAW", "raw"),
    (0, b"8BPS\0", "psd"),
    (0, b"\x76\x2f\x31\x01", "exr"),
    (0, b"DDS |\0\0\0", "dds"),
    (0, b"qoif", "qoi"),
    (0, b"AT&TFORM", "djvu"),
    (344, b"n+1\0", "nifti"),
    (344, b"ni1\0", "nifti"),
    (4, b"n+2\0\r\n\x1a\n", "nifti"),
    (0, b"ZISRAWFILE", "czi"),
    (0, b"PAR1", "parquet"),
    (0, b"ARROW1", "arrow"),
    (0, b"FEA1", "table"),
    (0, b"ORC", "table"),
    (0, b"Obj\x01", "table"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!\x1a\x07", "rar"),
    (0, b"\x1f\x8b\x08", "gzip"),
    (0, b"\xfd7zXZ\0", "archive"),
    (0, b"\x28\xb5\x2f\xfd", "archive"),
    (0, b"\x04\x22\x4d\x18", "archive"),
    (0, b"MSCF\0\0\0\0", "archive"),
    (0, b"\x1f\x9d", "archive"),
    (0, b"\x1aE\xdf\xa3", "video"),
    (0, b"\0\0\x01\xba", "video"),
    (0, b"\0\0\x01\xb3", "video"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video"),
    (0, b"FLV\x01", "video"),
    (0, b"OggS\0", "audio"),
    (0, b"fLaC", "audio"),
    (0, b"ID3\x02", "audio"),
    (0, b"ID3\x03", "audio"),
    (0, b"ID3\x04", "audio"),
    (0, b"MThd\0\0\0\x06", "audio"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "office"),
    (0, b"SQLite format 3\0", "sqlite"),
    (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (0, b"\x93NUMPY", "numpy"),
    (0, b"GGUF", "weights"),
    (0, b"\x7fELF", "program"),
    (0, b"\xca\xfe\xba\xbe", "program"),
    (0, b"\xcf\xfa\xed\xfe", "program"),
    (0, b"\0asm", "program"),
    (0, b"\0\0\0\x01Bud1", "system"),
    (0, b"\0\x05\x16\x07", "system"),  # AppleDouble: what macOS writes as ._name
    (0, b"bplist00", "system"),
    (0, b"L\0\0\0\x01\x14\x02\0", "system"),  # a shortcut of Windows
    (0, b"\xc5\xd0\xd3\xc6", "postscript"),
)

# Formats whose first lines are text.
_TEXT_MAGIC = (
    (b"SIMPLE  =", "fits"),
    (b"#?RADIANCE", "hdr"),
    (b"#?RGBE", "hdr"),
    (b"NRRD000", "nrrd"),
    (b"#!AMR", "audio"),
    (b"{\\rtf", "office"),
    (b"%!PS", "postscript"),
)

# What a binary file holds near its beginning, and a text nowhere.
_BINARY = re.compile(rb"[\0-\x08\x0e-\x19\x1c-\x1f\x80-\xff]")

# Brands of ISO base media files (ISO 14496-12): what their first box says they are.
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"heif")
_AVIF = (b"avif", b"avis")
_CONTAINER = (b"mif1", b"mif2", b"msf1", b"miaf")  # of pictures; the other brands say which
_SOUND = (b"M4A ", b"M4B ", b"M4P ")
_QUICKTIME = (b"moov", b"mdat", b"wide", b"pnot", b"skip", b"free")

_RIFF = {b"WEBP": "picture", b"AVI ": "video", b"WAVE": "audio", b"RMID": "audio"}

_PNM = re.compile(rb"P[1-6f](\s|#[^\r\n]*[\r\n])+\d+(\s|#[^\r\n]*[\r\n])+\d+\s")
_PNM_UNREAD = re.compile(rb"P7\s+(#[^\n]*\n)*WIDTH\s|PF\s+\d+\s+\d+\s")
_PDF_WITHIN = 1024  # bytes: where readers look for a PDF's mark

_BITMAP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes, of all versions of BMP


def signature(head: bytes) -> str | None:
    """The kind of a binary file that begins so; None if its bytes bear no known mark."""
    if _BINARY.search(head):
        for offset, magic, kind in _MAGIC:
            if head.startswith(magic, offset):
                return _refined(head, kind)
    return next((name for test in _TESTS if (name := test(head))), None)


def _text_header(head: bytes) -> str | None:
    return next((name for magic, name in _TEXT_MAGIC if head.startswith(magic)), None)


def _refined(head: bytes, name: str) -> str:
    if head.startswith(b"OggS\0") and b"theora" in head:
        return "video"
    return name


# --- pictures ------------------------------------------------------------------------------------


def _tiff(head: bytes) -> str | None:
    """Little and big endian, TIFF and BigTIFF. Raw files of many cameras are TIFFs too."""
    if head[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    return "raw" if head[8:10] == b"CR" or is_raw(_first_directory(head)) else "picture"


_SUBFILE, _PHOTOMETRIC, _SUBDIRECTORIES, _DNG_VERSION = 254, 262, 330, 50706
_SENSOR = (32803, 34892)  # DNG 1.4: values of a colour filter array, and linear raw


def is_raw(tags: Mapping[int, Any]) -> bool:
    """Whether the first picture of a TIFF is at most a preview of a sensor's values."""
    reduced = bool(tags.get(_SUBFILE, 0) & 1)
    return (
        _DNG_VERSION in tags
        or tags.get(_PHOTOMETRIC) in _SENSOR
        or (reduced and _SUBDIRECTORIES in tags)
    )


def _first_directory(head: bytes) -> dict[int, int]:
    """Tags of a TIFF's first directory with their first number, as far as `head` holds it."""
    order = "<" if head[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(order + "I", head, 4)
        (count,) = struct.unpack_from(order + "H", head, start)
    except struct.error:  # it lies behind the picture
        return {}
    entries = range(start + 2, min(start + 2 + 12 * count, len(head) - 11), 12)
    return dict(_entry(head, at, order) for at in entries)


def _entry(head: bytes, at: int, order: str) -> tuple[int, int]:
    tag, kind = struct.unpack_from(order + "HH", head, at)
    (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), head, at + 8)
    return tag, value


def _bitmap(head: bytes) -> str | None:
    """A BMP, or the same without its file header (DIB)."""
    start = 14 if head[:2] == b"BM" else 0
    if len(head) < start + 16:
        return None
    (size,) = struct.unpack_from("<I", head, start)
    planes, bits = struct.unpack_from("<HH", head, start + (8 if size == 12 else 12))
    fits = size in _BITMAP_HEADERS and planes == 1 and bits in (1, 2, 4, 8, 16, 24, 32)
    return "picture" if fits else None


def _pnm(head: bytes) -> str | None:
    if _PNM.match(head):
        return "picture"
    return "pnm" if _PNM_UNREAD.match(head) else None


def _icon(head: bytes) -> str | None:
    """ICO and CUR: how many pictures, then 16 bytes for each, whose fourth is 0."""
    if head[:4] not in (b"\0\0\1\0", b"\0\0\2\0") or len(head) < 22:
        return None
    return "ico" if 0 < head[4] < 64 and head[5] == 0 and head[9] == 0 else None


def _pcx(head: bytes) -> str | None:
    fits = len(head) > 128 and head[0] == 10 and head[1] <= 5 and head[2] == 1
    return "pcx" if fits and head[3] in (1, 2, 4, 8) and head[64] == 0 else None


# --- boxes and chunks ----------------------------------------------------------------------------


def _media(head: bytes) -> str | None:
    """HEIC, AVIF, raw, audio and video, all of which are ISO base media files."""
    if head[4:8] in _QUICKTIME and head[:1] in (b"\0", b"\1"):
        return "video"
    if head[4:8] != b"ftyp":
        return None
    brands = _brands(head)
    if brands[0] in _CONTAINER:
        return "picture" if set(_AVIF) & set(brands) else "heic"
    return _of_brand(brands[0])


def _of_brand(brand: bytes) -> str:
    if brand in _AVIF:
        return "picture"
    if brand in _HEIC:
        return "heic"
    return "raw" if brand == b"crx " else "audio" if brand in _SOUND else "video"


def _brands(head: bytes) -> list[bytes]:
    """The major brand, then the compatible ones."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return [head[8:12], *(head[at : at + 4] for at in range(16, end, 4))]


def _riff(head: bytes) -> str | None:
    if head[:4] in (b"RIFF", b"RF64"):
        return _RIFF.get(head[8:12])
    return "audio" if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC") else None


def _transport_stream(head: bytes) -> str | None:
    """MPEG-TS: packets of 188 bytes, each of which begins with G."""
    return "video" if len(head) > 940 and set(head[:941:188]) == {0x47} else None


def _mp3(head: bytes) -> str | None:
    """Frames without a tag in front; a text does not begin with such letters."""
    starts = head[:2] in (b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2")
    return "audio" if starts and len(head) > 4 and head[2] >> 4 not in (0, 15) else None


# --- archives and documents ----------------------------------------------------------------------


def _zip(head: bytes) -> str | None:
    if not head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return None
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    office = name == b"[Content_Types].xml" or name.startswith((b"word/", b"xl/", b"ppt/"))
    opendocument = name == b"mimetype" and head[30 + len(name) :].startswith(b"application/")
    return "office" if office or opendocument or name == b"_rels/.rels" else "zip"


def _tar(head: bytes) -> str | None:
    """POSIX writes a mark; older archives are known by the checksum of their first header."""
    if head[257:262] == b"ustar":
        return "tar"
    if len(head) < 512 or not head[0]:
        return None
    written = re.fullmatch(rb" *([0-7]{1,6})[ \0]*", head[148:156])
    total = sum(head[:148]) + 8 * ord(" ") + sum(head[156:512])
    return "tar" if written and int(written[1], 8) == total else None


def _bzip2(head: bytes) -> str | None:
    return "archive" if re.match(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", head) else None


def _pdf(head: bytes) -> str | None:
    """Its mark may stand behind other bytes, but a text that mentions it is a text."""
    return "pdf" if re.search(rb"(^|[\r\n\0])%PDF-\d", head[:_PDF_WITHIN]) else None


def _arrow_stream(head: bytes) -> str | None:
    """As `datasets` saves: a continuation mark, a length, and a schema in a flatbuffer."""
    length = int.from_bytes(head[4:8], "little")
    return "arrow" if head[:4] == b"\xff\xff\xff\xff" and 0 < length < 1 << 24 else None


def _weights(head: bytes) -> str | None:
    """Safetensors: the length of a JSON object and its first bytes. Pickle: its own protocol."""
    safetensors = re.match(rb".{5}\0\0\0\{\s*\"", head, re.DOTALL)
    pickled = re.match(rb"\x80[\x02-\x05][\x80-\x95c}\](]", head)
    return "weights" if safetensors or pickled else None


def _windows_program(head: bytes) -> str | None:
    return "program" if head[:2] == b"MZ" and b"\0\0" in head[2:64] else None


# --- DICOM ---------------------------------------------------------------------------------------

_MARK, _DIRECTORY = b"DICM", b"1.2.840.10008.1.3.10"  # PS3.4, Media Storage Directory Storage


def _dicom(head: bytes) -> str | None:
    """DICOM's own mark stands behind 128 free bytes, where some makers put a TIFF's header."""
    if not head.startswith(_MARK, 128):
        return None
    return "dicom directory" if _DIRECTORY in head else "dicom"


def _bare_dicom(head: bytes) -> str | None:
    """Data elements from the first byte on: groups 2 or 8, in order, of sensible lengths.

    ACR-NEMA and many archives write so, without the mark. Two elements must fit.
    """
    for order in "<>":
        tags = _elements(head, order)
        if len(tags) > 1 and tags[0][0] in (2, 8) and all(a < b for a, b in pairwise(tags)):
            return "dicom"
    return None


def _elements(head: bytes, order: str) -> list[tuple[int, int]]:
    """The tags of the first three elements, as far as they look like elements."""
    tags: list[tuple[int, int]] = []
    at = 0
    while len(tags) < 3 and at + 8 <= len(head):
        tag = struct.unpack_from(order + "HH", head, at)
        length = _length(head, at + 4, order)
        if tag[0] not in (2, 8) or length > 1024 or length % 2:
            break
        tags.append(tag)
        at += 8 + length
    return tags


def _length(head: bytes, at: int, order: str) -> int:
    """Of an element's value in bytes: behind the two letters of its type, or alone."""
    explicit = re.match(rb"(AE|AS|CS|DA|DS|DT|IS|LO|LT|PN|SH|ST|TM|UI|UL|US)", head[at : at + 2])
    form, at = ("H", at + 2) if explicit else ("I", at)
    length: int = struct.unpack_from(order + form, head, at)[0]
    return length


_TESTS: tuple[Callable[[bytes], str | None], ...] = (
    _text_header,
    _dicom,
    _tiff,
    _bitmap,
    _pnm,
    _riff,
    _media,
    _zip,
    _tar,
    _pdf,
    _bzip2,
    _arrow_stream,
    _weights,
    _icon,
    _pcx,
    _transport_stream,
    _mp3,
    _windows_program,
    _bare_dicom,
)
