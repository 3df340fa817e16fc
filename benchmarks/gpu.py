"""`python -m benchmarks.gpu` measures how Kindred uses a GPU. It prints a table and writes JSON.

It needs no network. Each part runs in its own process under a time limit. So a part that cannot run
here, or that ends its process, costs only its own lines. `--cpu` runs everything on tiny sizes
without a card, to show that it runs: such numbers mean nothing.
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from benchmarks.gpu_setup import FULL, TINY, Bench, Measured, prepare, reason
from benchmarks.report import Goal, Spread, number, table
from workers.memory import keep_freed_memory

TOTAL_SECONDS = 470.0  # all parts together; rented machines often allow ten minutes a call
NO_CARD = "torch sees no GPU here; --cpu runs all of it on tiny sizes, whose numbers mean nothing"


@dataclass(frozen=True)
class Part:
    """`function` yields lines. `seconds` is its time limit; lines measured by then are kept."""

    module: str
    function: str
    title: str
    seconds: float


# The parts that the goals need come first, because the total time is limited.
PARTS = {
    "lane": Part("gpu_lane", "lane", "decoded on the card: where the time goes", 150),
    "speed": Part("gpu_card", "speed", "decoded on the card: how fast", 105),
    "card": Part("gpu_bulk", "on_card", "decoded on the card: bytes to searchable", 190),
    "forward": Part("gpu_compute", "forward", "the forward pass", 60),
    "agree": Part("gpu_card", "agreement", "decoded on the card: whether it agrees", 80),
    "encoders": Part("gpu_encoders", "encoders", "larger encoders, untrained", 40),
    "workers": Part("gpu_bulk", "workers", "several workers, which decode on the CPU", 120),
    "limits": Part("gpu_compute", "limits", "the card itself", 40),
    "decode": Part("gpu_decode", "decoding", "decoding on the CPU", 90),
    "stages": Part("gpu_bulk", "stage_by_stage", "each step by itself", 60),
    "bulk": Part("gpu_bulk", "bulk", "bulk ingest, 600 x 450 pixels", 150),
    "graphs": Part("gpu_compute", "graphs", "CUDA graphs, which Kindred does not use", 50),
    "compile": Part("gpu_compute", "compiled", "torch.compile, which Kindred does not use", 150),
}
# What took long and is settled runs only by its name.
USUAL = ("lane", "speed", "card")


def main() -> int:
    arguments = _arguments()
    if not arguments.cpu and not torch.cuda.is_available():
        print(NO_CARD, file=sys.stderr)
        return 2
    for name in [n for n in os.environ if n.upper().startswith("KINDRED_")]:
        del os.environ[name]  # do not measure an installation's settings by accident
    keep_freed_memory()  # as a worker does
    sizes = TINY if arguments.cpu else FULL
    if arguments.worker:
        from benchmarks.gpu_bulk import worker

        worker(arguments.worker, arguments.plan, cpu=arguments.cpu, sizes=sizes)
        return 0
    if arguments.part:
        bench = Bench(arguments.folder, arguments.cpu, sizes)
        _write_lines(PARTS[arguments.part], bench, arguments.out)
        return 0
    described = machine.describe() | card()
    with tempfile.TemporaryDirectory(prefix="kindred-gpu-", ignore_cleanup_errors=True) as folder:
        say("preparing photographs and an untrained ViT-S/16")
        prepare(Path(folder), arguments.images, tiny=arguments.cpu)
        found = {name: _apart(name, Path(folder), arguments) for name in _timed(arguments.only)}
    print(report(described, found, cpu=arguments.cpu))
    write(arguments.out, described, found, cpu=arguments.cpu)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="without a card, on tiny sizes")
    parser.add_argument("--images", type=Path, help="a folder of parquet files; default: drawn")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=[*USUAL], help="some parts")
    parser.add_argument("--out", type=Path, default=Path("build/gpu.json"))
    for internal in ("--part", "--folder", "--worker", "--plan"):
        kind = str if internal in ("--part", "--plan") else Path
        parser.add_argument(internal, type=kind, help=argparse.SUPPRESS)
    return parser.parse_args()


def say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def card() -> dict[str, str]:
    """The driver's version and the card's memory, but nothing that names the machine."""
    if not torch.cuda.is_available():
        return {"driver": "none", "cards": "0"}
    properties = torch.cuda.get_device_properties(0)
    return {
        "driver": _driver(),
        "CUDA of torch": str(torch.version.cuda),
        "cards": str(torch.cuda.device_count()),
        "memory of the card": f"{properties.total_memory / 2**30:.0f} GiB",
        "multiprocessors": str(properties.multi_processor_count),
    }


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip().partition("\n")[0]


# --- parts ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    lines: list[Measured]
    seconds: float
    error: str = ""


def _timed(names: Sequence[str]) -> Iterator[str]:
    for name, part in PARTS.items():
        if name in names:
            say(part.title)
            yield name


_began = time.monotonic()


def _apart(name: str, folder: Path, arguments: argparse.Namespace) -> Found:
    """Runs a part in its own process."""
    part, lines = PARTS[name], folder / f"{name}.jsonl"
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", name]
    command += ["--folder", str(folder), "--out", str(lines)]
    start = time.monotonic()
    limit = min(part.seconds, TOTAL_SECONDS - (start - _began))
    if limit <= 0:
        return Found([], 0, "left out: no time was left")
    error = run_for(limit, [*command, *["--cpu"] * arguments.cpu])
    return Found(_read_lines(lines), time.monotonic() - start, error)


def run_for(seconds: float, command: Sequence[str]) -> str:
    """How it went wrong, or "". All that the command has started in its session ends with it."""
    child = subprocess.Popen(command, start_new_session=True)
    try:
        code = child.wait(seconds)
        return "" if code == 0 else f"ended with {code}"
    except subprocess.TimeoutExpired:
        return f"cut off after {seconds:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _write_lines(part: Part, bench: Bench, out: Path) -> None:
    """Writes each line at once, because the process can end at any time."""
    with out.open("w") as file:
        for line in measured(part, bench):
            file.write(json.dumps(dataclasses.asdict(line)) + "\n")
            file.flush()
            say(f"  {line.what}: {shown(line)} {line.unit} {line.note}")


def measured(part: Part, bench: Bench) -> Iterator[Measured]:
    """Runs a part in this process. If it fails, its last line says why."""
    try:
        module: Any = importlib.import_module(f"benchmarks.{part.module}")
        yield from getattr(module, part.function)(bench)
    except Exception as error:  # noqa: BLE001 - a missing package, memory, a driver: go on
        yield Measured("the rest of this part", None, "", f"not measured: {reason(error)}")


def _read_lines(file: Path) -> list[Measured]:
    if not file.exists():
        return []
    found = [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]
    return [
        Measured(**{**line, "value": Spread(**line["value"]) if line["value"] else None})
        for line in found
    ]


# --- the report ----------------------------------------------------------------------------------


def shown(line: Measured) -> str:
    if line.value is None:
        return "-"
    return str(line.value) if line.value.count > 1 else number(line.value.median)


def report(described: dict[str, str], found: dict[str, Found], *, cpu: bool) -> str:
    tables = [table(["measured on", ""], [[k, v] for k, v in described.items()])]
    if cpu:
        tables.insert(0, "WITHOUT A CARD, ON TINY SIZES: these numbers mean nothing.")
    else:
        reached = [f"{number(share)} % of {limit}" for limit, share in shares(found).items()]
        lines = [*map(str, goals(found)), f"the forward pass: {', '.join(reached) or 'unknown'}"]
        tables.append("\n".join(f"- {line}" for line in lines))
    for name, part in found.items():
        rows = [[line.what, shown(line), line.unit, line.note] for line in part.lines]
        if part.error:
            rows.append([f"this part: {part.error}", "", "", ""])
        tables.append(table([PARTS[name].title, "median (min .. max)", "", ""], rows))
    return "\n\n".join(tables)


def goals(found: dict[str, Found]) -> list[Goal]:
    """The goals that could be measured. The best plan counts, because it can be configured."""
    forward = _values(found, "forward", "forward, ")
    kindred = "nvImageCodec:"
    wanted = [
        ("forward pass, images/s", max(forward, default=None), 15_000, True),
        ("ingest, images/s", _best(found, "bulk", "ingest, "), 5_000, True),
        ("ingest by several workers, images/s", _best(found, "workers", "decoded"), 5_000, True),
        ("ingest, decoded on the card, images/s", _best(found, "card", "decoded"), 10_000, True),
        ("- the card is busy, %", _best(found, "card", "- the card is busy"), 85, True),
        ("- search beside it, p95 in ms", _least(found, "card", "- search beside"), 50, False),
        ("- the same neighbours, %", _best(found, "agree", f"{kindred} the same 10"), 99, True),
        ("- most bits apart of 256", _best(found, "agree", f"{kindred} hashes, most"), 8, False),
        ("- other verdicts", _best(found, "agree", "damaged and odd files"), 0, False),
    ]
    return [
        Goal(what, value, limit, more) for what, value, limit, more in wanted if value is not None
    ]


def _best(found: dict[str, Found], part: str, begins: str) -> float | None:
    return max(_values(found, part, begins), default=None)


def _least(found: dict[str, Found], part: str, begins: str) -> float | None:
    return min(_values(found, part, begins), default=None)


def _values(found: dict[str, Found], part: str, begins: str) -> list[float]:
    lines = found[part].lines if part in found else []
    return [line.value.median for line in lines if line.value and line.what.startswith(begins)]


def shares(found: dict[str, Found]) -> dict[str, float]:
    """How many percent of the card's limits the best forward pass reaches."""
    forward = max(_values(found, "forward", "forward, "), default=None)
    work = max(_values(found, "forward", "work of one image"), default=None)
    square = max(_values(found, "limits", "square product"), default=None)
    products = max(_values(found, "limits", "the model's products alone"), default=None)
    reached = {}
    if forward and products:
        reached["what the model's products alone allow"] = 100 * forward / products
    if forward and work and square:
        reached["what a large square product reaches"] = forward * work / square / 10
    return reached


def write(out: Path, described: dict[str, str], found: dict[str, Found], *, cpu: bool) -> None:
    """Writes the report as JSON. With `cpu`, the numbers mean nothing."""
    out.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu,
        "machine": described,
        "goals": [] if cpu else [dataclasses.asdict(g) | {"met": g.met} for g in goals(found)],
        "shares": {} if cpu else shares(found),
        "parts": {name: dataclasses.asdict(part) for name, part in found.items()},
    }
    out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
