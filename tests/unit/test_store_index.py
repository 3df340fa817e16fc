"""The index that the embedded store builds aside: waited for by none, lost by no kill."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qdrant_edge import SearchParams

from pipeline.base.errors import KindredError
from pipeline.base.identity import point_id
from pipeline.messages.filters import Filter
from pipeline.store import Points, Query, edge, edge_generations, fingerprint
from pipeline.store.edge import EdgeStore
from pipeline.store.edge_generations import Generations
from tests.encoders import DIMENSIONS, ENCODER

ROOT = Path(__file__).parents[2]
NAME = f"kindred-{fingerprint(ENCODER)}"
INDEXES = {"dx": "keyword", "row": "integer"}
FROM = 100


def open_(folder: Path, index_from: int = FROM) -> EdgeStore:
    return EdgeStore(folder, "kindred", ENCODER, INDEXES, index_from)


def rows(start: int, stop: int, version: int = 0) -> Points:
    """Row numbers as points; `version` changes their vectors and payloads."""
    vectors = np.stack(
        [
            np.random.default_rng([row, version]).normal(size=DIMENSIONS)
            for row in range(start, stop)
        ]
    ).astype(np.float32)
    payloads = [
        {"dx": ["nv", "mel"][row % 2], "row": row, "version": version} for row in range(start, stop)
    ]
    return Points([point_id(str(row)) for row in range(start, stop)], vectors, payloads)


def built(store: EdgeStore) -> tuple[int, int]:
    """How many points are in an index, and how many there are."""
    info = store._current.shard.info()
    return info.indexed_vectors_count, info.points_count


def shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_an_index_is_built_when_enough_have_none_and_is_kept(tmp_path: Path):
    store = open_(tmp_path)
    store.upsert(rows(0, FROM - 1))
    store.wait_until_idle()
    assert (built(store), shards(tmp_path)) == ((0, FROM - 1), [NAME])

    store.upsert(rows(FROM - 1, FROM))
    store.wait_until_idle()
    assert (built(store), shards(tmp_path)) == ((FROM, FROM), [f"{NAME}.1"])

    store.upsert(rows(FROM, 2 * FROM - 1))  # too few for the next one
    store.wait_until_idle()
    assert built(store) == (FROM, 2 * FROM - 1)
    store.close()

    store = open_(tmp_path)
    assert built(store) == (FROM, 2 * FROM - 1)
    store.upsert(rows(2 * FROM - 1, 2 * FROM))
    store.wait_until_idle()
    assert (built(store), shards(tmp_path)) == ((2 * FROM, 2 * FROM), [f"{NAME}.2"])
    assert dict(store.facet("dx")) == {"nv": FROM, "mel": FROM}
    assert store.bounds("row") == (0, 2 * FROM - 1)
    store.close()


def test_no_index_is_built_where_none_is_wanted(tmp_path: Path):
    store = open_(tmp_path, index_from=0)
    store.upsert(rows(0, 2 * FROM))
    store.wait_until_idle()
    assert (built(store), shards(tmp_path)) == ((0, 2 * FROM), [NAME])
    store.close()


def test_what_is_written_beside_an_index_is_found_beside_it(tmp_path: Path):
    store = open_(tmp_path)
    store.upsert(rows(0, FROM))
    store.wait_until_idle()
    store.upsert(rows(FROM, FROM + 20))
    store.upsert(rows(0, 10, version=1))
    store.delete(rows(10, 20).ids)
    store.set_payloads({point_id("20"): {"dx": "bkl"}})
    store.wait_until_idle()
    for row in (0, 50, FROM + 5):
        points = rows(row, row + 1, version=int(row < 10))
        (found,) = store.query([Query(points.vectors[0], limit=1)])
        assert found[0].payload == points.payloads[0]
    assert store.count() == FROM + 10
    assert dict(store.facet("dx")) == {"nv": 54, "mel": 55, "bkl": 1}
    store.close()


@pytest.mark.parametrize("exact", [True, False])
def test_where_few_points_fit_a_filter_all_of_them_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: bool
):
    """Also in a batch. A walk through the graph with the fewest candidates there are would miss."""
    if not exact:
        monkeypatch.setattr(edge_generations, "_EXACT_LEAST", 1)
    for params in ("_WIDE", "_PAST_HOLES"):
        monkeypatch.setattr(edge, params, SearchParams(hnsw_ef=1))
    count = 4000
    stored, asked = rows(0, count), rows(count, count + 30).vectors
    fitting = Filter.model_validate({"must": [{"key": "dx", "match": {"value": "mel"}}]})
    store = open_(tmp_path, index_from=count)
    store.upsert(stored)
    store.wait_until_idle()
    assert built(store) == (count, count)

    found = store.query([Query(vector, limit=10, filter=fitting) for vector in asked])

    unit = stored.vectors / np.linalg.norm(stored.vectors, axis=1, keepdims=True)
    nearest = np.argsort(-(asked @ unit[1::2].T), axis=1)[:, :10]
    expected = [[stored.ids[1 + 2 * row] for row in each] for each in nearest]
    assert ([[hit.id for hit in hits] for hits in found] == expected) is exact
    store.close()


@pytest.mark.parametrize(
    ("points", "fewer"), [(1000, 20_000), (100_000, 20_000), (400_000, 50_000), (10**7, 125_000)]
)
def test_how_few_are_compared_grows_with_the_points(points: int, fewer: int):
    assert edge_generations._exact_below(points) == fewer


class Gate:
    """Holds up a step of making a generation, between two events."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        original = getattr(Generations, step)

        def wait_and_go_on(generations: Generations, *args: Any) -> Any:
            self.reached.set()
            assert self.opened.wait(20)
            return original(generations, *args)

        monkeypatch.setattr(Generations, step, wait_and_go_on)


def test_what_changes_while_an_index_is_built_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Three times: before the build, while it catches up, and before the switch."""
    gates = [Gate(monkeypatch, step) for step in ("_optimize", "_catch_up", "_switch")]
    store = open_(tmp_path)
    store.upsert(rows(0, FROM))
    for number, gate in enumerate(gates):
        assert gate.reached.wait(20)
        start = 10 * number
        store.upsert(rows(start, start + 3, version=1))
        store.upsert(rows(FROM + start, FROM + start + 10))
        store.delete(rows(start + 3, start + 6).ids)
        store.set_payloads({point_id(str(start + 6)): {"dx": "bkl", "row": start + 6}})
        (found,) = store.query([Query(rows(start, start + 1, version=1).vectors[0], limit=1)])
        assert found[0].payload["version"] == 1
        gate.opened.set()
    store.wait_until_idle()
    assert shards(tmp_path) == [f"{NAME}.1"]
    assert store.count() == FROM + 30 - 9
    for number in range(3):
        start = 10 * number
        records = store.retrieve(rows(start, start + 7).ids, vectors=True)
        changed, kept = rows(start, start + 3, version=1), rows(start + 6, start + 7)
        assert records.keys() == {*changed.ids, *kept.ids}
        for point, vector in zip(
            [*changed.ids, *kept.ids], [*changed.vectors, *kept.vectors], strict=True
        ):
            stored = records[point].vector
            assert stored is not None
            np.testing.assert_allclose(stored, vector / np.linalg.norm(vector), atol=1e-6)
        assert records[kept.ids[0]].payload == {"dx": "bkl", "row": start + 6}
    store.close()


def test_threads_write_and_search_without_an_error_while_indexes_are_built(tmp_path: Path):
    store = open_(tmp_path)
    failures: list[BaseException] = []
    vector = rows(0, 1).vectors[0]

    def work(thread: int) -> None:
        try:
            for start in range(10_000 * thread, 10_000 * thread + 600, 20):
                store.upsert(rows(start, start + 20))
                store.delete(rows(start, start + 5).ids)
                store.query([Query(vector, limit=10)])
                store.scroll(10)
                store.count()
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.wait_until_idle()
    assert failures == []
    assert shards(tmp_path) != [NAME]
    assert store.count() == 3 * 30 * 15
    store.close()
    again = open_(tmp_path, index_from=0)
    assert again.count() == 3 * 30 * 15
    again.close()


# --- kills -------------------------------------------------------------------------------------

WORKER = """
import os, signal, sys
from pathlib import Path
from pipeline.store import edge_folder
from pipeline.store.edge_generations import Generations
from tests.unit.test_store_index import FROM, open_, rows

folder, owner, step, when = Path(sys.argv[1]), *sys.argv[2:]
owners = {"Generations": Generations, "Folder": edge_folder.Folder, "edge_folder": edge_folder}
original = getattr(owners[owner], step)

def deadly(*args):
    if store is None:  # it is being opened
        return original(*args)
    if when == "after":
        original(*args)
    if step == "_catch_up":
        store.upsert(rows(FROM, FROM + 50))
    print(store._current.shard.info().points_count, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

store = None
setattr(owners[owner], step, deadly)
store = open_(folder)
store.upsert(rows(0, FROM))
store.wait_until_idle()
"""


@pytest.mark.parametrize(
    ("owner", "step", "when", "generation"),
    [
        ("Generations", "_copy", "before", ""),
        ("Generations", "_copy", "after", ""),
        ("Generations", "_optimize", "after", ""),
        ("Generations", "_catch_up", "before", ""),
        ("Folder", "switch", "before", ""),
        ("Folder", "switch", "after", ".1"),
        ("edge_folder", "remove", "before", ".1"),
    ],
)
def test_a_kill_at_any_step_loses_nothing(
    tmp_path: Path, owner: str, step: str, when: str, generation: str
):
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path), owner, step, when],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    store = open_(tmp_path, index_from=0)
    assert shards(tmp_path) == [NAME + generation]
    assert store.count() == int(done.stdout) >= FROM
    records = store.retrieve(rows(0, store.count()).ids)
    assert sorted(record.payload["row"] for record in records.values()) == list(
        range(store.count())
    )
    store.close()


PARENT = """
import os, subprocess, sys
child = "import os, signal; from pipeline.store.edge_build import end_with; "
child += f"end_with({os.getpid()}); print('tied', flush=True); signal.pause()"
subprocess.run([sys.executable, "-c", child])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it builds to its end, for nobody")
def test_the_process_that_builds_ends_with_the_worker():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "tied\n"
        parent.kill()
        assert parent.stdout.read() == ""  # both have closed it


# --- what stands in the way --------------------------------------------------------------------


def test_closing_gives_up_what_is_being_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gate = Gate(monkeypatch, "_optimize")
    store = open_(tmp_path)
    store.upsert(rows(0, FROM))
    assert gate.reached.wait(20)
    closing = threading.Thread(target=store.close)
    closing.start()
    assert store._generations._stopping.wait(20)
    gate.opened.set()
    closing.join()
    assert shards(tmp_path) == [NAME]
    again = open_(tmp_path)  # and it is built after all
    again.wait_until_idle()
    assert built(again) == (FROM, FROM)
    again.close()


def test_no_index_is_built_where_the_disk_has_no_room_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    store = open_(tmp_path)
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=100 * 2**20))
        store.upsert(rows(0, FROM))
        store.wait_until_idle()
    assert built(store) == (0, FROM)
    assert shards(tmp_path) == [NAME]
    [record] = caplog.records
    assert "the disk has 104857600 bytes free" in vars(record)["reason"]
    store.close()


def test_a_build_that_fails_is_told_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    store = open_(tmp_path)
    with caplog.at_level(logging.WARNING):
        store.upsert(rows(0, FROM))
        store.wait_until_idle()
    assert (built(store), shards(tmp_path)) == ((0, FROM), [NAME])
    assert "has ended with 1" in vars(caplog.records[0])["reason"]
    store.upsert(rows(FROM, FROM + 1))
    assert store.count(Filter.model_validate({})) == FROM + 1
    store.close()


def test_an_alias_that_names_none_of_several_generations_is_told(tmp_path: Path):
    open_(tmp_path).close()
    shutil.copytree(tmp_path / NAME, tmp_path / f"{NAME}.1")
    (tmp_path / "alias.json").unlink()
    with pytest.raises(KindredError, match=f"{NAME}, {NAME}.1"):
        open_(tmp_path)
    assert shards(tmp_path) == [NAME, f"{NAME}.1"]
    (tmp_path / "alias.json").write_text(json.dumps({"shard": f"{NAME}.1"}))
    open_(tmp_path).close()
    assert shards(tmp_path) == [f"{NAME}.1"]
