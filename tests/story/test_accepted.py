"""The first key ends "all folders": a job that was accepted before goes on, and no other begins."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import System, end, until

SLOW = {"BATCH_SIZE": "2", "SHARD_SIZE": "16"}


@pytest.fixture
def system(tmp_path: Path, encoder: Path) -> Iterator[System]:
    with System(tmp_path / "system", encoder, **SLOW) as running:
        yield running


def test_a_job_goes_on_after_its_folder_is_allowed_no_longer(system: System, drawn: Path) -> None:
    job = system.submit(drawn)["id"]
    waiting = system.submit(drawn, limit=20)["id"]
    cancelled = system.submit(drawn, limit=10)["id"]
    system.http.post(f"/v1/jobs/{cancelled}/cancel")
    until(lambda: system.job(job)["embedded"] >= 4, "some images")
    for child in (system.api, system.worker):
        end(child)

    system.environment["KINDRED_SOURCES"] = "hub:*"  # as `kindred up` has it once there is a key
    system.api.start()
    system.restart_worker()

    assert system.finished(job)["state"] == "succeeded"
    assert system.finished(waiting)["state"] == "succeeded"
    assert system.http.post(f"/v1/jobs/{cancelled}/retry").is_success
    assert system.finished(cancelled)["unchanged"] == 10
    refused = system.http.post("/v1/jobs", json={"dataset": str(drawn)})
    assert refused.json()["type"] == "urn:kindred:problem:source-not-allowed"
