"""`python -m benchmarks.gpu` runs through on tiny sizes without a card: so its code runs at all."""

import io
import json
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, gpu_bulk
from benchmarks.gpu_setup import TINY, Bench, Measured, one, prepare, tried
from benchmarks.report import Spread


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("gpu")
    prepare(folder, None, tiny=True)
    return Bench(folder, cpu=True, sizes=TINY)


@pytest.mark.parametrize("name", [name for name in gpu.PARTS if name not in ("workers", "card")])
def test_every_part_runs_to_its_end(name: str, bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    gpu._write_lines(gpu.PARTS[name], bench, file)

    lines = gpu._read_lines(file)

    assert lines
    assert all(line.value or line.note for line in lines)
    assert "the rest of this part" not in {line.what for line in lines}


@pytest.mark.parametrize("where", ["cpu", "card"])
def test_a_worker_waits_for_the_common_start(
    where: str, bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("16\n"))
    gpu_bulk.worker(bench.folder, f"2,1,{where}", cpu=True, sizes=TINY)

    rate, result = capsys.readouterr().out.splitlines()

    assert float(rate) > 0
    assert json.loads(result)["images"] == 16


def test_without_a_card_it_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert gpu.main() == 2

    said = capsys.readouterr()
    assert (said.out, said.err) == ("", gpu.NO_CARD + "\n")


def test_a_part_that_cannot_run_says_why() -> None:
    missing = gpu.Part("gpu_nowhere", "any", "a part", 1)
    [line] = gpu.measured(missing, Bench(Path(), cpu=True, sizes=TINY))
    assert "No module named" in line.note


def test_a_candidate_that_fails_costs_one_line() -> None:
    def fails() -> float:
        raise torch.OutOfMemoryError("no memory\nand much more")

    line = tried("candidate", "ms", fails)
    assert (line.value, line.note) == (None, "not measured: OutOfMemoryError: no memory")


def test_goals_are_those_of_what_was_measured(tmp_path: Path) -> None:
    found = {
        "limits": gpu.Found([one("square product, 8 rows", 600, "TFLOP/s")], 1),
        "forward": gpu.Found(
            [
                one("work of one image", 9.2, "GFLOP"),
                one("forward, 256 images", 15_500, "images/s"),
                Measured("forward, 512 images", Spread.of([14_000, 16_000]), "images/s"),
            ],
            1,
        ),
        "bulk": gpu.Found([one("ingest, 2 lanes", 900, "images/s")], 1, "cut off after 9 s"),
    }

    report = gpu.report({"gpu": "a card"}, found, cpu=False)
    gpu.write(tmp_path / "gpu.json", {"gpu": "a card"}, found, cpu=False)

    assert "met: forward pass, images/s 15500.00, wanted >= 15000" in report
    assert "23.8 % of what a large square product reaches" in report
    assert "MISSED: ingest, images/s 900.00, wanted >= 5000" in report
    assert "cut off after 9 s" in report
    assert [goal["met"] for goal in json.loads((tmp_path / "gpu.json").read_text())["goals"]] == [
        True,
        False,
    ]


def test_a_part_that_is_cut_off_takes_its_children_with_it(tmp_path: Path) -> None:
    mark = tmp_path / "child"
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(mark)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    assert gpu.run_for(5, [sys.executable, "-c", program]) == "cut off after 5 s"
    wait_until_ended(int(mark.read_text()))


def wait_until_ended(pid: int) -> None:
    """Its parent is gone, so that it may stay a zombie where nobody collects it."""
    end = time.monotonic() + 60
    while (state := Path(f"/proc/{pid}/stat")).exists():
        if ") Z" in state.read_text():
            return
        assert time.monotonic() < end
        time.sleep(0.01)
