"""What decoding takes of memory: `python -m benchmarks.decoder_memory [megapixels [kind]]`.

`BYTES_A_PIXEL` and `_FILES` in `pipeline/images/decoder.py` come from it. Every image is decoded in
a process of its own, from noise, since what compresses takes less.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from benchmarks.dicom_speed import by_dcmtk, compressed
from benchmarks.report import table
from tests.made_bytes import any_tiff, encoded, png16
from tests.made_dicom import NATIVE, header, native, saved

_DECODE = """
import re, sys
from pathlib import Path
from PIL.Image import Resampling
from pipeline.images import decoder
from pipeline.images.pixels import PixelSteps
from pipeline.images.preparing import Order, prepare
decoder.preload()
def space(what):
    return 1024 * int(re.search(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = space("VmSize")
data = Path(sys.argv[1]).read_bytes()
steps = PixelSteps((224, 224), Resampling.BICUBIC, None, resizer="torch")
made = prepare(data, 10**9, Order(steps, 512))
print(space("VmPeak") - before, getattr(made, "reason", "made").replace(" ", "_"))
"""


def main() -> None:
    megapixels = float(sys.argv[1]) if len(sys.argv) > 1 else 16
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    rows = []
    for name, make in kinds(int(megapixels**0.5 * 1000)):
        if not name.startswith(wanted):
            continue
        data = make()
        peak, made = peak_of(data)
        pixels = megapixels * 1e6
        beyond = f"{(peak - len(data)) / pixels:.1f}"
        rows.append([name, f"{len(data) / pixels:.1f}", f"{peak / pixels:.1f}", beyond, made])
        print(*rows[-1], file=sys.stderr, flush=True)
    print(table(["image", "file, B a pixel", "peak", "beyond its file", ""], rows))


def peak_of(data: bytes) -> tuple[int, str]:
    """Bytes of address space beyond what the process starts with, and what became of the file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image"
        file.write_bytes(data)
        told = subprocess.run(
            [sys.executable, "-c", _DECODE, str(file)], capture_output=True, check=True, text=True
        )
    peak, made = re.split(r"\s+", told.stdout.strip())
    return int(peak), made


def kinds(side: int) -> Iterator[tuple[str, Callable[[], bytes]]]:
    noise = np.random.default_rng(0)

    def image(mode: str = "RGB") -> Image.Image:
        channels = len(Image.new(mode, (1, 1)).getbands())
        return Image.frombytes(mode, (side, side), noise.bytes(side * side * channels))

    def numbers(form: str, channels: int = 1, most: int = 0) -> np.ndarray:
        shape = (side, side, channels)
        if np.dtype(form).kind == "f":
            return noise.random(shape).astype(form)
        return noise.integers(0, most or np.iinfo(form).max, shape, dtype=form)

    turned = Image.Exif()
    turned[0x112] = 6  # a quarter turn
    yield "JPEG", lambda: encoded(image(), "JPEG")
    yield "JPEG, progressive", lambda: encoded(image(), "JPEG", progressive=True)
    yield "JPEG, CMYK, turned", lambda: encoded(image("CMYK"), "JPEG", exif=turned)
    yield "PNG", lambda: encoded(image(), compress_level=0)
    yield "PNG, transparent, turned", lambda: encoded(image("RGBA"), compress_level=1, exif=turned)
    yield "PNG, 16 bits", lambda: png16(numbers("u2", 1))
    yield "PNG, 12 bits in 16", lambda: png16(numbers("u2", 3, 4096))
    yield "PNG, 12 bits in 16, transparent", lambda: png16(numbers("u2", 4, 4096))
    for form in ("i1", "u2", "i2", "u4", "i4", "f4", "f8"):
        yield f"TIFF, grey {form}", lambda f=form: any_tiff(numbers(f), photometric=0)
        yield (
            f"TIFF, grey {form}, deflated",
            lambda f=form: any_tiff(numbers(f), photometric=0, packed=True),
        )
    yield "TIFF, 12 bits in 16", lambda: any_tiff(numbers("u2", 3, 4096), photometric=2)
    yield (
        "TIFF, 12 bits in 16, one tile",
        lambda: any_tiff(
            numbers("u2", 3, 4096), photometric=2, packed=True, tile=-(-side // 16) * 16
        ),
    )
    yield "TIFF, CMYK", lambda: encoded(image("CMYK"), "TIFF")
    yield "BMP", lambda: encoded(image(), "BMP")
    yield "GIF", lambda: encoded(image("P"), "GIF", transparency=0)
    yield "PPM", lambda: encoded(image(), "PPM")
    yield "WEBP", lambda: encoded(image("RGBA"), "WEBP", lossless=True, method=0, quality=0)
    yield "JPEG2000", lambda: encoded(image("RGBA"), "JPEG2000")
    yield "AVIF", lambda: encoded(image("RGBA"), "AVIF", speed=10)
    yield from dicom_kinds(numbers)


def dicom_kinds(
    numbers: Callable[..., np.ndarray],
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Each way to store pixels, and each codec, at its most costly."""

    def grey(form: str, most: int = 0) -> np.ndarray:
        return numbers(form, 1, most)[..., 0]

    for form in ("u1", "u2", "i2", "u4", "i4"):
        yield f"DICOM, grey {form}", lambda f=form: native(grey(f), PixelPaddingValue=0)
    for name, syntax in NATIVE.items():
        yield f"DICOM, {name}", lambda s=syntax: native(grey("u2"), 16, s)
    for form, keyword in (("f4", "FloatPixelData"), ("f8", "DoubleFloatPixelData")):
        yield f"DICOM, {keyword}", lambda f=form, k=keyword: _floats(grey(f), k)
    planar = {"PlanarConfiguration": 1}
    for form in ("u1", "u2", "u4"):
        yield f"DICOM, RGB {form}, planar", lambda f=form: native(numbers(f, 3), **planar)
    full = {"PhotometricInterpretation": "YBR_FULL"}
    yield "DICOM, YBR_FULL", lambda: native(numbers("u1", 3), **full, **planar)
    yield "DICOM, palette", lambda: native(grey("u2"), **_palette())
    yield "DICOM, oblong", lambda: native(grey("u2"), PixelSpacing=[1, 1.02])
    for name, syntax, how in (
        ("RLE", RLELossless, {}),
        ("JPEG-LS", JPEGLSLossless, {}),
        ("JPEG 2000", JPEG2000Lossless, {}),
    ):
        for kind, channels, form in (("u2", 1, "u2"), ("RGB", 3, "u1")):
            yield (
                f"DICOM, {name}, {kind}",
                lambda s=syntax, c=channels, f=form, h=how: _compressed(numbers(f, c), s, **h),
            )
    yield "DICOM, JPEG lossless, u2", lambda: by_dcmtk(native(grey("u2"), 16))
    yield "DICOM, JPEG lossless, RGB", lambda: by_dcmtk(native(numbers("u1", 3)))


def _floats(values: np.ndarray, keyword: str) -> bytes:
    dataset = header(*values.shape, 1, 32, signed=False)
    dataset.BitsAllocated = 8 * values.dtype.itemsize
    setattr(dataset, keyword, values.tobytes())
    return saved(dataset)


def _palette() -> dict[str, object]:
    said: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        said[f"{name}PaletteColorLookupTableDescriptor"] = [0, 0, 16]
        said[f"{name}PaletteColorLookupTableData"] = np.arange(65_536, dtype="u2").tobytes()
    return said


def _compressed(values: np.ndarray, syntax: str, **how: Any) -> bytes:
    plain = native(values[..., 0] if values.shape[2] == 1 else values)
    return compressed(plain, syntax, **how)


if __name__ == "__main__":
    main()
