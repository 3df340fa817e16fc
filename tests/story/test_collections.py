"""Two collections with two encoders on one Redis and one api; one of their workers is killed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.processes import Child, Program
from cli.sample import write_dataset, write_encoder
from tests import real_qdrant
from tests.system import System, end, kill, until

NAME = f"test-other-{os.getpid()}"
OTHER = f"/v1/collections/{NAME}"


@pytest.fixture(scope="module")
def other_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other-images")
    write_dataset(folder, rows=120)
    return folder


@pytest.fixture(scope="module")
def other_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of other dimensions, so that a vector in the wrong collection could not go unnoticed."""
    folder = tmp_path_factory.mktemp("other-encoder")
    write_encoder(folder, hidden=48, layers=1, heads=2, intermediate=64, image_size=32, patch=8)
    return folder


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    """Small batches, so that a job can be met in the middle."""
    folder = tmp_path_factory.mktemp("collections")
    with System(folder, encoder, BATCH_SIZE="2", LANES="1", SHARD_SIZE="20") as running:
        yield running


@pytest.fixture(scope="module")
def other(system: System, other_encoder: Path) -> Iterator[Child]:
    """The worker of the other collection: same Redis, same data folder."""
    environment = {
        **system.environment,
        "KINDRED_COLLECTION": NAME,
        "KINDRED_MODEL": str(other_encoder),
    }
    log = system.folder / "other.log"
    worker = Child(Program("other", system.worker.program.command, environment, log))
    worker.start()
    try:
        until(lambda: workers(system).get(NAME), "the other worker")
        yield worker
    finally:
        if worker.running:
            end(worker)  # type: ignore[arg-type]
        real_qdrant.forget(NAME)


def workers(system: System) -> dict[str, int]:
    found = system.http.get("/v1/collections").raise_for_status().json()["collections"]
    return {collection["name"]: collection["workers"] for collection in found}


def submit(system: System, base: str, folder: Path) -> dict[str, Any]:
    answer = system.http.post(f"{base}/jobs", json={"dataset": str(folder)})
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"{base}/jobs/{answer.json()['id']}"
    job: dict[str, Any] = answer.json()
    return job


def ended(system: System, base: str, job: dict[str, Any]) -> dict[str, Any]:
    def final() -> dict[str, Any] | None:
        found = system.http.get(f"{base}/jobs/{job['id']}").raise_for_status().json()
        return found if found["final"] else None

    view: dict[str, Any] = until(final, f"the end of a job of {base}")
    return view


def search(system: System, base: str, image_id: str) -> list[dict[str, Any]]:
    answer = system.http.post(
        f"{base}/searches", json={"image_id": image_id, "limit": 5}, headers={"Prefer": "wait=30"}
    )
    assert answer.status_code == 200, answer.text
    hits: list[dict[str, Any]] = answer.json()["results"]
    return hits


def about(system: System, base: str) -> dict[str, Any]:
    found: dict[str, Any] = system.http.get(f"{base}/collection").raise_for_status().json()
    return found


def test_both_work_at_once_and_a_killed_one_costs_the_other_nothing(
    system: System, other: Child, drawn: Path, other_images: Path
) -> None:
    first, second = submit(system, "/v1", drawn), submit(system, OTHER, other_images)

    def both_begun() -> bool:
        jobs = [system.http.get(f"{b}/jobs/{j['id']}").json() for b, j in pairs]
        return all(job["embedded"] > 4 for job in jobs)

    pairs = [("/v1", first), (OTHER, second)]
    until(both_begun, "both jobs in the middle")
    stored = system.http.get("/v1/images", params={"limit": 1}).json()["images"][0]
    assert search(system, "/v1", stored["image_id"])[0]["score"] == pytest.approx(1, abs=1e-3)

    kill(other)  # type: ignore[arg-type]
    assert search(system, "/v1", stored["image_id"])
    one = ended(system, "/v1", first)
    other.start()
    two = ended(system, OTHER, second)

    assert (one["state"], one["total"], one["embedded"]) == ("succeeded", 200, 200)
    assert (two["state"], two["total"], two["embedded"]) == ("succeeded", 120, 120)
    assert [about(system, base)["count"] for base in ("/v1", OTHER)] == [200, 120]
    assert [about(system, base)["encoder"]["dimensions"] for base in ("/v1", OTHER)] == [32, 48]


def test_an_image_of_one_collection_is_unknown_to_the_other(system: System, other: Child) -> None:
    only_here = {image["image_id"] for image in system.indexed()} - {
        image["image_id"]
        for image in system.http.get(f"{OTHER}/images", params={"limit": 500}).json()["images"]
    }
    image_id = min(only_here)

    answer = system.http.get(f"{OTHER}/images/{image_id}")

    assert answer.status_code == 404
    assert system.http.get(f"/v1/images/{image_id}/preview").status_code == 200
    assert system.http.get(f"{OTHER}/images/{image_id}/preview").status_code == 404


def test_hits_name_previews_of_their_own_collection(system: System, other: Child) -> None:
    [image] = system.http.get(f"{OTHER}/images", params={"limit": 1}).json()["images"]
    hit = search(system, OTHER, image["image_id"])[0]

    assert hit["preview_url"].startswith(f"{OTHER}/images/")
    assert system.http.get(hit["preview_url"]).status_code == 200


def test_a_deletion_in_one_collection_leaves_the_other_alone(system: System, other: Child) -> None:
    image_id = system.http.get("/v1/images", params={"limit": 1}).json()["images"][0]["image_id"]
    before = about(system, OTHER)["count"]

    gone = system.http.post(
        "/v1/deletions", json={"image_ids": [image_id]}, headers={"Prefer": "wait=30"}
    ).json()

    assert (gone["state"], gone["image_ids"]) == ("succeeded", [image_id])
    assert about(system, OTHER)["count"] == before
    assert system.http.get(f"{OTHER}/deletions/{gone['id']}").status_code == 404


def test_metrics_and_the_list_name_both(system: System, other: Child) -> None:
    for name in (system.collection, NAME):
        # A worker on a busy machine can be silent for so long that it counts as gone, for a moment.
        line = f'kindred_workers{{collection="{name}"}} 1.0'
        until(lambda line=line: line in system.http.get("/metrics").text, line)  # type: ignore[misc]
    assert set(workers(system)) == {system.collection, NAME}
    assert system.http.get("/v1/collections/nobody/jobs").status_code == 404
