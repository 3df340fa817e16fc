"""A rolling upgrade: workers and an api of the version before run beside ours, on one Redis."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from cli.processes import Child
from pipeline.base.states import FINAL_STATES
from tests.chaos import data
from tests.chaos.fleet import SERVER, Fleet
from tests.system import WAIT, end, free_port, kill, until

# The last commit whose leases went to any worker. Those after it must run beside it, and it beside
# them.
BEFORE = "de986742426f0ad64df493e2c705b8e9a6f8d3a7"
ROOT = Path(__file__).parents[2]
CODE = ("pipeline", "workers", "api", "cli", "pyproject.toml")
ROWS = 600


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its code, in a folder."""
    folder = tmp_path_factory.mktemp("older")
    known = subprocess.run(
        ["git", "-C", str(ROOT), "cat-file", "-e", f"{BEFORE}^{{commit}}"],
        capture_output=True,
        check=False,
    )
    if known.returncode:
        pytest.skip(f"this checkout has no commit {BEFORE}, whose worker is to run beside ours")
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", BEFORE, *CODE], capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


class Mixed(Fleet):
    """One worker and the api of ours, and an older worker and api."""

    def __init__(self, folder: Path, encoder: Path, older: Path) -> None:
        super().__init__(folder, encoder, size=1)
        self._older = older
        self.old_worker = self._of_older("old-worker", "workers")
        self.old_port = free_port()
        self.old_api = self._of_older("old-api", "api", "--port", str(self.old_port))
        self.old_http = httpx.Client(base_url=f"http://127.0.0.1:{self.old_port}", timeout=60)

    def __exit__(self, *arguments: object) -> None:
        for child in (self.old_worker, self.old_api):
            end(child)
        self.old_http.close()
        super().__exit__(*arguments)

    def __enter__(self) -> Self:
        """The older worker is there first, as in an upgrade: it makes the collection."""
        start_redis = self.system.start_redis

        def start_redis_and_older() -> None:
            start_redis()
            self.start_old(self.old_worker, " ready.")

        self.system.start_redis = start_redis_and_older  # type: ignore[method-assign]
        return super().__enter__()

    def start_old(self, child: Child, ready: str) -> None:
        child.start()
        until(lambda: ready in child.program.log.read_text(), f"{ready}; {child.last_words(5)}")

    def _of_older(self, name: str, *what: str) -> Child:
        command = [sys.executable, str(ROOT / "tests/chaos/at_version.py"), *what]
        program = self.system.child(name, command).program
        return Child(
            replace(program, environment={**program.environment, "PYTHONPATH": str(self._older)})
        )


@pytest.fixture
def mixed(encoder: Path, older: Path, tmp_path: Path) -> Iterator[Mixed]:
    if SERVER:
        pytest.skip("the older worker wants the stand-in of Qdrant")
    with Mixed(tmp_path, encoder, older) as mixed:
        yield mixed


def test_versions_run_beside_each_other(mixed: Mixed, tmp_path: Path) -> None:
    ours = mixed.system
    mixed.start_old(mixed.old_api, "Uvicorn running")
    folder = tmp_path / "sources" / "first"
    ids = data.write(folder, "first", ROWS, seed=1)

    view = post(ours.http, folder)
    until(lambda: done(ours.http, view) > 50, "some images")
    kill(mixed.old_worker)
    assert finished(ours.http, view)["embedded"] == ROWS, "ours alone"

    mixed.start_old(mixed.old_worker, " ready.")
    folder = tmp_path / "sources" / "second"
    ids += data.write(folder, "second", ROWS, seed=2)
    view = post(mixed.old_http, folder)
    until(lambda: done(mixed.old_http, view) > 50, "some images")
    kill(mixed.worker)
    assert finished(mixed.old_http, view)["embedded"] == ROWS, "the older one alone"
    assert search(ours.http, ids[-1])["state"] == "succeeded"

    mixed.worker.start()
    ours.wait_ready()
    for http in (ours.http, mixed.old_http):
        assert search(http, ids[0])["state"] == "succeeded"
        assert len(http.get("/v1/jobs").json()["jobs"]) == 2
    deletion = ours.http.post("/v1/deletions", json={"image_ids": [ids[0]]}).json()
    path = f"/v1/deletions/{deletion['id']}"
    until(lambda: ours.http.get(path).json()["state"] == "succeeded", "the deletion")
    mixed.jobs, mixed.searches = {}, []
    mixed.stop()
    assert mixed.store_is_right(set(ids[1:])) == []


def post(http: httpx.Client, folder: Path) -> Any:
    return http.post("/v1/jobs", json={"dataset": str(folder)}).raise_for_status().json()


def done(http: httpx.Client, view: Any) -> int:
    found = http.get(f"/v1/jobs/{view['id']}").json()
    return sum(found["counts"].values())


def finished(http: httpx.Client, view: Any) -> Any:
    def final() -> Any:
        found = http.get(f"/v1/jobs/{view['id']}").json()
        return found if found["state"] in FINAL_STATES else None

    return until(final, "the end of the job")


def search(http: httpx.Client, image_id: str) -> Any:
    return http.post("/v1/searches", json={"image_id": image_id}, headers=WAIT).json()
