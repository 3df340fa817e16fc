"""`kindred worker` on a real system: who is killed comes back, and one signal ends all."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cli.processes import module_command
from tests.system import System, end, kill, until

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="looks for children in /proc"
)


class Host(System):
    """Its worker is a child of the command, which is in the worker's place."""

    def children(self) -> list[int]:
        """The warm process, and workers."""
        pid = self.worker.pid
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def workers(self) -> list[int]:
        """Those that have been ready."""
        ready = re.findall(r"kindred@\S+-cpu-(\d+)-\S+ ready", self.said())
        return [pid for pid in self.children() if str(pid) in ready]

    def _ready(self) -> bool:
        assert self.worker.running, f"the command ended: {self.worker.last_words(5)}"
        if not self.workers():
            return False
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def said(self) -> str:
        return (self.folder / "command.log").read_text("utf-8", "replace")


@pytest.fixture
def host(tmp_path: Path, encoder: Path) -> Iterator[Host]:
    made = Host(tmp_path, encoder, forked=False, embedded=True, DEVICES="cpu")
    made.worker = made.child("command", module_command("cli", "worker"))
    with made as running:
        yield running


def test_a_killed_worker_comes_back_and_goes_on(host: Host, drawn: Path) -> None:
    [warm, first] = host.children()
    job = host.submit(drawn)["id"]
    until(lambda: host.job(job)["embedded"], "the first images")
    os.kill(first, signal.SIGKILL)
    view = host.finished(job)

    assert view["embedded"] == view["total"]
    assert "the worker ended (SIGKILL) and starts again in 1 s" in host.said()
    host.wait_ready()
    [second] = host.workers()
    assert (host.children(), second != first) == ([warm, second], True)
    assert _place(second) == _place(warm)  # a fork of it
    end(host.worker)
    assert host.worker.exit_code == 0
    assert not any(Path(f"/proc/{pid}/fd/0").exists() for pid in (warm, second))


def _place(pid: int) -> str:
    """Where torch lies in memory, which every start draws anew and a fork keeps."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return next(line.split("-")[0] for line in lines if "libtorch" in line)


def test_a_worker_does_not_outlive_a_command_that_is_killed(host: Host) -> None:
    [warm, worker] = host.children()
    kill(host.worker)
    for pid in (warm, worker):
        until(lambda pid=pid: not Path(f"/proc/{pid}/fd/0").exists(), "the end of both")
    host.restart_worker()  # the embedded store, which has one owner, is free again
