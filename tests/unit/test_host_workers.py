"""`kindred worker`: what it starts on which devices, and how it keeps that up."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli import supervisor, workers
from cli.failure import CommandError, WrongSetting
from cli.processes import module_environment
from cli.supervisor import Stop, Supervisor
from cli.workers import count_cards, devices_of, worker_programs
from pipeline.base.errors import ConfigurationError, DeviceMissing, EncoderError
from pipeline.base.settings import Settings, load_settings
from pipeline.encoding import device
from pipeline.encoding.device import cores, device_of, hide_other_cards
from tests.system import until
from tests.unit.test_supervisor import FakeProcess, _alive

SERVER = "http://qdrant:6333"


# --- which devices -------------------------------------------------------------------------------


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setattr(workers, "count_cards", lambda: count)


@pytest.mark.parametrize(
    ("given", "seen", "devices"),
    [
        ({}, 2, ["cuda:0", "cuda:1"]),
        ({}, 0, ["auto"]),
        ({"device": "cuda"}, 2, ["cuda:0", "cuda:1"]),
        ({"device": "cuda"}, 0, ["cuda"]),  # which the worker refuses
        ({"device": "cpu"}, 2, ["cpu"]),
        ({"device": "cuda:1"}, 2, ["cuda:1"]),
        ({"devices": "cuda:0, cuda:3"}, 8, ["cuda:0", "cuda:3"]),
        ({"devices": "cpu,cpu", "device": "cuda"}, 2, ["cpu", "cpu"]),
        ({"qdrant_url": None}, 2, ["auto"]),
        ({"qdrant_url": None, "devices": "cuda:1"}, 2, ["cuda:1"]),
    ],
)
def test_a_worker_for_each_device(given: Any, seen: int, devices: list[str], cards: Any) -> None:
    cards(seen)
    assert list(devices_of(Settings(**{"qdrant_url": SERVER, **given}))) == devices


def test_several_workers_need_a_server_for_their_vectors() -> None:
    with pytest.raises(WrongSetting, match="set KINDRED_QDRANT_URL") as refused:
        devices_of(Settings(devices="cpu,cpu"))
    assert refused.value.exit_code == 78


@pytest.mark.parametrize("text", ["cuda", "cuda:", "cuda:01", "auto,cpu", "gpu:0", "cuda:-1", ","])
def test_other_devices_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="KINDRED_DEVICES: Input should be auto, or"):
        load_settings(devices=text)


def test_one_device_is_one_of_those_that_there_are() -> None:
    assert Settings(device="cuda:12").device == "cuda:12"
    with pytest.raises(ConfigurationError, match="KINDRED_DEVICE: Input should be auto, cpu, cuda"):
        load_settings(device="tpu")


def test_torch_is_asked_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("class cuda:\n    device_count = lambda: print('!') or 8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert count_cards() == 8


def test_a_torch_that_cannot_say_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(CommandError, match="name them in KINDRED_DEVICES"):
        count_cards()


def test_each_worker_knows_its_device_and_with_how_many_it_shares(tmp_path: Path) -> None:
    settings = Settings(qdrant_url=SERVER, devices="cuda:0,cpu,cpu")
    programs = worker_programs(settings, {"A": "b"}, tmp_path)
    assert [program.name for program in programs] == ["worker-cuda0", "worker-cpu", "worker-cpu-2"]
    assert programs[2].log == tmp_path / "worker-cpu-2.log"
    assert [program.environment for program in programs] == [
        {"A": "b", "KINDRED_PROCESSES": "3", "KINDRED_DEVICE": device}
        for device in ("cuda:0", "cpu", "cpu")
    ]


def test_one_worker_needs_no_other_name(tmp_path: Path) -> None:
    [program] = worker_programs(Settings(), {}, tmp_path)
    assert (program.name, program.log) == ("worker", tmp_path / "worker.log")


# --- what a worker makes of it -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visible", "wanted", "left"),
    [
        (None, "cuda:3", "3"),
        ("4,GPU-5ab, 6", "cuda:1", "GPU-5ab"),
        ("4,GPU-5ab, 6", "cuda:2", "6"),
        ("4,5", "auto", "4,5"),
        ("4,5", "cpu", "4,5"),
    ],
)
def test_a_worker_sees_its_own_card_alone(
    visible: str | None, wanted: str, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"CUDA_VISIBLE_DEVICES": visible} if visible else {})
    hide_other_cards(wanted)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left


def test_a_card_that_was_hidden_before_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"CUDA_VISIBLE_DEVICES": "4,5"})
    with pytest.raises(EncoderError, match="CUDA_VISIBLE_DEVICES=4,5") as refused:
        hide_other_cards("cuda:2")
    assert not refused.value.retryable


def test_a_card_that_is_missing_ends_its_own_worker_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 75, since 78 would stop the workers of all other cards."""
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device.torch.version, "cuda", "13.0")
    with pytest.raises(DeviceMissing, match="cuda:3") as missing:
        device_of("cuda:3")
    assert missing.value.retryable


@pytest.mark.parametrize("wanted", ["cuda", "cuda:3"])
def test_a_torch_without_cuda_is_a_wrong_setting(
    wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device.torch.version, "cuda", None)
    with pytest.raises(EncoderError, match=f"KINDRED_DEVICE={wanted}, ") as refused:
        device_of(wanted)
    assert not refused.value.retryable


@pytest.mark.parametrize(("processes", "share"), [(1, 12), (2, 6), (5, 2), (13, 1)])
def test_processes_share_the_cores(
    processes: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_usable_cores", lambda: 12)
    assert cores(processes) == share
    options = Settings(device="cpu", processes=processes).encoder
    assert device.sizing_of(options, device.torch.device("cpu")).lanes == share


# --- how they are kept up ------------------------------------------------------------------------


def test_every_worker_of_a_host_has_the_time_to_end_its_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS_ELSE", None)  # of others; nobody can add it
    diary: list[tuple[str, str]] = []
    kept = Supervisor(Stop(), print, {"worker": 0.0})
    for name in ("worker-cuda0", "worker-cuda1"):
        kept.add(FakeProcess(name, diary, stubborn=True))
    kept.stop_all()
    assert [signal for _, signal in diary] == ["SIGTERM", "SIGTERM", "SIGKILL", "SIGKILL"]
    assert workers.STOP_SECONDS["worker"] > 100


# The command, with a stand-in in place of the worker. It says who it is, and ends as it is told to.
COMMAND = """
import sys
from cli import warm, workers
from cli.main import run
python = [sys.executable, "-c"]
workers.module_command = lambda module: [*python, open(sys.argv[1]).read()]
warm.module_command = lambda module, socket: [*python, sys.argv[2], socket, sys.argv[1]]
sys.exit(run(["worker"]))
"""
# The warm process as it is, which has imported the stand-in.
WARM = """
import sys
from workers import warm
code = compile(open(sys.argv[2]).read(), "stand_in", "exec")
warm._import = lambda: lambda: exec(code, {})
sys.exit(warm.main(int(sys.argv[1])))
"""
STAND_IN = """
import os, signal, sys
from pathlib import Path
from pipeline.base import logs

def end(code, said):
    sys.stderr.write(said + "\\n")
    os._exit(code)

def stop(*_):
    if os.environ.get("STUBBORN") is None:
        end(0, f"stopped {os.getpid()}")

signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGUSR1, lambda *_: end(75, "ended"))
signal.signal(signal.SIGUSR2, lambda *_: end(78, "kindred worker: A setting is wrong: X"))
device, processes = os.environ["KINDRED_DEVICE"], os.environ["KINDRED_PROCESSES"]
sys.stderr.write(f"started {device} of {processes} as {os.getpid()}\\n")
for turn in range(int(os.environ.get("LINES", "0"))):
    if not turn:
        logs.configure("INFO", device)
    logs.logging.getLogger("any").info("x" * 3000, extra={"turn": turn})
while True:
    signal.pause()
"""


class Host:
    """`kindred worker` in a process of its own. `pids` are the workers that have started so far."""

    def __init__(self, folder: Path, **environment: str) -> None:
        stand_in = folder / "stand_in.py"
        stand_in.write_text(STAND_IN)
        self.said = folder / "said"
        plain = {k: v for k, v in os.environ.items() if not k.startswith("KINDRED_")}
        ours = {"KINDRED_DEVICES": "cpu,cpu", "KINDRED_QDRANT_URL": SERVER, **environment}
        reading, writing = os.pipe()  # as containers and supervisors read it
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(stand_in), WARM],
            env=module_environment({**plain, **ours, "PYTHONUNBUFFERED": "1"}),
            stdout=writing,
            stderr=writing,
        )
        os.close(writing)
        with self.said.open("wb") as said:
            self._copying = subprocess.Popen(["cat"], stdin=reading, stdout=said)
        os.close(reading)

    def lines(self) -> list[str]:
        return self.said.read_text().splitlines()

    def pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"^started \S+ of \d as (\d+)$", self.text(), re.M)]

    def text(self) -> str:
        return self.said.read_text()

    def started(self, count: int) -> list[int]:
        pids: list[int] = until(lambda: len(p := self.pids()) >= count and p, f"{count} starts")
        return pids

    def end(self, *numbers: signal.Signals) -> int:
        """The exit code, once no worker lives and all that was said is read."""
        for number in numbers:
            self.process.send_signal(number)
        code = self.process.wait(60)
        until(lambda: not any(map(_alive, self.pids())), "the end of all workers")
        self._copying.wait(60)
        return code

    def close(self) -> None:
        """Leaves nothing behind, whatever has failed."""
        self.process.kill()
        for pid in filter(_alive, self.pids()):
            os.kill(pid, signal.SIGKILL)
        self.end()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    made: list[Host] = []

    def start(**environment: str) -> Host:
        made.append(Host(tmp_path, **environment))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("number", "how"),
    [
        (signal.SIGKILL, "SIGKILL"),
        (signal.SIGUSR1, "exit code 75"),
        (signal.SIGTERM, "exit code 0"),
    ],
)
def test_a_worker_that_ends_starts_again_and_the_others_go_on(
    host: Callable[..., Host], number: signal.Signals, how: str
) -> None:
    running = host()
    first, second = running.started(2)
    os.kill(first, number)
    third = running.started(3)[2]

    assert _alive(second) and _alive(third)
    assert f"ended ({how}) and starts again in 1 s" in running.text()
    assert "started cpu of 2 as" in running.text()
    assert running.end(signal.SIGTERM) == 0
    assert len(running.pids()) == 3
    assert {f"stopped {second}", f"stopped {third}"} <= set(running.lines())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a warm process")
def test_workers_start_without_a_warm_process_once_it_has_ended(host: Callable[..., Host]) -> None:
    running = host()
    first, second = running.started(2)
    command = running.process.pid
    [warm] = {*map(int, Path(f"/proc/{command}/task/{command}/children").read_text().split())} - {
        first,
        second,
    }
    assert _program(first) == _program(second) == _program(warm)  # they are forks of it
    os.kill(warm, signal.SIGKILL)
    until(lambda: not _alive(warm), "the end of the warm process")
    os.kill(first, signal.SIGKILL)
    third = running.started(3)[2]

    assert _program(third) != _program(second)
    assert running.end(signal.SIGTERM) == 0
    assert {f"stopped {second}", f"stopped {third}"} <= set(running.lines())


def _program(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_wrong_setting_of_one_stops_all_and_is_passed_on(host: Callable[..., Host]) -> None:
    running = host()
    first, second = running.started(2)
    os.kill(first, signal.SIGUSR2)

    assert running.end() == 78
    said = running.lines()
    assert "kindred worker: A setting is wrong: X" in said
    assert f"stopped {second}" in said
    assert re.match("kindred: the worker-cpu(-2)? cannot run", said[-1])


def test_a_second_signal_kills(host: Callable[..., Host]) -> None:
    running = host(STUBBORN="1")
    running.started(2)
    running.process.send_signal(signal.SIGINT)
    assert running.end(signal.SIGTERM) == 0
    assert running.text().count("did not stop when asked, and was killed") == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_workers_stop_when_the_command_is_killed(host: Callable[..., Host]) -> None:
    running = host()
    pids = running.started(2)
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    assert {f"stopped {pid}" for pid in pids} <= set(running.lines())


def test_lines_stay_whole_and_say_whose_they_are(host: Callable[..., Host]) -> None:
    running = host(LINES="400", KINDRED_DEVICES="cuda:0,cuda:1")
    until(lambda: running.text().count("turn=399") == 2, "all lines")
    running.end(signal.SIGTERM)
    whole = re.compile(r"\S+ \S+ INFO any x{3000} turn=\d+ worker=(cuda:[01])$")
    found = [match[1] for line in running.lines() if (match := whole.fullmatch(line))]
    assert (found.count("cuda:0"), found.count("cuda:1")) == (400, 400)


def test_a_list_without_a_server_is_refused(host: Callable[..., Host]) -> None:
    running = host(KINDRED_QDRANT_URL="")
    assert running.end() == 78
    [line] = running.lines()
    assert line.startswith("kindred: KINDRED_DEVICES names 2 devices")
