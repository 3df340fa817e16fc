"""Runs the stand-alone system as a person does, and uses it over HTTP."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import Slice
from benchmarks.machine import cpu_seconds, memory_mib
from cli.client import Client
from cli.documents import Document, Job
from cli.processes import Child, Program, module_command, module_environment, tail
from pipeline.base.states import FINAL_STATES

START_SECONDS = 300.0
STOP_SECONDS = 60.0
SHORTEST_PAUSE = 0.02  # seconds between two requests for a job, which cost the api milliseconds
LONGEST_PAUSE = 0.2


@dataclass(frozen=True)
class KindredRun:
    """From the submission of the job until a search finds its last image."""

    seconds: float
    cpu_seconds: float | None  # of all processes of the system
    embedded: int
    unchanged: int


@dataclass(frozen=True)
class System:
    """`start_seconds` is the time from its start until it said it could answer a search."""

    client: Client
    pid: int
    start_seconds: float

    def worker_mib(self) -> float:
        """The worker's own memory, without mapped files."""
        return memory_mib(processes(self.pid)["workers"])[0]

    def ingest(self, part: Slice) -> KindredRun:
        """Raises RuntimeError unless every row has an outcome and a search finds the last one."""
        cpu, start = cpu_seconds(self.pid), time.perf_counter()
        job = self._finished(
            self.client.submit({"dataset": str(part.folder), "limit": part.rows}, {})
        )
        self._find(part.ids[-1])
        seconds = time.perf_counter() - start
        if job["state"] != "succeeded" or job["total"] != part.rows:
            raise RuntimeError(f"a job of {part.rows} rows ended as {job}")
        spent = None if cpu is None else (cpu_seconds(self.pid) or 0.0) - cpu
        return KindredRun(seconds, spent, job["embedded"], job["unchanged"])

    def search(self, query: Document, image: Path | None = None) -> float:
        """Returns the seconds until the answer arrived."""
        start = time.perf_counter()
        found = self.client.search(query, [] if image is None else [image])
        seconds = time.perf_counter() - start
        if not found["results"]:
            raise RuntimeError("a search found nothing")
        return seconds

    def _finished(self, job: Job) -> Job:
        pause = SHORTEST_PAUSE
        while job["state"] not in FINAL_STATES:
            time.sleep(pause)
            pause = min(pause * 1.3, LONGEST_PAUSE)
            job = self.client.job(job["id"])
        return job

    def _find(self, image_id: str) -> None:
        results = self.client.search({"image_id": image_id, "ids": [image_id]})["results"] or []
        if [hit["image_id"] for hit in results] != [image_id]:
            raise RuntimeError("the job's last image is not found")


@contextmanager
def running(folder: Path, model: Path) -> Iterator[System]:
    """Runs `kindred up` on free ports with its data in `folder`, and waits until it is ready."""
    folder.mkdir()
    arguments = ("up", "--data", str(folder / "data"), "--port", "0", "--flower-port", "0")
    # All clients of a benchmark have one address, which may have a quarter of the backlog.
    settings = {"KINDRED_MODEL": str(model), "KINDRED_SEARCH_BACKLOG": "1000"}
    environment = module_environment({**os.environ, **settings})
    log = folder / "up.log"
    child = Child(Program("kindred up", module_command("cli", *arguments), environment, log))
    start = time.perf_counter()
    child.start()
    try:
        address = _address(child)
        seconds = time.perf_counter() - start
        with Client(address) as client:
            assert child.pid is not None
            yield System(client, child.pid, seconds)
    finally:
        _stop(child)


def processes(root: int) -> dict[str, int]:
    """The process ids of the api and of the worker, which are children of `kindred up`.

    The worker is a fork of another child, and began after it.
    """
    found: dict[str, tuple[int, int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            words = (stat.parent / "cmdline").read_bytes().decode().split("\0")
        except OSError:  # it ended meanwhile
            continue
        parent, began = int(fields[1]), int(fields[19])
        for name in ("api", "workers"):
            if parent == root and {name, f"{name}.warm"}.intersection(words):
                found[name] = max(found.get(name, (0, 0)), (began, int(stat.parent.name)))
    return {name: pid for name, (_, pid) in found.items()}


def _address(child: Child) -> str:
    """Waits for the address that it prints once it can answer a search."""
    end = time.monotonic() + START_SECONDS
    while child.running and time.monotonic() < end:
        for line in child.program.log.read_text("utf-8").split("\n")[:-1]:
            if line.startswith("ready: "):
                return line.removeprefix("ready: ")
        time.sleep(0.05)
    worker = child.program.log.parent / "data" / "logs" / "worker.log"
    words = "\n".join([*tail(child.program.log, 10), *tail(worker, 10)])
    raise RuntimeError(f"kindred up did not get ready:\n{words}")


def _stop(child: Child) -> None:
    child.send(signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while child.running and time.monotonic() < end:
        time.sleep(0.1)
    child.send(signal.SIGKILL)  # the kernel signals its children; no effect if it has ended
