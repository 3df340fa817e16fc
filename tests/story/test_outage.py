"""Two workers whose store is away, for one of them or for both, hangs, and comes back."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.outage import SILENT
from tests.chaos.fleet import BLOBS_FAIL, SERVER, Fleet
from tests.chaos.worker import STORE_AWAY
from tests.system import until

JOBS, ROWS = 2, 500


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("outage"), encoder, 2) as running:
        until(lambda: ready(running)["workers"] == 2, "both workers")
        yield running


def ready(fleet: Fleet) -> dict[str, Any]:
    found: dict[str, Any] = fleet.http.get("/readyz").json()
    return found


@contextmanager
def switched(switch: Path) -> Iterator[None]:
    """On, until the block ends: a test that fails leaves no fault to the next."""
    switch.touch()
    try:
        yield
    finally:
        switch.unlink()


def store_is(fleet: Fleet, state: str) -> dict[str, Any]:
    part: dict[str, Any] = until(
        lambda: (part := ready(fleet)["store"])["state"] == state and part, f"a store: {state}"
    )
    return part


def submit(fleet: Fleet, seed: int) -> None:
    """Jobs that are in the middle."""
    for number in range(JOBS):
        fleet.submit(ROWS, seed + number)
    until(lambda: (fleet.done() or 0) > len(fleet.jobs) * ROWS - JOBS * ROWS + 8, "some images")


def leases(fleet: Fleet) -> int:
    redis = fleet.system.client()
    count = int(redis.get(f"{fleet.namespace}:tokens") or 0)
    redis.close()
    return count


def all_is_done(fleet: Fleet) -> None:
    until(lambda: fleet.unfinished() == 0, "the end of all jobs")
    for view in fleet.views() or ():
        assert (view["state"], view["embedded"]) == ("succeeded", view["total"])
        assert view["notice"] is None


def test_a_worker_that_does_not_reach_the_store_leaves_all_to_the_other(fleet: Fleet) -> None:
    lost = fleet.workers[1]
    submit(fleet, 100)
    with switched(fleet.switches / f"{STORE_AWAY}-{lost.pid}"):
        store_is(fleet, "partial")
        assert fleet.http.get("/readyz").status_code == 200
        until(lambda: "Canceling queue" in lost.program.log.read_text(), "no searches for it")
        assert all(fleet.answers_a_search() for _ in range(20))
        all_is_done(fleet)  # by one worker
        assert lost.program.log.read_text().count("vector store unavailable") == 1

    store_is(fleet, "ok")
    until(lambda: "Started consuming from" in lost.program.log.read_text(), "searches for it")


def test_while_the_store_is_away_work_waits_and_everybody_is_told(fleet: Fleet) -> None:
    submit(fleet, 200)
    with switched(fleet.switches / STORE_AWAY):
        part = store_is(fleet, "away")
        assert fleet.http.get("/readyz").status_code == 503
        assert part["cause"] == "The Qdrant server cannot be reached (ConnectError)"
        assert part["since"]
        before = leases(fleet)
        collection = fleet.http.get("/v1/collection")
        assert collection.status_code == 503
        assert "The vector store is away since" in collection.json()["detail"]
        waiting = [view for view in fleet.views() or () if not view["final"]]
        assert waiting
        assert all("The vector store is away since" in view["notice"] for view in waiting)
        assert leases(fleet) == before, "nothing is handed out that can only come back"
        metrics = fleet.http.get("/metrics").text
        assert metrics.count('dependency="store"') == 2
        search = fleet.http.post("/v1/searches", json={"vector": [1.0] * 32}).json()["id"]
        ended = until(lambda: final(fleet, search), "the end of a search")
        assert (ended["error"]["status"], ended["error"]["type"]) == (503, "store-unavailable")

    store_is(fleet, "ok")
    all_is_done(fleet)
    until(fleet.answers_a_search, "an answer")


def final(fleet: Fleet, search: str) -> dict[str, Any] | None:
    view: dict[str, Any] = fleet.http.get(f"/v1/searches/{search}").json()
    return view if view["state"] in ("succeeded", "failed") else None


@pytest.mark.skipif(bool(SERVER), reason="a server of others is not to be stopped")
def test_a_store_that_hangs_is_away(fleet: Fleet) -> None:
    fleet.qdrant.send(signal.SIGSTOP)
    try:
        search = fleet.http.post("/v1/searches", json={"vector": [1.0] * 32}).json()["id"]
        fleet.http.get("/v1/collection")  # the other worker meets it too
        part = store_is(fleet, "away")
        answer = fleet.http.get("/v1/collection")
    finally:
        fleet.qdrant.send(signal.SIGCONT)

    assert part["cause"] == SILENT
    assert answer.status_code == 503
    assert SILENT in answer.json()["detail"]
    store_is(fleet, "ok")
    ended = until(lambda: final(fleet, search), "the end of the search")
    assert ended["state"] == "succeeded"
    said = "".join(worker.program.log.read_text() for worker in fleet.workers)
    assert f"vector store unavailable reason={SILENT}" in said


def test_while_the_blobs_are_away_work_waits_too(fleet: Fleet) -> None:
    submit(fleet, 300)
    with switched(fleet.switches / BLOBS_FAIL):
        until(lambda: ready(fleet)["blobs"]["state"] == "read-only", "blobs that take no writes")
        assert fleet.http.get("/readyz").status_code == 503
        before = leases(fleet)
        waiting = [view for view in fleet.views() or () if not view["final"]]
        assert all("The blobs' store takes no writes since" in view["notice"] for view in waiting)
        collection = fleet.http.get("/v1/collection")
        assert collection.json()["type"] == "urn:kindred:problem:blobs-unavailable"
        assert leases(fleet) == before

    all_is_done(fleet)
    said = "".join(worker.program.log.read_text() for worker in fleet.workers)
    assert "blobs available again" in said
