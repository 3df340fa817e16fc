"""Shared by the parts of `python -m benchmarks.gpu`: how much to measure, on what, and how."""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.report import Spread

PHOTOGRAPH = (600, 450)  # width and height of the images that Kindred was made for
QUALITY = 90


@dataclass(frozen=True)
class Sizes:
    """The sizes of all measurements. `seconds` is for one of them."""

    batches: tuple[int, ...]  # images a forward pass
    square: int  # rows of the large square product
    threads: tuple[int, ...]  # decoding threads
    plans: tuple[tuple[int, int], ...]  # lanes and images a batch of the bulk runs
    workers: tuple[int, ...]  # processes on one card
    rows: int  # rows of a bulk run
    shard: int
    images: int  # different images, made beforehand
    seconds: float
    rounds: int


FULL = Sizes(
    batches=(64, 256, 1024, 2048),
    square=8192,
    threads=(1, 2, 4, 8, 16),
    plans=((2, 256),),
    workers=(1, 2, 3, 4),
    rows=12_288,
    shard=1024,
    images=512,
    seconds=0.5,
    rounds=3,
)
# Shows that everything runs, on a processor, in seconds. The numbers mean nothing.
TINY = Sizes(
    batches=(2, 4),
    square=64,
    threads=(1, 2),
    plans=((2, 4),),
    workers=(),
    rows=32,
    shard=8,
    images=8,
    seconds=0.01,
    rounds=1,
)


@dataclass(frozen=True)
class Measured:
    """One line of a table. Without a value, it could not be measured, and `note` says why."""

    what: str
    value: Spread | None
    unit: str
    note: str = ""


def one(what: str, value: float, unit: str, note: str = "") -> Measured:
    return Measured(what, Spread.of([value]), unit, note)


def tried(what: str, unit: str, measure: Callable[[], Spread | float], note: str = "") -> Measured:
    """Measures a candidate. One that is missing here, or fails, costs a line and not the run."""
    try:
        value = measure()
    except Exception as error:  # noqa: BLE001 - whatever a candidate raises, the next one is tried
        return Measured(what, None, unit, f"not measured: {reason(error)}")
    return Measured(what, value if isinstance(value, Spread) else Spread.of([value]), unit, note)


def reason(error: BaseException) -> str:
    """The first line of an error: the rest can be long, as when memory runs out."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:100]


@dataclass(frozen=True)
class Bench:
    """`folder` contains `model/` and `images/`, which `prepare` made."""

    folder: Path
    cpu: bool
    sizes: Sizes = field(default=FULL)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu") if self.cpu else torch.device("cuda", 0)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.cpu else torch.bfloat16

    @property
    def model(self) -> Path:
        return self.folder / "model"

    def photographs(self) -> list[bytes]:
        """The photographs as JPEG files."""
        return [file.read_bytes() for file in sorted((self.folder / "images").glob("*.jpg"))]

    def noise(self, images: int, size: tuple[int, int]) -> torch.Tensor:
        """Random pixels, uint8 (n, 3, H, W) on the device; `size` is (H, W)."""
        return torch.randint(0, 256, (images, 3, *size), dtype=torch.uint8, device=self.device)

    def wait(self) -> None:
        if not self.cpu:
            torch.cuda.synchronize()

    def rate(self, action: Callable[[], object], images: int = 1) -> Spread:
        """The images a second of each round, which calls one by one and waits only at the end."""
        for _ in range(2):
            action()
        self.wait()
        start = time.perf_counter()
        action()
        self.wait()
        calls = max(1, min(1000, int(self.sizes.seconds / (time.perf_counter() - start))))
        return Spread.of([self._round(action, calls) * images for _ in range(self.sizes.rounds)])

    def _round(self, action: Callable[[], object], calls: int) -> float:
        """The calls a second."""
        start = time.perf_counter()
        for _ in range(calls):
            action()
        self.wait()
        return calls / (time.perf_counter() - start)


def per(spread: Spread, factor: float) -> Spread:
    """Divides `factor` by a rate: 1000 over calls a second gives milliseconds."""
    low, high = factor / spread.high, factor / spread.low
    return Spread(factor / spread.median, low, high, spread.count)


def times(spread: Spread, factor: float) -> Spread:
    low, high = spread.low * factor, spread.high * factor
    return Spread(spread.median * factor, low, high, spread.count)


def prepare(folder: Path, source: Path | None, *, tiny: bool) -> None:
    """Writes an untrained ViT-S/16, which costs as much as a trained one, and photographs.

    The photographs are drawn, or come from the parquet files in `source`. All have one size.
    """
    from cli.sample import write_encoder

    sizes = TINY if tiny else FULL
    small = {"hidden": 32, "layers": 2, "heads": 2, "intermediate": 64, "image_size": 32}
    write_encoder(folder / "model", **(small if tiny else {}))
    (folder / "images").mkdir()
    for number, data in enumerate(_sources(source, sizes.images)):
        (folder / "images" / f"{number:05}.jpg").write_bytes(_brought_to_size(data))


def _sources(source: Path | None, count: int) -> Sequence[bytes]:
    if source is None:
        from cli.sample import drawn_row

        return [drawn_row(0, number)["image"]["bytes"] for number in range(count)]
    import pyarrow.parquet as pq

    column = pq.read_table(source, columns=["image"])["image"]
    return [cell["bytes"] for cell in column.slice(0, count).to_pylist()]


def _brought_to_size(data: bytes) -> bytes:
    from PIL import Image

    image = Image.open(io.BytesIO(data)).convert("RGB").resize(PHOTOGRAPH, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
