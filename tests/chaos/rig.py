"""The system under chaos: it keeps itself up, as a supervisor would, and work never runs out."""

import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Self

import httpx

from cli.processes import Program
from pipeline.base.states import FINAL_STATES
from pipeline.ledger import namespace_of
from pipeline.operations.base import QUEUES
from tests.chaos import checks, data
from tests.chaos.worker import break_inside
from tests.forked import ForkedWorker, Prepare
from tests.system import PATIENCE, JobView, System, end, until

SEARCHERS = 3
CANNOT_RUN = 78

# Many checkpoints, so that faults fall among them; leases that a lost message costs little.
SETTINGS = {
    "BATCH_SIZE": "4",
    "LANES": "2",
    "SHARD_SIZE": "64",
    "LEASE_SECONDS": "10",
    "SEARCH_TTL": "120",
    "LOG_LEVEL": "INFO",
}


class Rig:
    """Real processes on one folder. `jobs` and `searches` are what they have accepted.

    `size` workers, each `prepare`d before it runs; `worker` is the first of them.
    """

    collection = "kindred"

    def __init__(
        self,
        folder: Path,
        encoder: Path,
        size: int = 1,
        prepare: Prepare = break_inside,
        **settings: str,
    ) -> None:
        self.folder = folder
        self.switches = folder / "switches"
        self.switches.mkdir(parents=True)
        self.data = folder / "data"
        self.data.mkdir()
        self.system = System(self.data, encoder, embedded=True, **{**SETTINGS, **settings})
        self.system.environment.update(
            CHAOS_SWITCHES=str(self.switches), CHAOS_VISIBILITY_SECONDS="1"
        )
        self.workers = [ForkedWorker(self._program(number), prepare) for number in range(size)]
        self.system.worker = self.worker = self.workers[0]
        self.http = self.system.http
        self.jobs: dict[str, list[str]] = {}  # job -> the ids of its images
        self.poison = 0  # rows that must be rejected
        self.decoders_killed = 0
        self.searches: list[str] = []
        self.exits: list[int] = []  # of workers that ended by themselves
        self.down: set[str] = set()  # what is meant to be down

    def __enter__(self) -> Self:
        self.system.__enter__()
        for worker in self.workers[1:]:
            worker.start()
        return self

    def __exit__(self, *arguments: object) -> None:
        self.stop()
        self.system.__exit__(*arguments)

    def stop(self) -> None:
        """The workers together, then the rest."""
        for worker in self.workers:
            worker.send(signal.SIGTERM)
        for worker in self.workers:
            end(worker)
        self.system.stop()

    def _program(self, number: int) -> Program:
        program = self.system.worker.program
        log = program.log if not number else program.log.with_stem(f"{program.log.stem}-{number}")
        return replace(program, log=log)

    @property
    def namespace(self) -> str:
        return namespace_of(self.collection)

    def describe(self) -> str:
        """All that Redis holds of jobs, and the end of every log: for a promise that was broken."""
        for worker in self.workers:
            worker.send(signal.SIGUSR1)
        time.sleep(0.5)
        redis = self.system.client()
        lines = [
            f"{name}: {redis.zrange(f'{self.namespace}:{name}', 0, -1, withscores=True)}"
            for name in (*(f"leases:{q}" for q in QUEUES), "waiting", "requests", "workers")
        ]
        for queue in QUEUES:
            active = redis.lrange(f"{self.namespace}:active:{queue}", 0, -1)
            waiting = redis.lrange(f"{self.namespace}:quarantine:{queue}", 0, -1)
            load = redis.hgetall(f"{self.namespace}:workers:load:{queue}")
            lines.append(f"queue {queue}: {load}, quarantined {waiting}, active jobs {active}")
        lines.append(f"time: {redis.time()}")
        patterns = [f"{self.namespace}:{kind}:*" for kind in ("item", "job")]
        keys = [key for pattern in patterns for key in redis.scan_iter(pattern)]
        lines += [
            f"{key}: {redis.hgetall(key)}"
            for key in keys
            if redis.type(key) == "hash" and not key.endswith("rejections")
        ]
        lines.append(f"clock: {redis.hgetall(f'{self.namespace}:workers:clock')}")
        for log in sorted(self.data.glob("*.log")):
            lines += [f"--- {log.name}", log.read_text("utf-8", "replace")]
        return "\n".join(lines)

    # --- kept up ------------------------------------------------------------------------------

    def keep_up(self) -> None:
        """Starts again what has ended, once; call it often."""
        for worker in self.workers:
            if not worker.running:
                self._start_again(worker)
        if not self.system.api.running and "api" not in self.down:
            self.system.api.start()

    def _start_again(self, worker: ForkedWorker) -> None:
        code = worker.exit_code
        assert code != CANNOT_RUN, f"the worker gave up: {worker.last_words(5)}"
        if code not in (None, 0, -9):
            self.exits.append(code or 0)
        worker.start()

    def pass_time(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.keep_up()
            time.sleep(0.05)

    def wait(self, condition: Any, what: str, seconds: float = PATIENCE) -> Any:
        def kept() -> Any:
            self.keep_up()
            with suppress(httpx.TransportError, httpx.HTTPStatusError):
                return condition()

        return until(kept, what, seconds)

    # --- used ---------------------------------------------------------------------------------

    def submit(self, rows: int, seed: int, poison: int = 0) -> None:
        """A job of new images, the first `poison` of which end their decoders.

        Safe to repeat when an answer was lost: the api is asked first.
        """
        name = f"c{seed}"
        folder = self.folder / "sources" / name
        if not folder.exists():
            data.write(folder, name, rows, seed, poison)
            self.poison += poison
        ids = [f"{name}-{number:05d}" for number in range(poison, rows)]

        def accepted() -> JobView | None:
            known = self.http.get("/v1/jobs").raise_for_status().json()["jobs"]
            for job in known:
                if job["dataset"] == str(folder):
                    return job
            answer = self.http.post("/v1/jobs", json={"dataset": str(folder)})
            return answer.json() if answer.status_code == 202 else None

        job = self.wait(accepted, "a job to be accepted")
        self.jobs[job["id"]] = ids

    def views(self) -> list[JobView] | None:
        """All jobs; None while the api cannot tell."""
        with suppress(httpx.TransportError, httpx.HTTPStatusError):
            answer = self.http.get("/v1/jobs", params={"limit": 1000}, timeout=10)
            jobs: list[JobView] = answer.raise_for_status().json()["jobs"]
            return jobs
        return None

    def done(self) -> int | None:
        """Images accounted for in all jobs so far; None while the api cannot tell."""
        views = self.views()
        if views is None:
            return None
        return sum(view["embedded"] + view["unchanged"] + view["rejected"] for view in views)

    def store_is_right(self, expected: set[str]) -> list[str]:
        return checks.store_is_right(self, expected)

    def unfinished(self) -> int | None:
        views = self.views()
        return None if views is None else sum(view["state"] not in FINAL_STATES for view in views)

    def answers_a_search(self) -> bool:
        """Whether one that is asked now is answered at once."""
        try:
            body = {"vector": [1.0] * 32, "limit": 1}
            answer = self.http.post(
                "/v1/searches", json=body, headers={"Prefer": "wait=5"}, timeout=10
            )
        except httpx.TransportError:
            return False
        if answer.status_code in (200, 202):
            self.searches.append(answer.json()["id"])
        return answer.status_code == 200 and answer.json()["state"] == "succeeded"

    @contextmanager
    def searching(self, seed: int) -> Iterator["Searchers"]:
        """Clients that search all the while, some waiting for the answer and some not."""
        with Searchers(self, seed) as searchers:
            yield searchers


class Searchers:
    """Keeps the id of every search that was accepted; a refusal (503, no connection) is none."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.refused = 0
        self.odd: list[str] = []  # answers that the contract does not know
        self._rig = rig
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._search, args=(Random(seed + number),), daemon=True)
            for number in range(SEARCHERS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _search(self, random: Random) -> None:
        base = str(self._rig.http.base_url)
        with httpx.Client(base_url=base, timeout=40) as http:
            while not self._stop.wait(random.uniform(0.02, 0.3)):
                try:
                    answer = http.post("/v1/searches", **_question(random))
                except httpx.TransportError:
                    self.refused += 1
                    continue
                if answer.status_code in (200, 202):
                    self._rig.searches.append(answer.json()["id"])
                elif answer.status_code in (429, 503):
                    self.refused += 1
                else:
                    self.odd.append(f"{answer.status_code}: {answer.text[:200]}")


def _question(random: Random) -> dict[str, Any]:
    headers = {"Prefer": f"wait={random.choice((5, 30))}"} if random.random() < 0.7 else {}
    if random.random() < 0.5:
        image = data.picture(random.randrange(1000))
        return {"files": {"image": image}, "headers": headers}
    return {"json": {"vector": [random.uniform(-1, 1) for _ in range(32)]}, "headers": headers}


@contextmanager
def small_disk(megabytes: int = 1024) -> Iterator[Path]:
    """A folder on a file system of its own, if we may mount one; else a plain one."""
    with tempfile.TemporaryDirectory(prefix="kindred-chaos-") as folder:
        path = Path(folder) / "disk"
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(path)]
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        try:
            yield path
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", str(path)], check=True)
