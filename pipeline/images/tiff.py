"""What Pillow leaves out of TIFF: more kinds of grey, and the true order of bytes.

A TIFF may hold integers or floats of any size, in either order of bytes, with its channels together
or apart. Pillow 13 knows some combinations, refuses others, and reads a few wrongly: signed 8 and
unsigned 32 bits, one channel that is stored "apart", 16 bits a channel stored apart, and packed
values of the other order of bytes. `mend` sets those right before the pixels are loaded, and
`unread` names what no part of Pillow reads.
"""

import io
from typing import Any

import numpy as np
from PIL.Image import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COLORMAP,
    COMPRESSION,
    COMPRESSION_INFO,
    EXTRASAMPLES,
    FILLORDER,
    II,
    MM,
    OPEN_INFO,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    YCBCRSUBSAMPLING,
    ImageFileDirectory_v2,
    TiffImageFile,
)

_UNSIGNED, _SIGNED, _FLOAT, _COMPLEX = 1, 2, 3, 6  # TIFF 6.0, section 19
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE, _YCBCR = 0, 1, 3, 6  # section 4
_APART = 2  # section 4: each channel in strips of its own

# Pillow's own modes and decoders for greys that it has, but does not look up.
_GREYS = (
    (_SIGNED, 8, "L", "L", "L"),
    (_UNSIGNED, 12, "I;16", "I;12", "I;12"),  # packed, in one order whatever the file's
    (_UNSIGNED, 16, "I;16", "I;16", "I;16B"),
    (_SIGNED, 16, "I", "I;16S", "I;16BS"),
    (_UNSIGNED, 32, "I", "I;32", "I;32B"),
    (_SIGNED, 32, "I", "I;32S", "I;32BS"),
    (_FLOAT, 32, "F", "F;32F", "F;32BF"),
    (_FLOAT, 64, "F", "F;64F", "F;64BF"),
)


def _teach() -> None:
    """Adds the greys to Pillow's table, for black and for white at zero."""
    for form, bits, mode, little, big in _GREYS:
        for photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO):
            OPEN_INFO[II, photometric, (form,), 1, (bits,), ()] = (mode, little)
            OPEN_INFO[MM, photometric, (form,), 1, (bits,), ()] = (mode, big)


_teach()

# libtiff unpacks into the machine's own order of bytes, whatever the file's.
_NATIVE = {
    "I;16": "I;16N",
    "I;16B": "I;16N",
    "I;16S": "I;16NS",
    "I;16BS": "I;16NS",
    "I;32": "I;32N",
    "I;32B": "I;32N",
    "I;32S": "I;32NS",
    "I;32BS": "I;32NS",
    "F;32F": "F;32NF",
    "F;32BF": "F;32NF",
    "F;64F": "F;64NF",
    "F;64BF": "F;64NF",
}

# libtiff's compressions that Pillow names but its wheels leave out.
_LEFT_OUT = ("webp",)

_FORMS = {
    _UNSIGNED: "integers",
    _SIGNED: "signed integers",
    _FLOAT: "floats",
    _COMPLEX: "complex numbers",
}


def mend(image: ImageFile) -> None:
    """Corrects how an opened image's pixels will be unpacked; does nothing to other formats."""
    if not isinstance(image, TiffImageFile):
        return
    key = _key(image.tag_v2)
    raw_mode = OPEN_INFO[key][1] if key in OPEN_INFO else ""
    if raw_mode and len(key[4]) == 1:
        _mend_grey(image, raw_mode)
    elif raw_mode.endswith((";16L", ";16B")) and image.tag_v2.get(PLANAR_CONFIGURATION) == _APART:
        _mend_bands(image, raw_mode)
    if image.palette is not None:
        _mend_palette(image)


def _mend_grey(image: TiffImageFile, raw_mode: str) -> None:
    """One channel is never apart, but Pillow would take the first letter of its mode."""
    if image.tile[0].codec_name == "libtiff":
        raw_mode = _NATIVE.get(raw_mode, _args(image.tile[0])[0])
        if image.mode == "I;16B":
            image._mode = "I;16"  # as the unpacked values are
    image.tile = [_with_raw_mode(tile, raw_mode) for tile in image.tile]


def _mend_bands(image: TiffImageFile, raw_mode: str) -> None:
    """Pillow would read channels of 16 bits, stored apart, as if they had 8."""
    image.tile = [
        _with_raw_mode(tile, band + raw_mode[-4:]) if len(band := _args(tile)[0]) == 1 else tile
        for tile in image.tile
    ]


def _args(tile: Any) -> tuple[Any, ...]:
    """A decoder's arguments, of which the raw mode is the first: how bytes become pixels."""
    return tuple(tile.args)


def _with_raw_mode(tile: Any, raw_mode: str) -> Any:
    return tile._replace(args=(raw_mode, *_args(tile)[1:]))


def _mend_palette(image: TiffImageFile) -> None:
    """A palette has 16 bits a colour. Some programs write 8, which Pillow would turn into black."""
    colours = image.tag_v2.get(COLORMAP, ())
    if colours and max(colours) < 256 and image.palette is not None:
        image.palette.palette = bytes(colours)


def numbers(image: Image) -> np.ndarray | None:
    """The numbers of a deep grey image (H, W), of the file's own type; None for other images."""
    form = getattr(image, "tag_v2", {}).get(SAMPLEFORMAT, (_UNSIGNED,))[0]
    if image.mode == "L" and form == _SIGNED:
        return np.asarray(image).view(np.int8)
    if image.mode == "I" and isinstance(image, TiffImageFile) and form == _UNSIGNED:
        return np.asarray(image).view(np.uint32)
    deep = image.mode in ("I", "F") or image.mode.startswith("I;")
    return np.asarray(image) if deep else None


def white_is_zero(image: Image) -> bool:
    """Whether a TIFF's zero is white. Pillow inverts unsigned 8 bits, and radiographs have more."""
    tags = getattr(image, "tag_v2", {})
    return bool(tags.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO)


def channels_apart(image: ImageFile) -> bool:
    """Whether libtiff unpacks each channel of an opened image on its own."""
    packed = bool(image.tile) and image.tile[0].codec_name == "libtiff"
    return packed and getattr(image, "tag_v2", {}).get(PLANAR_CONFIGURATION) == _APART


# --- what is not read ----------------------------------------------------------------------------


def unread(data: bytes) -> str | None:
    """The name of an intact TIFF's encoding that is not read; None if the file is damaged."""
    try:
        return _unread(_tags(data))
    except Exception:  # noqa: BLE001 - Pillow's parser raises anything on damaged tags
        return None


def _tags(data: bytes) -> ImageFileDirectory_v2:
    header = data[:16] if data[2:3] == b"+" or data[3:4] == b"+" else data[:8]
    tags = ImageFileDirectory_v2(header)
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    return tags


def _unread(tags: ImageFileDirectory_v2) -> str | None:
    packing = tags.get(COMPRESSION, 1)
    if COMPRESSION_INFO.get(packing, _LEFT_OUT[0]) in _LEFT_OUT:
        return "a TIFF of a rare compression"
    key = _key(tags)
    if key[1] == _YCBCR and packing == 1 and tags.get(YCBCRSUBSAMPLING, (2, 2)) != (1, 1):
        return "an uncompressed TIFF of subsampled colours"
    if key in OPEN_INFO or not key[4] or not set(key[4]) <= set(range(1, 65)):
        return None
    return _name(key)


def _name(key: Any) -> str:
    """By what sets it apart: the numbers that its samples are, and how many make a pixel."""
    bits, form = max(key[4]), _FORMS.get(key[2][0], "numbers")
    greys = dict.fromkeys((_WHITE_IS_ZERO, _BLACK_IS_ZERO), "grey")
    colour = {**greys, _PALETTE: "a palette"}.get(key[1], "colour")
    more = " with transparency" if key[5] else ""
    return f"a TIFF of {bits}-bit {form} in {colour}{more}"


def _key(tags: ImageFileDirectory_v2) -> Any:
    """What Pillow looks a TIFF up by: order, colours, numbers, order of bits, bits, extra."""
    forms = tags.get(SAMPLEFORMAT, (_UNSIGNED,))
    return (
        tags.prefix,
        tags.get(PHOTOMETRIC_INTERPRETATION, 0),
        forms[:1] if len(set(forms)) == 1 else forms,
        tags.get(FILLORDER, 1),
        _bits(tags),
        tags.get(EXTRASAMPLES, ()),
    )


def _bits(tags: ImageFileDirectory_v2) -> tuple[int, ...]:
    """Of each sample of a pixel. One number may stand for all."""
    bits, samples = tags.get(BITSPERSAMPLE, (1,)), tags.get(SAMPLESPERPIXEL, 1)
    return tuple(bits * samples if len(bits) == 1 else bits[:samples])
