"""The short form of `make load`: clients search while two jobs ingest; no answer is an error."""

from pathlib import Path

import httpx

from benchmarks.load import Load, follow, load, report
from cli.sample import write_dataset
from tests.system import System


def test_many_clients_search_while_two_jobs_ingest(system: System, tmp_path: Path) -> None:
    sources = [tmp_path / f"version-{seed}" for seed in range(2)]
    for seed, source in enumerate(sources):
        write_dataset(source, rows=120, seed=seed)
    with httpx.Client(base_url=system.http.base_url, timeout=60) as http:
        follow(http, sources[0])
        image = http.get("/v1/images/DRAWN_000000/preview").content
    pids = {"api": system.api.pid or 0, "worker": system.worker.pid or 0}

    done = load(str(system.http.base_url), sources, image, pids, Load(16, seconds=8, images=120))

    assert done.errors == []
    assert {job["state"] for job in done.jobs} == {"succeeded"}
    assert done.latencies
    assert all(memory[-1].own > 0 for memory in done.memory.values())
    assert "errors" in report(done)
