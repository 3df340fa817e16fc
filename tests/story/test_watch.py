"""A watched folder beside the real system: by path and by upload, and through kills."""

import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from tests.system import PATIENCE, System, contents, until


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("watched"), encoder) as system:
        yield system


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def picture(seed: int) -> bytes:
    drawn, out = random.Random(seed), BytesIO()
    Image.frombytes("RGB", (32, 32), drawn.randbytes(32 * 32 * 3)).save(out, "PNG")
    return out.getvalue()


def dicom(name: str) -> bytes:
    return Path(str(get_testdata_file(name, download=False))).read_bytes()


class Watching:
    """`kindred watch` as a process."""

    def __init__(self, system: System, folder: Path, *options: str) -> None:
        self.command = [
            sys.executable, "-P", "-m", "cli", "watch", str(folder),
            "--url", f"http://127.0.0.1:{system.port}", "--state", f"{folder}.sqlite", *options,
        ]  # fmt: skip
        self.environment = system.environment
        self.log = Path(f"{folder}.log")

    def once(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, "--once", "--settle", "0.5"],
            env=self.environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    @contextmanager
    def running(self) -> "Iterator[subprocess.Popen[bytes]]":
        """One that is killed in the end, if it still runs."""
        options = ["--every", "1", "--settle", "0.3"]
        with (
            self.log.open("ab") as log,
            subprocess.Popen(
                [*self.command, *options], env=self.environment, stdout=log, stderr=log
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def fill(folder: Path) -> None:
    """A bit of all that `kindred ingest FOLDER` takes."""
    (folder / "ward 3").mkdir()
    (folder / "a.png").write_bytes(picture(1))
    (folder / "ward 3" / "b.png").write_bytes(picture(2))
    (folder / "ward 3" / "b.json").write_text('{"dx": "nevus"}')
    (folder / "broken.png").write_bytes(picture(3)[:100])
    (folder / "metadata.csv").write_text("file_name,site\na.png,arm\nnot there yet.png,leg\n")
    (folder / "slow.png.part").write_bytes(picture(4))
    (folder / "CT.dcm").write_bytes(dicom("CT_small.dcm"))
    (folder / "damaged.dcm").write_bytes(dicom("MR_small.dcm")[:1500])
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("c.png", picture(5))
        archive.writestr("d.png", picture(6))


@pytest.mark.parametrize("way", [(), ("--upload",)])
def test_all_that_ingest_takes_is_taken_once_and_moved(
    system: System, folder: Path, way: tuple[str, ...]
) -> None:
    fill(folder)
    watching = Watching(system, folder, *way)
    ended = watching.once()
    assert ended.returncode == 3, ended.stderr + ended.stdout
    done = {"a.png", "ward 3/b.png", "ward 3/b.json", "CT.dcm", "more.zip"}
    bad = {"broken.png", "damaged.dcm"}
    failed = bad | {f"{name}.reason.txt" for name in bad}
    moved = {f"done/{name}" for name in done} | {f"failed/{name}" for name in failed}
    assert files(folder) == {"metadata.csv", "slow.png.part"} | moved
    assert not any(name in ended.stdout + ended.stderr for name in (*done, *bad))
    found = {i["payload"].get("site") or i["payload"].get("dx") for i in system.indexed()}
    assert {"arm", "nevus"} <= found
    (folder / "slow.png.part").rename(folder / "slow.png")
    assert watching.once().returncode == 0
    assert "done/slow.png" in files(folder)
    again = watching.once()
    assert again.returncode == 0 and "job" not in again.stdout


def test_no_name_of_a_file_is_at_rest_anywhere(system: System, folder: Path) -> None:
    (folder / "ANNA_SMITH.dcm").write_bytes(dicom("CT_small.dcm"))
    assert Watching(system, folder).once().returncode == 0
    until(lambda: not list(system.blobs.rglob("only.json")), "the end of the list of names")
    with system.client() as redis:
        redis.save()
    for path, data in contents(system.folder):
        assert b"SMITH" not in data, path


@pytest.mark.parametrize("way", [(), ("--upload",)])
def test_kills_lose_nothing_and_ingest_nothing_twice(
    system: System, folder: Path, way: tuple[str, ...]
) -> None:
    before = {job["id"] for job in system.http.get("/v1/jobs").json()["jobs"]}
    watching, total, kills = Watching(system, folder, *way), 24, 0
    for first in range(0, total, 6):
        with watching.running():  # and killed, wherever it is
            said = len(watching.log.read_text())
            for number in range(first, first + 6):
                staged = folder / f".{number}"
                staged.write_bytes(picture(1000 + number + 500 * len(way)))
                staged.rename(folder / f"{number}.png")
            until(lambda said=said: len(watching.log.read_text()) > said, "a word")  # type: ignore[misc]
        kills += 1
    with watching.running() as process:
        until(lambda: len(list((folder / "done").iterdir())) == total, "all files")
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert len(files(folder)) == total
    assert kills > 3
    jobs = [
        system.finished(j["id"])
        for j in system.http.get("/v1/jobs").json()["jobs"]
        if j["id"] not in before
    ]
    assert sum(job["total"] for job in jobs) == sum(job["embedded"] for job in jobs) == total
    assert not list(folder.glob("failed/*"))


def test_files_can_stay_and_only_what_changes_is_taken_again(system: System, folder: Path) -> None:
    for number in range(3):
        (folder / f"{number}.png").write_bytes(picture(3000 + number))
    watching = Watching(system, folder, "--after", "leave")
    assert "3 embedded" in watching.once().stdout
    assert "job" not in watching.once().stdout
    (folder / "1.png").write_bytes(picture(3333))
    os.utime(folder / "1.png", (1, 1))
    again = watching.once().stdout
    assert "1 = 1 embedded" in again
    assert len(files(folder)) == 3
