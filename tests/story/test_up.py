"""`kindred up`, as an operator uses it: one command, one folder, and nothing left behind."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from cli.processes import Child, Program, module_command, module_environment
from tests.system import PATIENCE, end, until


class Up:
    """`kindred up` on free ports, and the commands that talk to it."""

    def __init__(self, data: Path, encoder: Path) -> None:
        plain = {k: v for k, v in os.environ.items() if not k.startswith("KINDRED_")}
        self.data = data
        self.environment = module_environment(
            {**plain, "KINDRED_MODEL": str(encoder), "PYTHONUNBUFFERED": "1"}
        )
        ports = ("--port", "0", "--flower-port", "0")
        command = module_command("cli", "up", "--data", str(data), *ports)
        self.child = Child(Program("up", command, self.environment, data.with_suffix(".log")))

    def start(self) -> None:
        self._said().write_text("")
        self.child.start()
        self.url = until(lambda: self._find(r"^ready: (\S+)$"), "the ready line").group(1)
        self.flower = until(lambda: self._find(r"^flower: (\S+) "), "Flower's line").group(1)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            module_command("cli", *arguments, "--url", self.url),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def family(self) -> list[int]:
        """It and the processes it has started."""
        pid = self.child.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(pid or 0), *map(int, children)]

    def _said(self) -> Path:
        return self.child.program.log

    def _find(self, pattern: str) -> re.Match[str] | None:
        assert self.child.running, self._said().read_text()
        return re.search(pattern, self._said().read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("up") / "data", encoder)
    running.start()
    yield running
    if running.child.running:
        end(running.child)


def test_ingest_ends_with_totals_that_reconcile(up: Up, drawn: Path) -> None:
    told = up.run("ingest", str(drawn), "--limit", "60", "--json")

    assert told.returncode == 0, told.stderr
    job = json.loads(told.stdout)
    assert (job["total"], job["embedded"], job["rejected"]) == (60, 60, 0)


def test_search_prints_the_neighbours(up: Up, tmp_path: Path) -> None:
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(httpx.get(f"{up.url}/v1/images/DRAWN_000003/preview").content)

    by_file = up.run("search", str(picture), "--limit", "3", "--json")
    by_id = up.run("search", "--id", "DRAWN_000003", "--limit", "3")

    assert by_file.returncode == 0, by_file.stderr
    assert len(json.loads(by_file.stdout)["results"]) == 3
    assert "DRAWN_000003" in by_id.stdout
    assert "1.00" in by_id.stdout


def test_an_export_ranks_as_the_search_does(up: Up, tmp_path: Path) -> None:
    told = up.run("images", "export", str(tmp_path / "out"))
    assert told.returncode == 0, told.stderr
    vectors = np.load(tmp_path / "out" / "vectors.npy")
    lines = (tmp_path / "out" / "payloads.jsonl").read_text().splitlines()
    ids = [json.loads(line)["image_id"] for line in lines]
    assert vectors.shape == (60, 32)
    assert len(set(ids)) == 60

    found = json.loads(up.run("search", "--id", ids[9], "--limit", "60", "--json").stdout)

    scores = dict(zip(ids, vectors @ vectors[9], strict=True))
    ranked = [scores[hit["image_id"]] for hit in found["results"]]
    assert ranked == pytest.approx(sorted(scores.values(), reverse=True), abs=1e-6)
    assert [hit["score"] for hit in found["results"]] == pytest.approx(ranked, abs=1e-5)


def test_a_fault_is_one_line_and_exit_code_1(up: Up, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")

    unknown = (("search", "--id", "nope"), ("jobs", "show", "nope"), ("images", "show", "nope"))
    for arguments in (("search", str(broken)), *unknown):
        told = up.run(*arguments)
        assert told.returncode == 1
        assert len(told.stderr.strip().splitlines()) == 1, told.stderr


def test_a_folder_of_images_is_ingested_with_its_metadata(up: Up, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(3):
        preview = httpx.get(f"{up.url}/v1/images/DRAWN_00000{number}/preview").content
        (folder / f"scan{number}.jpg").write_bytes(preview)
    lines = "".join(f"scan{n}.jpg,SCAN{n},melanoma\n" for n in range(3))
    (folder / "metadata.csv").write_text("file_name,image_id,dx\n" + lines)

    seen_by_worker = json.loads(up.run("ingest", str(folder), "--json").stdout)
    sent = json.loads(up.run("ingest", str(folder), "--upload", "--json").stdout)

    assert seen_by_worker["embedded"] == 3
    assert sent["unchanged"] == 3
    payload = httpx.get(f"{up.url}/v1/images/SCAN1").json()["payload"]
    assert payload["dx"] == "melanoma"


def test_flower_shows_the_worker_and_the_tasks_behind_a_login(up: Up) -> None:
    password = (up.data / "flower.password").read_text().strip()
    login = httpx.BasicAuth("kindred", password)
    assert httpx.get(f"{up.flower}/api/workers").status_code == 401

    def seen() -> dict[str, Any] | None:
        tasks = httpx.get(f"{up.flower}/api/tasks", auth=login).json().values()
        states = {task["name"]: task["state"] for task in tasks}
        return states if {"kindred.ingest", "kindred.search"} <= states.keys() else None

    until(seen, "both kinds of tasks in Flower")
    shown = httpx.get(f"{up.flower}/api/tasks", auth=login).text
    assert "melanoma" not in shown, "metadata of the images that were ingested and found"
    for path in ("/", "/workers", "/tasks", "/api/tasks", "/broker"):
        assert httpx.get(f"{up.flower}{path}").status_code == 401, path
    asked = {"refresh": "1"}
    workers = httpx.get(
        f"{up.flower}/api/workers", params=asked, auth=login, timeout=PATIENCE
    ).json()
    assert any(name.startswith("kindred@") for name in workers)


def test_a_failure_is_seen_in_the_log_and_in_flower(up: Up, tmp_path: Path) -> None:
    """By its id and its reason; a searched image that there is not is no failure of ours."""
    missing = {"dataset": str(tmp_path / "Doe, Jane")}
    job = httpx.post(f"{up.url}/v1/jobs", json=missing).json()["id"]
    until(lambda: httpx.get(f"{up.url}/v1/jobs/{job}").json()["final"], "the end of the job")
    wait = {"Prefer": "wait=60"}
    httpx.post(f"{up.url}/v1/searches", json={"image_id": "nope"}, headers=wait, timeout=PATIENCE)

    log = (up.data / "logs" / "worker.log").read_text()
    errors = [line for line in log.splitlines() if " ERROR " in line]
    assert [line for line in errors if f"job={job}" in line and "reason=The source" in line]
    assert len(errors) == 1, errors
    tasks = until(lambda: states_in_flower(up), "the failed tasks in Flower")
    assert tasks["kindred.ingest"] == tasks["kindred.search"] == {"SUCCESS", "FAILURE"}


def states_in_flower(up: Up) -> dict[str, set[str]] | None:
    """The states of the tasks by their names, once all have ended and two kinds have failed.

    Workers send their events a few times a second, so Flower knows a task's end a little later.
    """
    login = httpx.BasicAuth("kindred", (up.data / "flower.password").read_text().strip())
    shown = httpx.get(f"{up.flower}/api/tasks", auth=login)
    assert "Jane" not in shown.text, "a file's or a folder's name"
    states: dict[str, set[str]] = {}
    for task in shown.json().values():
        states.setdefault(task["name"], set()).add(task["state"])
    failed = [name for name, found in states.items() if "FAILURE" in found]
    ended = all(found <= {"SUCCESS", "FAILURE"} for found in states.values())
    return states if ended and len(failed) >= 2 else None


def test_a_worker_that_is_killed_is_started_again(up: Up, drawn: Path) -> None:
    log = (up.data / "logs" / "worker.log").read_text
    name = re.findall(r"kindred@(\S+) ready", log())[-1]
    os.kill(int(name.split("-")[-2]), signal.SIGKILL)

    until(lambda: not log().rstrip().endswith(f"{name} ready."), "another worker")
    job = json.loads(up.run("ingest", str(drawn), "--limit", "60", "--json").stdout)
    assert (job["state"], job["unchanged"]) == ("succeeded", 60)


def test_a_second_one_on_the_folder_is_refused(up: Up) -> None:
    told = subprocess.run(
        module_command("cli", "up", "--data", str(up.data), "--port", "0"),
        env=up.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert told.returncode == 1
    assert len(told.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_leaving_nothing_and_starts_with_all_it_had(up: Up, stop: signal.Signals) -> None:
    before = up.run("images", "list", "--limit", "1000", "--json").stdout
    family = up.family()
    assert len(family) == 6  # it, Redis, the warm process, the worker, the api and Flower
    up.child.send(stop)
    until(lambda: not up.child.running, "the end of `kindred up`")

    assert up.child.exit_code == 0
    assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []

    up.start()
    assert up.run("images", "list", "--limit", "1000", "--json").stdout == before
