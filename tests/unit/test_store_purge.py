"""After a purge, no file of the embedded store holds what was deleted; no kill loses that duty."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.base.errors import StoreUnavailable
from pipeline.base.identity import point_id
from pipeline.store import Points, edge_folder, edge_generations, fingerprint
from pipeline.store.edge import EdgeStore
from pipeline.store.edge_generations import Generations
from tests.encoders import DIMENSIONS, ENCODER
from tests.unit.test_store_index import Gate, built, shards

ROOT = Path(__file__).parents[2]
NAME = f"kindred-{fingerprint(ENCODER)}"
INDEXES = {"patient": "keyword", "row": "integer"}
COUNT = 200  # four pages
DELETED = (3, 70, 199)

both = pytest.mark.parametrize("index_from", [0, 100], ids=["exact", "indexed"])


def open_(folder: Path, index_from: int = 0) -> EdgeStore:
    return EdgeStore(folder, "kindred", ENCODER, INDEXES, index_from)


def name(row: int, version: str = "first") -> str:
    """Of no other row and version."""
    return f"Lovelace-{row:04}-{version}"


def rows(numbers: range | tuple[int, ...], version: str = "first") -> Points:
    """With a name in an indexed field, in another one, and within a nested one."""
    vectors = [np.random.default_rng(row).normal(size=DIMENSIONS) for row in numbers]
    payloads = [
        {
            "patient": name(row, version),
            "row": row,
            "note": f"seen: {name(row, version)}.",
            "source": {"file": f"{name(row, version)}.png"},
        }
        for row in numbers
    ]
    return Points(ids(*numbers), np.stack(vectors).astype(np.float32), payloads)


def ids(*numbers: int) -> list[Any]:
    return [point_id(str(row)) for row in numbers]


def left_in_files(folder: Path, *wanted: str) -> set[str]:
    """Those of the wanted that a file under `folder` has, be it in the system's memory alone."""
    missing = {item.encode() for item in wanted}
    for path in folder.rglob("*"):
        if path.is_file():
            content = written(path)
            missing -= {item for item in missing if item in content}
    return {*wanted} - {item.decode() for item in missing}


def written(path: Path) -> bytes:
    """The file without its holes: the engine makes each of 32 MiB, for a few kilobytes."""
    parts, end = [], 0
    with path.open("rb") as file, suppress(OSError):  # ENXIO: only a hole is left
        while True:
            start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            parts.append(os.pread(file.fileno(), end - start, start))
    return b"".join(parts)


def filled(folder: Path, index_from: int = 0) -> EdgeStore:
    store = open_(folder, index_from)
    store.upsert(rows(range(COUNT)))
    store.flush()
    store.wait_until_idle()
    return store


@both
def test_what_is_deleted_or_overwritten_is_in_no_file_after_a_purge(
    tmp_path: Path, index_from: int
):
    store = filled(tmp_path, index_from)
    store.delete(ids(*DELETED))
    store.upsert(rows((10, 11), "second"))
    store.set_payloads({ids(20)[0]: {"patient": name(20, "second"), "row": 20}})
    erased = [name(row) for row in (*DELETED, 10, 11, 20)]
    store.flush()
    assert left_in_files(tmp_path, *erased) == {*erased}, "else the test could find nothing"
    store.purge()
    kept = [name(12), name(10, "second"), name(20, "second")]
    assert left_in_files(tmp_path, *erased, *kept) == {*kept}
    assert not store.purge_due
    assert built(store) == ((COUNT - 3 if index_from else 0), COUNT - 3)
    assert len(shards(tmp_path)) == 1
    store.close()
    assert left_in_files(tmp_path, *erased) == set()
    again = open_(tmp_path, index_from)
    assert left_in_files(tmp_path, *erased) == set()
    assert again.count() == COUNT - 3
    assert sorted(again.facet("patient", limit=COUNT))[0] == (name(0), 1)
    again.close()


def test_a_purge_is_due_after_what_leaves_something_and_is_remembered(tmp_path: Path):
    store = filled(tmp_path)
    store.delete(ids(COUNT, COUNT + 1))
    store.set_payloads({ids(COUNT)[0]: {}})
    store.upsert(rows(range(COUNT, COUNT + 5)))
    assert not store.purge_due
    changes: list[Callable[[], None]] = [
        lambda: store.delete(ids(COUNT, COUNT + 100)),
        lambda: store.set_payloads({ids(1)[0]: {}}),
        lambda: store.upsert(rows(range(2, 3))),
    ]
    for change in changes:
        change()
        assert store.purge_due
        store.close()
        store = open_(tmp_path)
        assert store.purge_due
        store.purge()
        assert not store.purge_due
    assert [path.name for path in tmp_path.glob("purge-due")] == []
    store.close()


def test_nothing_is_deleted_before_the_duty_to_purge_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = filled(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched, pytest.raises(StoreUnavailable):
        patched.setattr(edge_folder, "write_json", refuse)
        store.delete(ids(1))
    assert store.count() == COUNT
    store.close()


@both
def test_what_is_deleted_while_a_purge_runs_is_due_again(tmp_path: Path, index_from: int):
    store = filled(tmp_path, index_from)
    store.delete(ids(1))
    deleting = [ids(150), ids(2), ids(199)]  # ahead of the copy and behind it

    def delete_on() -> None:
        if deleting:
            store.delete(deleting.pop())

    store.purge(delete_on)
    assert left_in_files(tmp_path, name(1)) == set()
    assert store.purge_due
    store.purge()
    assert not store.purge_due
    assert left_in_files(tmp_path, *map(name, (1, 2, 150, 199))) == set()
    assert store.count() == COUNT - 4
    store.close()


def test_purges_that_are_wanted_while_one_runs_come_to_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    gate = Gate(monkeypatch, "_copy_points")
    store = filled(tmp_path)
    store.delete(ids(0))
    threads = [threading.Thread(target=store.purge)]
    threads[0].start()
    assert gate.reached.wait(20)
    waiting = threading.Semaphore(0)
    monkeypatch.setattr(edge_generations, "_TICK_SECONDS", 0.01)
    for row in range(1, 5):
        store.delete(ids(row))
        threads.append(threading.Thread(target=store.purge, args=(waiting.release,)))
        threads[-1].start()
    for _ in threads[1:]:
        assert waiting.acquire(timeout=20)
    gate.opened.set()
    for thread in threads:
        thread.join()
    assert not store.purge_due
    assert shards(tmp_path) == [f"{NAME}.2"]
    assert left_in_files(tmp_path, *map(name, range(5))) == set()
    store.close()


def test_a_purge_waits_for_an_index_that_is_being_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    gate = Gate(monkeypatch, "_optimize")
    monkeypatch.setattr(edge_generations, "_TICK_SECONDS", 0.01)
    store = open_(tmp_path, 100)
    store.upsert(rows(range(COUNT)))
    assert gate.reached.wait(20)
    store.delete(ids(1))
    alive = threading.Event()
    purging = threading.Thread(target=store.purge, args=(alive.set,))
    purging.start()
    assert alive.wait(20)
    assert shards(tmp_path) == [NAME, f"{NAME}.1"]
    gate.opened.set()
    purging.join()
    assert shards(tmp_path) == [f"{NAME}.2"]
    assert built(store) == (COUNT - 1, COUNT - 1)
    assert left_in_files(tmp_path, name(1)) == set()
    store.close()


def test_the_folder_of_an_emptied_collection_goes_when_another_encoder_takes_it(tmp_path: Path):
    other = ENCODER.model_copy(update={"weights_sha256": "cd" * 32})
    store = filled(tmp_path)
    store.delete(ids(*range(COUNT)))
    store.close()
    EdgeStore(tmp_path, "kindred", other, INDEXES).close()
    assert shards(tmp_path) == [f"kindred-{fingerprint(other)}"]
    assert left_in_files(tmp_path, "Lovelace") == set()


# --- kills and what stands in the way ----------------------------------------------------------

WORKER = """
import os, signal, sys
from pathlib import Path
from pipeline.store import edge_folder
from pipeline.store.edge_due import PurgeDue
from pipeline.store.edge_generations import Generations
from tests.unit.test_store_purge import DELETED, filled, ids

folder, index_from, owner, step, when = Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
store = filled(folder, index_from)
owners = {
    "Generations": Generations, "Folder": edge_folder.Folder, "edge_folder": edge_folder,
    "PurgeDue": PurgeDue,
}
original = getattr(owners[owner], step)

def deadly(*args):
    if when == "after":
        original(*args)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owners[owner], step, deadly)
store.delete(ids(*DELETED))
store.purge()
"""


@pytest.mark.parametrize(
    ("index_from", "owner", "step", "when"),
    [
        (0, "PurgeDue", "note", "after"),
        (0, "edge_folder", "create", "after"),
        (0, "Generations", "_write", "after"),
        (0, "Generations", "_copy_points", "after"),
        (100, "Generations", "_optimize", "before"),
        (100, "Generations", "_optimize", "after"),
        (0, "Folder", "switch", "before"),
        (0, "Folder", "switch", "after"),
        (100, "Folder", "switch", "after"),
        (0, "edge_folder", "remove", "before"),
        (0, "PurgeDue", "clear", "before"),
    ],
)
def test_a_kill_at_any_step_loses_no_point_and_not_the_duty(
    tmp_path: Path, index_from: int, owner: str, step: str, when: str
):
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path), str(index_from), owner, step, when],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    store = open_(tmp_path, index_from)
    assert store.purge_due
    store.delete(ids(*DELETED))  # as the deletion does that goes on
    store.purge()
    assert len(shards(tmp_path)) == 1
    assert left_in_files(tmp_path, *map(name, DELETED)) == set()
    records, _ = store.scroll(COUNT)
    assert sorted(record.payload["row"] for record in records) == [
        row for row in range(COUNT) if row not in DELETED
    ]
    store.close()


class _Cancelled(Exception):
    pass


@both
@pytest.mark.parametrize("ticks", [0, 2])
def test_a_tick_that_raises_ends_a_purge_and_leaves_it_due(
    tmp_path: Path, index_from: int, ticks: int
):
    store = filled(tmp_path, index_from)
    before = shards(tmp_path)
    store.delete(ids(*DELETED))
    left = [None] * ticks

    def cancel() -> None:
        if not left:
            raise _Cancelled
        left.pop()

    with pytest.raises(_Cancelled):
        store.purge(cancel)
    assert shards(tmp_path) == before
    assert store.purge_due
    store.purge()
    assert left_in_files(tmp_path, *map(name, DELETED)) == set()
    store.close()


def test_a_purge_that_the_disk_has_no_room_for_says_so_and_stays_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = filled(tmp_path)
    store.delete(ids(*DELETED))
    with monkeypatch.context() as patched, pytest.raises(StoreUnavailable, match="bytes free"):
        patched.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=4096))
        store.purge()
    assert store.purge_due
    assert (store.count(), shards(tmp_path)) == (COUNT - 3, [NAME])
    store.close()


def test_an_old_shard_that_cannot_be_deleted_keeps_the_purge_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = filled(tmp_path)
    store.delete(ids(*DELETED))
    with monkeypatch.context() as patched, pytest.raises(StoreUnavailable, match="deleted"):
        patched.setattr(edge_folder, "remove", lambda path: None)
        store.purge()
    assert store.purge_due
    store.purge()
    assert shards(tmp_path) == [f"{NAME}.2"]
    store.close()


def test_the_engines_errors_are_told_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = filled(tmp_path)
    store.delete(ids(*DELETED))

    def refuse(*_: object) -> None:
        raise Exception("a fault of the engine's, with Lovelace in it")

    with monkeypatch.context() as patched, pytest.raises(StoreUnavailable) as caught:
        patched.setattr(Generations, "_write", refuse)
        store.purge()
    assert "Lovelace" not in str(caught.value)
    assert (store.count(), shards(tmp_path)) == (COUNT - 3, [NAME])
    store.close()


def test_closing_gives_up_a_purge_and_what_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    gate = Gate(monkeypatch, "_copy_points")
    store = filled(tmp_path)
    store.delete(ids(*DELETED))
    told: list[str] = []

    def purge() -> None:
        with pytest.raises(StoreUnavailable) as caught:
            store.purge()
        told.append(str(caught.value))

    threads = [threading.Thread(target=purge) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert gate.reached.wait(20)
    closing = threading.Thread(target=store.close)
    closing.start()
    assert store._generations._stopping.wait(20)
    closing.join(0.5)
    assert closing.is_alive(), "the purge still has the shard"
    gate.opened.set()
    for thread in (*threads, closing):
        thread.join()
    assert len(told) == 2
    assert shards(tmp_path) == [NAME]
    with pytest.raises(StoreUnavailable):
        store.purge()
    again = open_(tmp_path)
    assert again.purge_due
    again.purge()
    assert left_in_files(tmp_path, *map(name, DELETED)) == set()
    again.close()
