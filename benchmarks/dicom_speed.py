"""Images per second and core by transfer syntax: `python -m benchmarks.dicom_speed [seconds]`.

Each file is rendered as a decoder does it, from its bytes to shades, in turns with the bare codec
on the same frame's bytes. Raw pixels have no codec: beside them stands what pydicom takes to read
the file and give its values. Times are of the processor, and the least of each: what other
processes do to the caches only adds to it.

It needs DCMTK (`dcmcjpeg`) to write lossless JPEG, and the package `imagecodecs`, which is no part
of Kindred, to write high-throughput JPEG 2000; without them these rows are left out.
"""

import io
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from benchmarks.report import table
from pipeline.dicom import codecs, fragments
from pipeline.dicom.reading import UNDEFINED, open_file
from pipeline.dicom.rendering import render
from pipeline.dicom.stored import attributes_of
from pipeline.dicom.streams import stream_of
from tests.made_bytes import encoded
from tests.made_dicom import NATIVE, encapsulated, native

HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
CAP = 10**8


@dataclass(frozen=True)
class Picture:
    """`said` is what the header says beside the pixels."""

    name: str
    values: np.ndarray
    bits: int
    said: dict[str, Any]


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 4
    for picture in (_ct(), _cr()):
        rows = []
        for name, data in files(picture):
            bare, ours, theirs = measured(data, seconds)
            ratio = f"{bare / ours:.2f}"
            megabytes = f"{len(data) / 1e6:.2f}"
            rows.append([name, megabytes, *(f"{1 / t:.1f}" for t in (bare, ours, theirs)), ratio])
            print(*rows[-1], file=sys.stderr, flush=True)
        print(f"\n{picture.name}\n")
        head = ["transfer syntax", "MB", "bare codec, 1/s", "rendered, 1/s", "pydicom, 1/s", "part"]
        print(table(head, rows))


def _ct() -> Picture:
    said = {"RescaleSlope": 1, "RescaleIntercept": -1024, "Modality": "CT"}
    window = {"WindowCenter": 40, "WindowWidth": 400}
    return Picture("CT, 512 × 512, 12 bits in 16", _body(512, 512, 4095), 12, said | window)


def _cr() -> Picture:
    said = {"PhotometricInterpretation": "MONOCHROME1", "Modality": "CR"}
    window = {"WindowCenter": 8192, "WindowWidth": 16384}
    return Picture("CR, 2,500 × 2,000, 14 bits in 16", _body(2500, 2000, 16_383), 14, said | window)


def _body(rows: int, columns: int, most: int) -> np.ndarray:
    """Smooth shapes and a sensor's noise, so that codecs have as much to do as with a patient."""
    noise = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    shapes = np.sin(9 * x) * np.cos(7 * y) / 3 + np.exp(-3 * (x**2 + y**2))
    values = (shapes - shapes.min()) / np.ptp(shapes) * most * 0.9
    values[x**2 + y**2 > 0.9] = 0
    grain = noise.normal(0, most / 400, values.shape) * (values > 0)
    return np.clip(values + grain, 0, most).astype(np.uint16)


def files(picture: Picture) -> Iterator[tuple[str, bytes]]:
    """One file of each transfer syntax."""
    for name, syntax in NATIVE.items():
        yield f"raw, {name}", native(picture.values, picture.bits, syntax, **picture.said)
    plain = native(picture.values, picture.bits, **picture.said)
    yield "RLE", compressed(plain, RLELossless)
    eight = (picture.values >> (picture.bits - 8)).astype(np.uint8)
    small = dcmread(io.BytesIO(native(eight, 8, **picture.said)))
    small.WindowCenter, small.WindowWidth, small.RescaleIntercept = 128, 256, 0
    small.RescaleSlope = 1
    jpeg = encoded(Image.fromarray(eight), "JPEG", quality=90)
    yield "JPEG baseline, of 8 bits", encapsulated([jpeg], JPEGBaseline8Bit, small)
    if shutil.which("dcmcjpeg"):
        yield "JPEG lossless", by_dcmtk(plain)
    yield "JPEG-LS lossless", compressed(plain, JPEGLSLossless)
    yield "JPEG-LS near lossless", compressed(plain, JPEGLSNearLossless, jls_error=3)
    yield "JPEG 2000 lossless", compressed(plain, JPEG2000Lossless)
    yield "JPEG 2000, 10 : 1", compressed(plain, JPEG2000, j2k_cr=[10])
    if find_spec("imagecodecs"):
        yield "HTJ2K lossless", _high_throughput(picture, plain)


def compressed(plain: bytes, syntax: str, **how: Any) -> bytes:
    dataset = dcmread(io.BytesIO(plain))
    dataset.compress(syntax, generate_instance_uid=False, **how)
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def by_dcmtk(plain: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "plain"), Path(folder, "made")
        given.write_bytes(plain)
        command = ["dcmcjpeg", "+e1", "+un", str(given), str(made)]
        subprocess.run(command, check=True, capture_output=True)
        return made.read_bytes()


def _high_throughput(picture: Picture, plain: bytes) -> bytes:
    import imagecodecs

    stream = imagecodecs.htj2k_encode(picture.values, reversible=True)
    return encapsulated([stream], HTJ2K_LOSSLESS, dcmread(io.BytesIO(plain)))


def measured(data: bytes, seconds: float) -> tuple[float, float, float]:
    """Seconds of the processor for one image: the bare codec's, ours, and pydicom's own way."""
    ways = (bare_codec(data), lambda: render(data, 0, CAP), lambda: _by_pydicom(data))
    taken: tuple[list[float], ...] = ([], [], [])
    for way in ways:
        way()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(taken[0]) < 5:
        for way, times in zip(ways, taken, strict=True):
            start = time.process_time()
            way()
            times.append(time.process_time() - start)
    return min(taken[0]), min(taken[1]), min(taken[2])


def bare_codec(data: bytes) -> Callable[[], object]:
    """What the codec alone takes for the frame's bytes, which are found before."""
    opened = open_file(io.BytesIO(data))
    if opened.inflated is not None:
        start = 144 + int.from_bytes(data[140:144], "little")
        return lambda: zlib.decompress(data[start:], -zlib.MAX_WBITS)
    assert opened.pixels is not None
    if opened.pixels.length != UNDEFINED:
        return lambda: _by_pydicom(data)
    stream = fragments.frame_of(memoryview(data)[opened.pixels.start :], 0, 1)
    attributes, found = attributes_of(opened.header), stream_of(stream)
    if found is None:
        rle, pixels = codecs._library("rle.rle"), attributes.rows * attributes.columns
        return lambda: rle.decode_frame(stream, pixels, attributes.allocated, "<")
    if found.kind == "jpeg":
        return lambda: np.asarray(Image.open(io.BytesIO(stream)))
    if found.kind == "ls":
        return lambda: codecs._library("jpeg_ls").decode_buffer(stream)
    if found.kind == "2000":
        return lambda: codecs._library("openjpeg").decode(stream)
    return lambda: codecs._lossless(stream, found, attributes)


def _by_pydicom(data: bytes) -> object:
    return dcmread(io.BytesIO(data)).pixel_array


if __name__ == "__main__":
    main()
