"""Which DICOM images may have a patient's name in their pixels, and where it may stand.

No header proves that there is none, so what is suspect waits until a person has looked. A
department can say which kinds it trusts; a file that says itself that it has such text is never
trusted.
"""

from collections.abc import Iterator
from typing import Any

from pydicom import Dataset

from pipeline.base.settings import Trusted
from pipeline.dicom.burned_in_places import PLACES, Place, Rectangle

SAYS_SO = "its header says that text is burned into its pixels"
_REASONS: dict[Trusted, str] = {
    "ultrasound": "it is ultrasound, where the machine writes names into the pixels",
    "secondary-capture": "it is a secondary capture, which can show anything",
    "screen-shot": "it is a screen shot, a scanned film or a report as a picture",
    "endoscopy": "it is endoscopy, where the machine writes names into the pixels",
}

# Storage classes, by the beginning of their UID (PS3.4 B.5), and the modalities of the same kinds
# (PS3.3 C.7.3.1.1.1): of one that only says its modality, the class can be private or wrong.
_CLASSES: tuple[tuple[str, Trusted], ...] = (
    ("1.2.840.10008.5.1.4.1.1.7", "secondary-capture"),  # and its multi-frame kinds, .7.1 to .7.4
    ("1.2.840.10008.5.1.1.29", "secondary-capture"),  # hardcopy, retired
    ("1.2.840.10008.5.1.1.30", "secondary-capture"),
    ("1.2.840.10008.5.1.4.1.1.3", "ultrasound"),  # multi-frame
    ("1.2.840.10008.5.1.4.1.1.6", "ultrasound"),
    ("1.2.840.10008.5.1.4.1.1.77.1.1", "endoscopy"),  # and its video
)
_MODALITIES: dict[str, Trusted] = {
    "US": "ultrasound",
    "IVUS": "ultrasound",
    "ES": "endoscopy",
    "OT": "secondary-capture",
    "HC": "secondary-capture",
    "SC": "secondary-capture",
    "DOC": "secondary-capture",
}
# Words of Image Type (0008,0008) by which workstations mark what they have drawn.
_DRAWN = ("SCREEN", "SAVE", "CAPTURE", "VXTL STATE", "REPORT", "DOSE", "DEMOGRAPHIC", "PRINT")

# In pixels: what a recipe takes beyond the picture is cut off.
_LEAST = 4


def suspicion(header: Dataset, trusted: frozenset[str] = frozenset()) -> str | None:
    """Why the images of this file must wait in quarantine; None if they need not.

    Burned In Annotation (0028,0301) is believed if it says YES. Its NO is the opinion of a machine
    that does not see what an overlay or a screen shows, so it counts only if `marked-clean` is
    trusted.
    """
    says = _text(header, "BurnedInAnnotation")
    if says == "YES":
        return SAYS_SO
    if says == "NO" and "marked-clean" in trusted:
        return None
    return next((_REASONS[kind] for kind in _kinds(header) if kind not in trusted), None)


def _kinds(header: Dataset) -> Iterator[Trusted]:
    """What the image is, of the kinds that are suspect."""
    storage, modality = _text(header, "SOPClassUID"), _text(header, "Modality")
    for uid, kind in _CLASSES:
        if storage == uid or storage.startswith(f"{uid}."):
            yield kind
    if modality in _MODALITIES:
        yield _MODALITIES[modality]
    drawn = any(word in each for each in _texts(header, "ImageType") for word in _DRAWN)
    # Conversion Type (0008,0064) is only in what was made from something else (PS3.3 C.8.6.1).
    if drawn or _text(header, "ConversionType"):
        yield "screen-shot"


def proposed(header: Dataset, width: int, height: int) -> list[Rectangle]:
    """Rectangles of a picture of this size where text is known or likely to stand.

    Those of the recipe for this machine; of ultrasound, all around the regions that its header says
    are image (PS3.3 C.8.5.5). They are proposals: a person looks before anything is masked.
    """
    columns, rows = _side(header, "Columns") or width, _side(header, "Rows") or height
    found = [each for place in PLACES if _fits(place, header) for each in place.rectangles]
    found += _around(_regions(header), columns, rows)
    shown = (_scaled(each, width / columns, height / rows) for each in found)
    cut = (_within(each, width, height) for each in shown)
    return list(dict.fromkeys(each for each in cut if each is not None))


def _side(header: Dataset, keyword: str) -> int:
    value = header.get(keyword)
    return value if isinstance(value, int) and value > 0 else 0


def _scaled(each: Rectangle, across: float, down: float) -> Rectangle:
    """A picture whose pixels are not square is shown in another size than it is stored in."""
    x, y, width, height = each
    return round(x * across), round(y * down), round(width * across), round(height * down)


def _fits(place: Place, header: Dataset) -> bool:
    model = _squeezed(_text(header, "ManufacturerModelName"))
    return (
        _text(header, "Modality") == place.modality
        and place.maker in _text(header, "Manufacturer")
        and place.model in model
        and place.rows in (0, header.get("Rows"))
    )


def _regions(header: Dataset) -> list[Rectangle]:
    """Those of Sequence of Ultrasound Regions (0018,6011) whose corners make sense."""
    try:
        found = [tuple(int(each[tag].value) for tag in _CORNERS) for each in header[_REGIONS].value]
    except Exception:  # noqa: BLE001 - whatever a header has there, it only makes a proposal
        return []
    return [(x, y, right - x, bottom - y) for x, y, right, bottom in found]


_REGIONS = (0x0018, 0x6011)
_CORNERS = ((0x0018, 0x6018), (0x0018, 0x601A), (0x0018, 0x601C), (0x0018, 0x601E))


def _around(regions: list[Rectangle], width: int, height: int) -> list[Rectangle]:
    """What lies outside of the least rectangle around all regions: at most four bands."""
    whole = [each for each in regions if each[2] > 0 and each[3] > 0]
    if not whole:
        return []
    left, top = min(x for x, _, _, _ in whole), min(y for _, y, _, _ in whole)
    right, bottom = max(x + w for x, _, w, _ in whole), max(y + h for _, y, _, h in whole)
    return [
        (0, 0, width, top),
        (0, bottom, width, height - bottom),
        (0, top, left, bottom - top),
        (right, top, width - right, bottom - top),
    ]


def _within(each: Rectangle, width: int, height: int) -> Rectangle | None:
    """The part of a rectangle that lies in the picture; None if that is nothing to see."""
    x, y = max(0, each[0]), max(0, each[1])
    w, h = min(width, each[0] + each[2]) - x, min(height, each[1] + each[3]) - y
    return (x, y, w, h) if w >= _LEAST and h >= _LEAST else None


def _text(header: Dataset, keyword: str) -> str:
    return next(_texts(header, keyword), "")


def _texts(header: Dataset, keyword: str) -> Iterator[str]:
    """The values of an element, in capitals; none if they cannot be read."""
    try:
        value: Any = header.get(keyword)
    except Exception:  # noqa: BLE001 - on hostile bytes pydicom raises whatever it stumbles over
        return
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        value = [] if value is None else [value]
    yield from (str(each).strip(" \0").upper() for each in value)


def _squeezed(text: str) -> str:
    return text.replace(" ", "").replace("-", "").replace("_", "")
