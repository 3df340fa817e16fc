"""`python -m benchmarks.scale` measures the cost of an image, from a thousand images to a million.

SCALE_SIZES=1000,10000,100000,1000000 chooses. A million images take about half an hour on two
cores, and 12 GiB of disk. SCALE_SERVER=URL, and SCALE_GRPC_PORT where gRPC is not on its usual
port, measures a Qdrant server beside the embedded store. It writes build/scale.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.report import Goal, number, table
from benchmarks.scale_backends import Server
from pipeline.base.settings import Settings

SIZES = "1000,10000,100000,1000000"
SEARCH_MS, OPENING_S, RECALL = 50.0, 10.0, 0.98
SERVER_RECALL = 0.985


def main() -> int:
    sizes = [int(size) for size in (os.environ.get("SCALE_SIZES") or SIZES).split(",")]
    machine = describe()
    out = Path("build/scale.json")
    out.parent.mkdir(exist_ok=True)
    measured: list[dict[str, Any]] = []
    for size in sizes:
        with tempfile.TemporaryDirectory(
            prefix="kindred-scale-", ignore_cleanup_errors=True
        ) as folder:
            measured.append(measure(size, Path(folder)))
        out.write_text(json.dumps({"machine": machine, "sizes": measured}, indent=2) + "\n")
    print(report(machine, measured))
    return 0


def measure(images: int, folder: Path) -> dict[str, Any]:
    ledger = _step("scale_ledger", images, folder / "ledger")
    filled = _step("scale_store", "fill", images, folder)
    exact = _step("scale_store", "search", images, folder)
    done = {"images": images, "ledger": ledger, "fill": filled, "exact": exact}
    if images >= Settings().index_from:
        done["index"] = _step("scale_store", "index", images, folder)
        done["indexed"] = _step("scale_store", "search", images, folder)
    done["append"] = _step("scale_store", "append", images, folder)
    if url := os.environ.get("SCALE_SERVER"):
        done["server"] = measure_server(images, folder / "server", url)
    return done


def measure_server(images: int, folder: Path, url: str) -> dict[str, Any]:
    port = os.environ.get("SCALE_GRPC_PORT")
    words = (images, folder, "--server", url, *(["--grpc-port", port] if port else []))
    server = Server(url, int(port) if port else None, images)
    server.delete()  # what a run that was cut off has left
    try:
        steps = {"fill": "fill", "index": "index", "indexed": "search", "append": "append"}
        return {name: _step("scale_store", step, *words) for name, step in steps.items()}
    finally:
        server.delete()


def _step(module: str, *words: object) -> Any:
    """Runs a step in its own process, which prints its result as JSON."""
    print(f"[{time.strftime('%H:%M:%S')}] {module} {words[0]}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


# --- the report -----------------------------------------------------------------------------------


def report(machine: dict[str, str], measured: list[dict[str, Any]]) -> str:
    return "\n\n".join(
        [
            table(["measured on", ""], [list(pair) for pair in machine.items()]),
            "\n".join(f"- {goal}" for goal in goals(measured[-1])),
            _columns(measured, COSTS),
            _columns(measured, MEMORY),
            _searches(measured),
            _columns([m for m in measured if "index" in m], BUILDS),
            *_server([m for m in measured if "server" in m]),
        ]
    )


def goals(largest: dict[str, Any]) -> list[Goal]:
    """The goals for the largest size."""
    final = _final(largest)
    times = {name: found["times"]["p95"] for name, found in final["filters"].items()}
    recall = min(found["recall"] for found in final["filters"].values())
    images = f"{largest['images']:,} images"
    server = largest["server"]["indexed"]["filters"].values() if "server" in largest else ()
    return [
        Goal(f"{images}: top-10, p95 ms", times["any"], SEARCH_MS, False),
        Goal(f"{images}: filtered, slowest, p95 ms", max(times.values()), SEARCH_MS, False),
        Goal(f"{images}: recall@10, lowest", recall, RECALL, True),
        Goal(f"{images}: opening cold, s", final["opening_s"]["cold"], OPENING_S, False),
        *(
            Goal(f"{images}: recall@10, lowest of a server", recall, SERVER_RECALL, True)
            for recall in sorted(found["recall"] for found in server)[:1]
        ),
    ]


def _final(size: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = size["indexed"] if "indexed" in size else size["exact"]
    return found


COSTS = {
    "upsert and flush, ms an image": lambda m: m["fill"]["ms_an_image"],
    "- the first tenth": lambda m: m["fill"]["ms_an_image_first_tenth"],
    "- the last tenth": lambda m: m["fill"]["ms_an_image_last_tenth"],
    "upsert of the next 4,096, ms an image": lambda m: m["append"]["ms_an_image"],
    "- processor time of that": lambda m: m["append"]["cpu_ms_an_image"],
    "ledger, ms an image": lambda m: m["ledger"]["ms_an_image"],
    "- processor time of that, with Redis'": lambda m: m["ledger"]["cpu_ms_an_image"],
    "Redis, MiB more by the job": lambda m: m["ledger"]["redis_mib_more"],
    "- its append-only file, MiB": lambda m: m["ledger"]["append_only_file_mib"],
    "disk of the store, MiB": lambda m: _final(m)["disk_mib"],
    "opening, s, files not in memory": lambda m: _final(m)["opening_s"]["cold"],
    "opening once more, s": lambda m: _final(m)["opening_s"]["warm"],
}
MEMORY = {
    "own MiB, before opening": lambda m: _final(m)["memory"]["before"]["own"],
    "- filled, without an index": lambda m: m["fill"]["memory"]["own"],
    "- opened": lambda m: _final(m)["memory"]["opened"]["own"],
    "- searched": lambda m: _final(m)["memory"]["searched"]["own"],
    "mapped files, MiB, opened": lambda m: _final(m)["memory"]["opened"]["mapped"],
    "- and searched": lambda m: _final(m)["memory"]["searched"]["mapped"],
}
BUILDS = {
    "build, s": lambda m: m["index"]["seconds"],
    "searches meanwhile, p50 ms": lambda m: m["index"]["searches"]["p50"],
    "- p95": lambda m: m["index"]["searches"]["p95"],
    "- most": lambda m: m["index"]["searches"]["most"],
    "longest wait for the interpreter, ms": lambda m: m["index"]["gaps"]["most"],
    "longest write, ms": lambda m: m["index"]["writes"]["most"],
}


def _columns(measured: list[dict[str, Any]], rows: dict[str, Any]) -> str:
    head = ["", *(f"{m['images']:,}" for m in measured)]
    return table(head, [[name, *(number(of(m)) for m in measured)] for name, of in rows.items()])


def _searches(measured: list[dict[str, Any]]) -> str:
    head = ["images", "index", "filter", "fitting", "p50 ms", "p95 ms", "most", "recall@10"]
    rows = []
    for m in measured:
        for kind in ("exact", "indexed"):
            searched = m.get(kind, {})
            for name, found in {**_first(searched), **searched.get("filters", {})}.items():
                times = found["times"]
                cells = [times["p50"], times["p95"], times["most"], found["recall"]]
                index = "yes" if kind == "indexed" else "no"
                fitting = f"{found['fitting']:,}"
                rows.append([f"{m['images']:,}", index, name, fitting, *map(number, cells)])
    return table(head, rows)


def _server(measured: list[dict[str, Any]]) -> list[str]:
    """The embedded store and a server, side by side."""
    if not measured:
        return []
    both = {
        f"{m['images']:,}, {name}": store
        for m in measured
        for name, store in (("embedded", m), ("server", m["server"]))
    }
    costs = [[what, *(number(of(store)) for store in both.values())] for what, of in BOTH.items()]
    return [table(["", *both], costs), _beside(measured)]


BOTH = {
    "upsert and flush, ms an image": lambda m: m["fill"]["ms_an_image"],
    "- processor time of the worker": lambda m: m["fill"]["cpu_ms_an_image"],
    "its own memory, filled, MiB": lambda m: m["fill"]["memory"]["own"],
    "- searched": lambda m: _final(m)["memory"]["searched"]["own"],
    "index there after, s": lambda m: m.get("index", {}).get("seconds_since_filled"),
    "50 searches in a batch, ms": lambda m: _final(m)["batch_of_50_ms"]["any"],
    "- rare": lambda m: _final(m)["batch_of_50_ms"]["rare"],
    "- combined": lambda m: _final(m)["batch_of_50_ms"]["combined"],
}


def _beside(measured: list[dict[str, Any]]) -> str:
    kinds = ("p50 ms", "p95 ms", "recall@10")
    head = ["images", "filter", "fitting", *kinds, *(f"server: {kind}" for kind in kinds)]
    rows = []
    for m in measured:
        theirs = m["server"]["indexed"]["filters"]
        for name, found in _final(m)["filters"].items():
            cells = [
                cell
                for each in (found, theirs[name])
                for cell in (each["times"]["p50"], each["times"]["p95"], each["recall"])
            ]
            rows.append([f"{m['images']:,}", name, f"{found['fitting']:,}", *map(number, cells)])
    return table(head, rows)


def _first(searched: dict[str, Any]) -> dict[str, Any]:
    return {"any, first after opening": searched["first"]} if searched else {}


if __name__ == "__main__":
    sys.exit(main())
