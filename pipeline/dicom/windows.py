"""Which rule makes shades of a frame's values: the file's own, else one for its modality."""

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray
from pydicom import Dataset

from pipeline.dicom.elements import code, item, number
from pipeline.dicom.shades import (
    Bits,
    Function,
    Modality,
    Rescale,
    Shading,
    TableOfShades,
    Window,
    extremes,
)
from pipeline.dicom.tables import table_of

# Of CT without a window of its own: soft tissue, as viewers offer it, in Hounsfield units.
DEFAULTS = {"CT": ("CT soft tissue", Window(40, 400))}


def groups_of(header: Dataset, frame: int) -> list[Dataset]:
    """Where a frame's values stand, the nearest first (PS3.3 C.7.6.16)."""
    own = item(header, "PerFrameFunctionalGroupsSequence", frame)
    shared = item(header, "SharedFunctionalGroupsSequence", 0)
    return [each for each in (own, shared) if each is not None]


def modality_of(header: Dataset, groups: list[Dataset], *, signed: bool) -> Modality:
    """What makes units of stored values, such as Hounsfield's; as they are if nothing says."""
    for source in (*_within(groups, "PixelValueTransformationSequence"), header):
        slope, intercept = number(source, "RescaleSlope"), number(source, "RescaleIntercept")
        if slope or intercept is not None:
            return Rescale(slope or 1.0, intercept or 0.0)
    # These are for subtraction, not for display (PS3.3 C.8.7.1.1.2).
    logarithmic = code(header, "PixelIntensityRelationship") in ("LOG", "DISP")
    tables = header.get("ModalityLUTSequence")
    if tables and not (logarithmic and code(header, "Modality") in ("XA", "XRF")):
        return table_of(tables[0], signed=signed) or Rescale()
    return Rescale()


def shading_of(
    header: Dataset,
    groups: list[Dataset],
    words: NDArray[Any],
    bits: Bits,
    modality: Modality,
) -> tuple[Shading, str]:
    """The rule, and its name for `source.pixels`."""
    for source in (*_within(groups, "FrameVOILUTSequence"), header):
        if (own := _own(source, bits, modality)) is not None:
            return own
    name, window = DEFAULTS.get(code(header, "Modality"), ("", None))
    if window is not None and _in_units(header, groups):
        return window, f"default window {name}"
    found = extremes(words, bits, modality, _padding(header, bits))
    return found, "range"


def _own(source: Dataset, bits: Bits, modality: Modality) -> tuple[Shading, str] | None:
    """The first look-up table, else the first window."""
    tables = source.get("VOILUTSequence")
    if tables:
        signed = bits.signed if isinstance(modality, Rescale) else False
        table = table_of(tables[0], signed=signed or _negative(modality))
        if table is not None:
            return TableOfShades(table), "voi lut"
    centre, width = number(source, "WindowCenter"), number(source, "WindowWidth")
    if centre is None or width is None or width <= 0:
        return None
    function = _function(source)
    name = {"LINEAR": "", "LINEAR_EXACT": " exact", "SIGMOID": " sigmoid"}[function]
    return Window(centre, width, function), f"window {centre:g}/{width:g}{name}"


def _negative(modality: Modality) -> bool:
    return isinstance(modality, Rescale) and modality.intercept < 0


def _function(source: Dataset) -> Function:
    said = code(source, "VOILUTFunction")
    return (
        "SIGMOID" if said == "SIGMOID" else "LINEAR_EXACT" if said == "LINEAR_EXACT" else "LINEAR"
    )


def _in_units(header: Dataset, groups: list[Dataset]) -> bool:
    """Whether a rescale makes Hounsfield units."""
    sources = (*_within(groups, "PixelValueTransformationSequence"), header)
    return any(number(source, "RescaleIntercept") is not None for source in sources)


def _padding(header: Dataset, bits: Bits) -> tuple[float, float] | None:
    """From and to which stored value pixels are none (PS3.3 C.7.5.1.1.2)."""
    for name in ("PixelPadding", "FloatPixelPadding", "DoubleFloatPixelPadding"):
        value, limit = number(header, f"{name}Value"), number(header, f"{name}RangeLimit")
        if value is not None:
            ends = [value, value if limit is None else limit]
            if name == "PixelPadding":  # the type of the element can be wrong: 63,536 is -2,000
                ends = [bits.value(int(each)) for each in ends]
            return min(ends), max(ends)
    return None


def _within(groups: list[Dataset], name: str) -> Iterator[Dataset]:
    for group in groups:
        sequence = group.get(name)
        if sequence:
            yield sequence[0]
