"""Measures what an image costs until a model can see it, beside an earlier commit.

`python -m benchmarks.pixels COMMIT [rounds]`: both take turns, each time in new processes. The
numbers are milliseconds of processor time an image, medians. "All processes" goes through real
decoders and counts theirs and their worker's; the steps are measured in one process.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from benchmarks.machine import describe
from benchmarks.report import table

ROOT = Path(__file__).parents[1]
WHOLE = "all processes"
STEPS = ("decode", "resize for the model", "preview", "hash", WHOLE)

# It runs on the code of either commit: the earlier one has fewer modules.
_MEASURE = """
import io, json, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from PIL.Image import Resampling
from pipeline.images import decoding
from pipeline.images.decoders import Decoders
from pipeline.images.hashes import perceptual_hash
from pipeline.images.pixels import PixelSteps
from pipeline.images.preparing import Order
from workers.memory import keep_freed_memory

torch.set_num_threads(1)
keep_freed_memory()
steps = PixelSteps((224, 224), Resampling.BICUBIC, None)
try:
    from pipeline.images.previews import preview
    steps = replace(steps, resizer="torch")
    resize = steps.pixels_of
    hashed = lambda picture: perceptual_hash(picture, "torch")
except ImportError:
    preview = decoding.preview
    resize = lambda picture: steps.pixels(picture.image)
    hashed = perceptual_hash

def photographs(width, height, count):
    draw = np.random.default_rng(width)
    for _ in range(count):
        coarse = draw.integers(0, 256, (height // 25 + 2, width // 25 + 2, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Resampling.BICUBIC)
        noisy = np.asarray(smooth) + draw.normal(0, 4, (height, width, 3))
        out = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
        yield out.getvalue()

def each(work, things):
    started = time.thread_time()
    made = [work(thing) for thing in things]
    return 1000 * (time.thread_time() - started) / len(made), made

def spent(pids):
    ours = time.process_time()
    return ours + sum(int(Path(f"/proc/{p}/schedstat").read_text().split()[0]) for p in pids) / 1e9

def whole(pool, files):
    pids = [p for p in pool.pids]
    started = spent(pids)
    for future in [pool.submit(data, Order(steps, 512)) for data in files]:
        future.result()
    return 1000 * (spent(pids) - started) / len(files)

pool = Decoders(1, 10**8, 60)
while len(pool.pids) < 2:
    time.sleep(0.01)
for width, height, count in ((224, 224, 200), (600, 450, 60), (3000, 2000, 6)):
    files = list(photographs(width, height, count))
    for turn in range(2):  # the first warms up
        times = [whole(pool, files)]
        took, pictures = each(lambda data: decoding.decode(data, 10**8), files)
        times = [took, *(each(work, pictures)[0] for work in
                 (resize, lambda p: preview(p, 512), hashed)), *times]
        del pictures
    print(json.dumps([f"{width}x{height}", times]), flush=True)
pool.close()
"""


def main() -> None:
    commit, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    found: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        _check_out(commit, Path(folder))
        for _ in range(rounds):
            for name, tree in (("before", Path(folder)), ("now", ROOT)):
                for size, times in _measured(tree):
                    found[size, name].append(times)
    print(describe())
    print(table(["size", "step", "before", "now", "of it"], _rows(found)))


def _check_out(commit: str, folder: Path) -> None:
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)


def _measured(tree: Path) -> Iterable[tuple[str, list[float]]]:
    path = os.pathsep.join((str(tree), *filter(None, [os.environ.get("PYTHONPATH")])))
    told = subprocess.run(
        [sys.executable, "-P", "-c", _MEASURE],
        capture_output=True,
        check=True,
        text=True,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": path},
    )
    return [json.loads(line) for line in told.stdout.splitlines()]


def _rows(found: dict[tuple[str, str], list[list[float]]]) -> list[list[str]]:
    rows = []
    for size in dict.fromkeys(size for size, _ in found):
        before, now = (
            [median(values) for values in zip(*found[size, name], strict=True)]
            for name in ("before", "now")
        )
        for step, old, new in zip(STEPS, before, now, strict=True):
            rows.append([size, step, f"{old:.2f}", f"{new:.2f}", f"{100 * new / old:.0f} %"])
    return rows


if __name__ == "__main__":
    main()
