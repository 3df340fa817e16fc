"""Measures a store at one size: fill, search, index, open and search again.

    python -m benchmarks.scale_store STEP IMAGES FOLDER                     the embedded store
    python -m benchmarks.scale_store STEP IMAGES FOLDER --server URL [--grpc-port PORT]

Each prints one JSON document. FOLDER keeps the embedded store, and for both what the searches
should find. Each step runs in its own process, so the measured memory is that of the step; of a
server, it is the server's.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.embeddings import Made, Maker
from benchmarks.scale_backends import Backend, Embedded, Server
from pipeline.base.identity import point_id
from pipeline.base.settings import Settings
from pipeline.messages.filters import Filter
from pipeline.store import Points, Query, Store

BATCH = 256  # images an upsert
SHARD = 1024  # images a flush
PART = 8192  # images made at a time
QUERIES = 200
TOP = 10
TRICKLE = 64  # images written again each second during an index build

CLASSES = (
    "melanocytic_Nevi", "melanoma", "benign_keratosis-like_lesions", "basal_cell_carcinoma",
    "actinic_keratoses", "vascular_lesions", "dermatofibroma",
)  # fmt: skip
SITES = (
    "back", "lower extremity", "trunk", "upper extremity", "abdomen", "face", "chest", "foot",
    "neck", "scalp", "hand", "ear", "genital", "acral",
)  # fmt: skip
FILTERS: dict[str, dict[str, Any] | None] = {
    "any": None,
    "rare": {"must": [{"key": "dx", "match": {"value": CLASSES[6]}}]},
    "common": {"must": [{"key": "dx", "match": {"value": CLASSES[0]}}]},
    "combined": {
        "must": [
            {"key": "sex", "match": {"value": "female"}},
            {"key": "age", "range": {"gte": 40, "lt": 60}},
        ],
        "must_not": [{"key": "localization", "match": {"value": "back"}}],
    },
}


@dataclass(frozen=True)
class Times:
    """Milliseconds."""

    p50: float
    p95: float
    most: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Times":
        p50, p95, most = np.percentile(np.array(seconds) * 1000, [50, 95, 100])
        return cls(float(p50), float(p95), float(most), len(seconds))


# --- the stored points ----------------------------------------------------------------------------


def payload(number: int, dx: int, lesion: int) -> dict[str, Any]:
    """A payload like those of the skin-lesion data, with the fields that ingest adds."""
    drawn = lesion * 2654435761 % 2**32  # Knuth's multiplicative hash gives the lesion's values
    sex, site, age = drawn >> 8 & 1, (drawn >> 9) % len(SITES), 1 + (drawn >> 16) % 17
    return {
        "image_id": f"ISIC_{number:07}",
        "lesion_id": f"HAM_{lesion:07}",
        "dx": CLASSES[dx],
        "dx_type": "histo",
        "age": float(5 * age),
        "sex": ("female", "male")[sex],
        "localization": SITES[site],
        "source": {
            "kind": "dataset",
            "dataset": "marmal88/skin_cancer",
            "split": "train",
            "row": number,
            "job": "8c2ad0e7c5f84d0b9a51f0c0f0a3f7aa",
            "sha256": f"{number:064x}",
            "width": 600,
            "height": 450,
            "phash": f"{number:064x}",
            "time": "2026-11-23T00:00:00+00:00",
        },
    }


def points(made: Made, start: int) -> Points:
    payloads = [
        payload(start + row, int(dx), int(lesion))
        for row, (dx, lesion) in enumerate(zip(made.classes, made.lesions, strict=True))
    ]
    return Points([point_id(p["image_id"]) for p in payloads], made.vectors, payloads)


def fits(batch: Points) -> dict[str, NDArray[np.bool_]]:
    """For each filter, says which points match."""
    p = batch.payloads
    return {
        "any": np.ones(len(p), bool),
        "rare": np.array([x["dx"] == CLASSES[6] for x in p]),
        "common": np.array([x["dx"] == CLASSES[0] for x in p]),
        "combined": np.array(
            [
                x["sex"] == "female" and 40 <= x["age"] < 60 and x["localization"] != "back"
                for x in p
            ]
        ),
    }


def query_vectors(images: int) -> NDArray[np.float32]:
    """Vectors of other images of the same population."""
    return Maker(images).make(QUERIES, part=10**6).vectors


class Truth:
    """Finds the nearest points by brute force, batch by batch: ids and cosines, best first."""

    def __init__(self, images: int) -> None:
        self._queries = query_vectors(images)
        self._best: dict[str, list[tuple[NDArray[np.float32], list[str]]]] = {
            name: [(np.empty(0, np.float32), [])] * QUERIES for name in FILTERS
        }

    def add(self, batch: Points) -> None:
        cosines = self._queries @ batch.vectors.T
        for name, keep in fits(batch).items():
            self._best[name] = [
                _merge(best, row[keep], np.flatnonzero(keep), batch)
                for best, row in zip(self._best[name], cosines, strict=True)
            ]

    def ids(self) -> dict[str, list[list[str]]]:
        return {name: [ids for _, ids in best] for name, best in self._best.items()}


def _merge(
    best: tuple[NDArray[np.float32], list[str]],
    cosines: NDArray[np.float32],
    rows: NDArray[np.int64],
    batch: Points,
) -> tuple[NDArray[np.float32], list[str]]:
    order = np.argpartition(-cosines, TOP)[:TOP] if len(cosines) > TOP else np.arange(len(cosines))
    ids = best[1] + [str(batch.ids[rows[i]]) for i in order]
    together = np.concatenate([best[0], cosines[order]])
    chosen = np.argsort(-together, kind="stable")[:TOP]
    return together[chosen], [ids[i] for i in chosen]


# --- steps, each in its own process ---------------------------------------------------------------


def fill(backend: Backend, images: int, folder: Path) -> dict[str, Any]:
    """Fills the store through our own interface, as ingest does; times only upserts and flushes."""
    store, maker, truth = backend.open(), Maker(images), Truth(images)
    parts: list[float] = []
    spent = 0.0
    for part, start in enumerate(range(0, images, PART)):
        batch = points(maker.make(min(PART, images - start), part), start)
        begun, cpu = time.perf_counter(), time.process_time()
        _write(store, batch)
        parts.append((time.perf_counter() - begun) / len(batch.ids))
        spent += time.process_time() - cpu
        truth.add(batch)
    (folder / "truth.json").write_text(json.dumps(truth.ids()))
    (folder / "expected.json").write_text(json.dumps(store.count()))
    (folder / "filled.json").write_text(json.dumps(time.time()))
    tenth = max(1, len(parts) // 10)
    result = {
        "ms_an_image": 1000 * float(np.mean(parts)),
        "cpu_ms_an_image": 1000 * spent / images,
        "ms_an_image_first_tenth": 1000 * float(np.mean(parts[:tenth])),
        "ms_an_image_last_tenth": 1000 * float(np.mean(parts[-tenth:])),
        "memory": backend.memory(),
    }
    store.close()
    return result


def append(backend: Backend, images: int, folder: Path) -> dict[str, float]:
    """Returns what the next 4,096 images cost, in wall-clock and processor time. The expected
    results change with it."""
    store = backend.open()
    batch = points(Maker(images).make(4096, part=10**6 + 1), images)
    begun, cpu = time.perf_counter(), time.process_time()
    _write(store, batch)
    seconds, spent = time.perf_counter() - begun, time.process_time() - cpu
    store.close()
    return {"ms_an_image": 1000 * seconds / 4096, "cpu_ms_an_image": 1000 * spent / 4096}


def _write(store: Store, batch: Points) -> None:
    for start in range(0, len(batch.ids), BATCH):
        some = slice(start, start + BATCH)
        store.upsert(Points(batch.ids[some], batch.vectors[some], batch.payloads[some]))
        if (start + BATCH) % SHARD == 0:
            store.flush()
    store.flush()


def search(backend: Backend, images: int, folder: Path) -> dict[str, Any]:
    """Opens the store twice, first with its files out of the page cache, and then searches.

    The engine evicts its files from the page cache when it closes them, so both openings read the
    disk; the second finds the rest of the process warm. The first searches are reported separately.
    """
    backend.drop_page_cache()
    before = backend.memory()
    begun = time.perf_counter()
    backend.open().close()
    cold = time.perf_counter() - begun
    begun = time.perf_counter()
    store = backend.open()
    warm = time.perf_counter() - begun
    opened = backend.memory()
    state = backend.state(store)
    result = {
        "opening_s": {"cold": cold, "warm": warm},
        "indexed": state.indexed,
        "segments": state.segments,
        "first": _search(store, images, folder, "any"),
        "filters": {name: _search(store, images, folder, name) for name in FILTERS},
        "batch_of_50_ms": {name: _batch(store, images, name) for name in FILTERS},
        "calls_ms": _calls(store),
        "memory": {"before": before, "opened": opened, "searched": backend.memory()},
        "disk_mib": backend.disk_mib(),
    }
    assert store.count() == json.loads((folder / "expected.json").read_text())
    store.close()
    return result


def _search(store: Store, images: int, folder: Path, name: str) -> dict[str, Any]:
    filter_ = _filter(name)
    truth = json.loads((folder / "truth.json").read_text())[name]
    seconds, found, expected = [], 0, 0
    for vector, right in zip(query_vectors(images), truth, strict=True):
        begun = time.perf_counter()
        (hits,) = store.query([Query(vector, limit=TOP, filter=filter_)])
        seconds.append(time.perf_counter() - begun)
        found += len({str(hit.id) for hit in hits} & set(right))
        expected += len(right)
    return {
        "times": asdict(Times.of(seconds)),
        "recall": found / expected if expected else 1.0,
        "fitting": store.count(filter_),
    }


def _batch(store: Store, images: int, name: str) -> float:
    vectors = query_vectors(images)[:50]
    queries = [Query(vector, limit=TOP, filter=_filter(name)) for vector in vectors]
    return _milliseconds(lambda: store.query(queries))


def _filter(name: str) -> Filter | None:
    wanted = FILTERS[name]
    return None if wanted is None else Filter.model_validate(wanted)


def _calls(store: Store) -> dict[str, float]:
    return {
        "count": _milliseconds(store.count),
        "count, filtered": _milliseconds(lambda: store.count(_filter("common"))),
        "facet": _milliseconds(lambda: store.facet("dx")),
        "bounds": _milliseconds(lambda: store.bounds("age")),
        "scroll, 100": _milliseconds(lambda: store.scroll(100)),
        "retrieve, 64": _milliseconds(
            lambda: store.retrieve([point_id(f"ISIC_{n:07}") for n in range(64)])
        ),
    }


def _milliseconds(call: Callable[[], object], times: int = 5) -> float:
    spent = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        spent.append(time.perf_counter() - begun)
    return 1000 * float(np.median(spent))


def index(backend: Backend, images: int, folder: Path) -> dict[str, Any]:
    """Waits for an index, while one thread searches, one writes, and one waits for the lock.

    Only the first for a server: it holds no lock of ours, and indexes what is written at once, so
    that it would have no end.
    """
    done = threading.Event()
    times: dict[str, list[float]] = {"searches": [], "writes": [], "gaps": []}
    begun = time.perf_counter()
    store = backend.open(Settings().index_from)
    beside = [_searching] if isinstance(backend, Server) else [_searching, _writing, _ticking]
    threads = [
        threading.Thread(target=action, args=(store, images, times, done)) for action in beside
    ]
    for thread in threads:
        thread.start()
    backend.wait_until_indexed(store)
    seconds = time.perf_counter() - begun
    since_filled = time.time() - json.loads((folder / "filled.json").read_text())
    done.set()
    for thread in threads:
        thread.join()
    state = backend.state(store)
    result = {
        "seconds": seconds,
        "seconds_since_filled": since_filled,
        "indexed": state.indexed,
        "points": state.points,
        "memory": backend.memory(),
        **{name: asdict(Times.of(spent)) for name, spent in times.items() if spent},
        "longest_stalls_ms": [1000 * gap for gap in sorted(times["gaps"])[:-6:-1]],
        "longest_searches_ms": [1000 * s for s in sorted(times["searches"])[:-6:-1]],
    }
    store.close()
    return result


def _searching(
    store: Store, images: int, times: dict[str, list[float]], done: threading.Event
) -> None:
    """Searches twice a second. The time counts from when a search was due, stalls included."""
    vectors = query_vectors(images)
    due = time.perf_counter()
    while not done.wait(max(0.0, due + 0.5 - time.perf_counter())):
        due += 0.5
        store.query([Query(vectors[len(times["searches"]) % QUERIES], limit=TOP)])
        times["searches"].append(time.perf_counter() - due)


def _writing(
    store: Store, images: int, times: dict[str, list[float]], done: threading.Event
) -> None:
    """Writes points that are already stored, so that the expected results stay the same."""
    batch = points(Maker(images).make(min(PART, images), 0), 0)
    while not done.wait(1):
        start = TRICKLE * len(times["writes"]) % (len(batch.ids) - TRICKLE)
        some = slice(start, start + TRICKLE)
        part = Points(batch.ids[some], batch.vectors[some], batch.payloads[some])
        begun = time.perf_counter()
        store.upsert(part)
        times["writes"].append(time.perf_counter() - begun)


def _ticking(
    store: Store, images: int, times: dict[str, list[float]], done: threading.Event
) -> None:
    """Measures how late a thread wakes that needs only the interpreter's lock."""
    while not done.is_set():
        begun = time.perf_counter()
        time.sleep(0.002)
        times["gaps"].append(time.perf_counter() - begun - 0.002)


STEPS = {"fill": fill, "search": search, "index": index, "append": append}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("images", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--server", metavar="URL")
    parser.add_argument("--grpc-port", type=int)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    backend: Backend = Embedded(args.folder)
    if args.server:
        backend = Server(args.server, args.grpc_port, args.images)
    print(json.dumps(STEPS[args.step](backend, args.images, args.folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
