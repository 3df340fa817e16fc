"""How a Qdrant server is made to rewrite its files, by workers that may be killed or race.

`Files` plays a server with segments. Where KINDRED_TEST_QDRANT_URL names a server, its own are
looked at through its API.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from qdrant_client import models

from pipeline.base.errors import StoreUnavailable
from pipeline.store import Points, server_purge
from pipeline.store.server import ServerStore
from pipeline.store.server_purge import ServerPurge
from tests import real_qdrant
from tests.encoders import DIMENSIONS, ENCODER

NAME = "kindred-0"


class Files:
    """A collection's metadata, settings and segments. `then` runs at the next look at segments."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {"encoder": {"model": "m"}}
        self.on_disk = True
        self.status = models.CollectionStatus.GREEN
        self.segments = [uuid4(), uuid4()]
        self.pending: list[UUID] = []
        self.rewrites = True
        self.logged = 0
        self.then: Callable[[], None] = lambda: None

    def get_collection(self, name: str) -> Any:
        log = SimpleNamespace(wal_capacity_mb=4, wal_retain_closed=1)
        params = SimpleNamespace(on_disk_payload=self.on_disk)
        config = SimpleNamespace(metadata={**self.metadata}, params=params, wal_config=log)
        return SimpleNamespace(config=config, status=self.status)

    def update_collection(
        self, name: str, collection_params: Any = None, metadata: Any = None
    ) -> None:
        for key, value in (metadata or {}).items():
            self.metadata.pop(key, None)
            if value is not None:
                self.metadata[key] = value
        if collection_params is not None:
            if self.rewrites and self.on_disk != collection_params.on_disk_payload:
                self.pending = [*self.segments]
            self.on_disk = collection_params.on_disk_payload

    def overwrite_payload(self, name: str, payload: Any, points: Any, wait: bool) -> None:
        self.logged += sum(map(len, payload.values()))

    def get_optimizations(self, name: str, with_: Any) -> models.OptimizationsResponse:
        then, self.then = self.then, lambda: None
        then()
        running = [
            SimpleNamespace(segments=[SimpleNamespace(uuid=each)]) for each in self.pending[:1]
        ]
        queued = [
            SimpleNamespace(segments=[SimpleNamespace(uuid=each)]) for each in self.pending[1:]
        ]
        idle = [SimpleNamespace(uuid=each) for each in self.segments if each not in self.pending]
        if self.pending:
            self.segments[self.segments.index(self.pending.pop(0))] = uuid4()
        answer: Any = SimpleNamespace(running=running, queued=queued, idle_segments=idle)
        return answer


@pytest.fixture
def files() -> Files:
    return Files()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Time passes by the pauses alone."""
    now = [0.0]

    def pass_(seconds: float) -> None:
        now[0] += seconds

    fake = SimpleNamespace(monotonic=lambda: now[0], sleep=pass_)
    monkeypatch.setattr(server_purge, "time", fake)
    yield now


def worker(files: Files) -> ServerPurge:
    client: Any = files
    return ServerPurge(client, NAME, nullcontext)


def tick() -> None:
    """Goes on."""


def test_a_purge_rewrites_every_segment_and_leaves_the_settings_as_they_were(files: Files) -> None:
    purge, old = worker(files), {*files.segments}
    purge.run(tick)
    assert {*files.segments} == old, "nothing was deleted"
    purge.note()
    assert purge.is_due
    assert worker(files).is_due, "another worker may do it"
    purge.run(tick)
    assert old.isdisjoint(files.segments)
    assert files.on_disk
    assert files.logged > 2 * 4 * 2**20
    assert files.metadata == {"encoder": {"model": "m"}}


def test_an_index_that_is_being_built_goes_first(files: Files) -> None:
    """To begin it anew took minutes for 50,000 images."""
    files.pending, built = [*files.segments], []
    change = files.update_collection

    def look(*arguments: Any, **named: Any) -> None:
        if named.get("collection_params") is not None:
            built.append(not files.pending)
        change(*arguments, **named)

    files.update_collection = look  # type: ignore[method-assign]
    purge = worker(files)
    purge.note()
    purge.run(tick)
    assert built[0]


def test_a_purge_that_is_ended_stays_due_and_restores_the_settings(files: Files) -> None:
    class Stopping(Exception):
        """Of the worker."""

    def stop() -> None:
        raise Stopping

    purge = worker(files)
    purge.note()
    with pytest.raises(Stopping):
        purge.run(stop)
    assert purge.is_due
    assert files.on_disk
    purge.run(tick)
    assert not purge.is_due


@pytest.mark.parametrize("on_disk", [True, False])
def test_the_next_purge_restores_what_a_killed_one_has_changed(files: Files, on_disk: bool) -> None:
    files.on_disk = on_disk
    killed, next_ = worker(files), worker(files)
    killed.note()

    class Killed(BaseException):
        """As far as the code can tell."""

    def gone(*_: Any, **__: Any) -> None:
        raise Killed

    def die_afterwards(*arguments: Any, **named: Any) -> None:
        change(*arguments, **named)
        if named.get("collection_params") is not None:
            files.update_collection = files.overwrite_payload = gone  # type: ignore[method-assign]

    change = files.update_collection
    files.update_collection = die_afterwards  # type: ignore[method-assign]
    with pytest.raises(Killed):
        killed.run(tick)
    del files.update_collection, files.overwrite_payload
    assert files.on_disk is not on_disk
    assert next_.is_due
    next_.run(tick)
    assert files.on_disk is on_disk
    assert not next_.is_due


def test_what_is_deleted_while_a_purge_runs_is_due_again(files: Files) -> None:
    purging, other = worker(files), worker(files)
    other.note()
    files.then = lambda: files.__setattr__("then", other.note)
    purging.run(tick)
    assert other.is_due
    assert files.on_disk


@pytest.mark.parametrize("lives", [True, False])
def test_a_purge_waits_while_another_lives(files: Files, lives: bool) -> None:
    key, purge = f"{server_purge._KEY}0", worker(files)
    looks: list[int] = []

    def beat() -> None:
        looks.append(files.logged)
        if lives and len(looks) <= 300:
            ended = len(looks) == 300
            mark = None if ended else {server_purge._RUNS: True, "beat": len(looks)}
            files.update_collection(NAME, metadata={key: mark})

    files.metadata[key] = {server_purge._RUNS: True, "beat": 0}
    purge.note()
    purge.run(beat)
    waited = looks.count(0)
    assert waited >= 300 if lives else waited < 200
    assert files.metadata == {"encoder": {"model": "m"}}


def test_of_two_that_begin_in_the_same_moment_one_withdraws(files: Files) -> None:
    """The other's mark is there when ours is written."""
    purge = worker(files)
    purge.note()
    mark = files.update_collection
    other = {f"{server_purge._KEY}0": {server_purge._RUNS: True, "beat": 0}}

    def beside(*arguments: Any, **named: Any) -> None:
        files.update_collection = mark  # type: ignore[method-assign]
        files.metadata.update(other)
        mark(*arguments, **named)

    files.update_collection = beside  # type: ignore[method-assign]
    assert not purge._begin()
    assert purge._running().keys() == other.keys()
    assert len(purge._marks()) == 2, "ours is due, and no longer runs"
    purge.run(tick)  # the other shows no sign of life
    assert files.metadata == {"encoder": {"model": "m"}}


@pytest.mark.parametrize("status", [models.CollectionStatus.GREEN, models.CollectionStatus.RED])
def test_a_server_that_rewrites_nothing_leaves_it_due(
    files: Files, status: models.CollectionStatus
) -> None:
    files.rewrites, files.status = False, status
    purge = worker(files)
    purge.note()
    with pytest.raises(StoreUnavailable, match="does not rewrite"):
        purge.run(tick)
    assert purge.is_due
    assert files.on_disk


@pytest.mark.skipif(not real_qdrant.URL, reason="KINDRED_TEST_QDRANT_URL names no Qdrant server")
@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize("images", [1, 40])
def test_a_server_rewrites_all_its_segments(
    rest: bool, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with real_qdrant.collection(rest=rest) as open_:
        store: ServerStore = open_(ENCODER, {"dx": "keyword"})
        vectors = np.ones((images, DIMENSIONS), np.float32)
        ids = [uuid4() for _ in range(images)]
        store.upsert(Points(ids, vectors, [{"dx": "nv"}] * images))
        before, (old, _) = store._client.get_collection(store._name), store._purge._segments()
        store.delete(ids[:1])
        assert store.purge_due
        store.purge()
        after, (new, _) = store._client.get_collection(store._name), store._purge._segments()
        assert not store.purge_due
        assert old
        assert old.isdisjoint(new)
        assert after.config == before.config
        assert store.count() == images - 1
