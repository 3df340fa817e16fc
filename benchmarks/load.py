"""`make load` measures latencies and memory while many clients search and two jobs ingest.

    python -m benchmarks.load [--minutes 10] [--clients 64] [--model FOLDER]

The two jobs alternately send two versions of the same images. So every image is embedded anew, but
the number of stored images stays the same: growing memory does not come from more data.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx

from benchmarks.kindred import processes, running
from benchmarks.machine import describe, memory_mib
from cli.sample import write_dataset, write_encoder
from pipeline.base.states import FINAL_STATES

THINK_SECONDS = (0.5, 1.5)  # between an answer and the client's next search
WAIT_SECONDS = 30  # a search that takes longer counts as an error
PLATEAU = 1.05  # the most that memory may grow from the middle third of the time to the last
MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """A process's own memory and its mapped files in MiB, `at` seconds from the start."""

    at: float
    own: float
    mapped: float


@dataclass
class Load:
    """`images` is the number of stored images; `latencies` has (at, seconds) of every answer."""

    clients: int
    seconds: float
    images: int
    latencies: list[tuple[float, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    memory: dict[str, list[Memory]] = field(default_factory=dict)

    def growth(self, process: str) -> float:
        """The median of own memory in the last third of the time, over that in the middle third."""
        middle, last = (
            [m.own for m in self.memory[process] if low <= m.at / self.seconds * 3 < low + 1]
            for low in (1, 2)
        )
        return statistics.median(last) / statistics.median(middle) if middle and last else 1.0


def load(
    url: str, sources: Sequence[Path], image: bytes, pids: Mapping[str, int], load: Load
) -> Load:
    """Runs for `load.seconds` against a ready system, and waits until its jobs have ended."""
    start = time.monotonic()
    stop = threading.Event()
    threads = [
        threading.Thread(target=_search, args=(url, image, Random(n), start, stop, load))
        for n in range(load.clients)
    ]
    threads += [threading.Thread(target=_ingest, args=(url, s, stop, load)) for s in sources]
    for thread in threads:
        thread.start()
    load.memory = {name: [] for name in pids}
    while (at := time.monotonic() - start) < load.seconds:
        for name, pid in pids.items():
            load.memory[name].append(Memory(at, *memory_mib(pid)))
        time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join()
    return load


def _search(
    url: str, image: bytes, random: Random, start: float, stop: threading.Event, load: Load
) -> None:
    """Runs one client: half of its searches send an image, half name a stored image."""
    with httpx.Client(base_url=url, timeout=WAIT_SECONDS + 10) as http:
        while not stop.wait(random.uniform(*THINK_SECONDS)):
            begun = time.monotonic()
            try:
                answer = http.post("/v1/searches", **_request(image, random, load.images))
                state = answer.json().get("state")
            except (httpx.HTTPError, ValueError) as error:
                load.errors.append(type(error).__name__)
                continue
            if answer.status_code == 200 and state == "succeeded":
                load.latencies.append((begun - start, time.monotonic() - begun))
            else:
                load.errors.append(f"{answer.status_code} {answer.text[:200]}")


def _request(image: bytes, random: Random, images: int) -> dict[str, Any]:
    headers = {"Prefer": f"wait={WAIT_SECONDS}"}
    if random.random() < 0.5:
        return {"files": {"image": image}, "data": {"query": '{"limit": 5}'}, "headers": headers}
    wanted = {"must": [{"key": "sex", "match": {"value": random.choice(("female", "male"))}}]}
    body = {"image_id": f"DRAWN_{random.randrange(images):06d}", "limit": 5, "filter": wanted}
    return {"json": body, "headers": headers}


def _ingest(url: str, source: Path, stop: threading.Event, load: Load) -> None:
    """Runs the same job again and again."""
    with httpx.Client(base_url=url, timeout=60) as http:
        while not stop.is_set():
            load.jobs.append(follow(http, source))


def follow(http: httpx.Client, source: Path) -> dict[str, Any]:
    """Submits a job, and returns it when it has ended."""
    answer = http.post("/v1/jobs", json={"dataset": str(source)})
    answer.raise_for_status()
    while True:
        job: dict[str, Any] = http.get(f"/v1/jobs/{answer.json()['id']}").json()
        if job["state"] in FINAL_STATES:
            return job
        time.sleep(0.5)


# --- the report ----------------------------------------------------------------------------------


def report(load: Load) -> str:
    """A table with a row for each minute, and the totals."""
    names = list(load.memory)
    head = ["minute", "searches", "p50 ms", "p95 ms", "max ms"]
    head += [f"{name} MiB (mapped)" for name in names]
    lines = [f"| {' | '.join(head)} |", f"|{' ---: |' * len(head)}"]
    for minute in range(max(1, round(load.seconds / 60))):
        of_it = [s for at, s in load.latencies if at // 60 == minute]
        cells = [str(minute + 1), str(len(of_it)), *_quantiles(of_it)]
        for name in names:
            seen = [m for m in load.memory[name] if m.at // 60 == minute]
            own = statistics.median([m.own for m in seen] or [0])
            mapped = statistics.median([m.mapped for m in seen] or [0])
            cells.append(f"{own:.0f} ({mapped:.0f})")
        lines.append(f"| {' | '.join(cells)} |")
    everything = _quantiles([seconds for _, seconds in load.latencies])
    images = sum(job["embedded"] for job in load.jobs)
    lines += [
        "",
        f"{len(load.latencies):,} searches of {load.clients} clients: p50 {everything[0]} ms, "
        f"p95 {everything[1]} ms, most {everything[2]} ms; {len(load.errors)} errors; "
        f"{len(load.jobs)} jobs, {images:,} images embedded",
        *(
            f"memory of the {name}: last third over middle third {load.growth(name):.3f}"
            + ("" if load.growth(name) <= PLATEAU else ", which is growth")
            for name in names
        ),
    ]
    lines += sorted({f"error: {error}" for error in load.errors})[:5]
    return "\n".join(lines)


def _quantiles(seconds: Sequence[float]) -> tuple[str, str, str]:
    if len(seconds) < 2:
        return "", "", ""
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return tuple(f"{s * 1000:.0f}" for s in (cuts[9], cuts[18], max(seconds)))  # type: ignore[return-value]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    minutes = float(os.environ.get("LOAD_MINUTES") or 10)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--model", type=Path, help="default: a tiny untrained encoder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kindred-load-") as folder:
        done = _run(Path(folder), options)
    print(report(done))
    Path("build").mkdir(exist_ok=True)
    Path("build/load.json").write_text(json.dumps({"machine": describe(), **asdict(done)}))
    good = not done.errors and all(job["state"] == "succeeded" for job in done.jobs)
    return 0 if good and all(done.growth(name) <= PLATEAU for name in done.memory) else 1


def _run(folder: Path, options: argparse.Namespace) -> Load:
    model = options.model or folder / "encoder"
    if options.model is None:
        write_encoder(model, hidden=32, layers=2, heads=2, intermediate=64, image_size=32, patch=8)
    sources = [folder / f"version-{seed}" for seed in range(2)]
    for seed, source in enumerate(sources):
        write_dataset(source, options.rows, seed)
    with running(folder / "system", model) as system:
        pids = processes(system.pid)
        url = str(system.client.url)
        with httpx.Client(base_url=url, timeout=60) as http:
            images = follow(http, sources[0])["total"]  # searches need stored images from the start
            image = http.get("/v1/images/DRAWN_000000/preview").content
        return load(url, sources, image, pids, Load(options.clients, options.minutes * 60, images))


if __name__ == "__main__":
    sys.exit(main())
