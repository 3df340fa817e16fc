"""What a worker looks at beside its tasks, and that nothing ends the looking."""

import queue
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.base.errors import LedgerUnavailable
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from tests.ledger_steps import worker
from tests.memory_ledger import memory_ledgers
from tests.system import PATIENCE, until
from workers import health, names
from workers.background import Repeating
from workers.health import Probe, Watchdog
from workers.names import name_worker


@pytest.fixture
def probe(encoder: Path) -> Probe:
    return Probe(
        Encoder.load(Settings(model=str(encoder), device="cpu", batch_size=2, lanes=1).encoder)
    )


@pytest.mark.parametrize("error", [LedgerUnavailable("Redis is away"), ValueError("any")])
def test_one_failure_ends_no_loop(error: Exception) -> None:
    """A log record refuses fields of some names, and the thread once ended of just that."""
    calls: list[int] = []
    again = threading.Event()

    def fails() -> None:
        calls.append(1)
        if len(calls) > 1:
            again.set()
        raise error

    loop = Repeating("any", 0.01, fails)
    loop.start()
    assert again.wait(20)
    loop.stop()


def test_a_loop_can_be_hastened() -> None:
    turns: queue.Queue[None] = queue.Queue()
    loop = Repeating("any", 2 * PATIENCE, lambda: turns.put(None))
    loop.start()
    turns.get(timeout=PATIENCE)

    loop.hasten()

    turns.get(timeout=PATIENCE)
    loop.stop()


def test_a_probe_fails_with_its_encoder_and_recovers_with_it(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe() and probe.healthy

    embed = probe._encoder.embed
    for broken in (lambda v: v * np.nan, lambda v: v[:, ::-1], lambda v: 1 / 0):
        monkeypatch.setattr(
            probe._encoder, "embed", lambda p, bulk, broken=broken: broken(embed(p, bulk=bulk))
        )
        assert not probe() and not probe.healthy
    assert probe.hopeless

    monkeypatch.setattr(probe._encoder, "embed", embed)
    assert probe() and probe.healthy and not probe.hopeless


def test_an_encoder_that_does_not_answer_is_not_healthy(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.001)
    until(lambda: not probe.healthy, "impatience")
    until(lambda: probe.hopeless, "the end of all hope")


@pytest.mark.parametrize("hopeless", [False, True])
def test_a_watchdog_ends_the_process_where_only_that_helps(
    hopeless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(health, "end_process", ended.append)
    probe: Any = SimpleNamespace(hopeless=hopeless)

    Watchdog(probe)()

    assert bool(ended) == hopeless


@pytest.mark.parametrize(
    ("workers", "code", "said"),
    [
        ([("cuda0", True, 2), ("cuda1", True, 2)], 0, "2 of 2"),
        ([("cuda0", True, 2), ("cuda1", False, 2)], 1, "1 of 2"),
        ([("cuda0", True, 2)], 1, "1 of 2"),  # the other's card is dead: it never beats
        ([("cuda0", True, 1)], 0, "1 of 1"),
        ([], 1, "0 of 1"),
    ],
)
def test_a_container_is_healthy_while_all_its_workers_are_ready(
    workers: list[tuple[str, bool, int]],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ledgers = memory_ledgers()
    monkeypatch.setattr(health, "Ledgers", lambda *_: ledgers)
    monkeypatch.setattr(names.socket, "gethostname", lambda: "node")
    info = worker("any", lanes=1, queue="ingest")
    for device, ready, processes in workers:
        of = {"name": name_worker(device), "ready": ready, "processes": processes}
        ledgers.of("kindred").workers.beat(info.model_copy(update=of))
    for other in ("node-2-cpu-7-abcdef", "node-b-cuda0-7-abcdef"):  # another host's
        ledgers.of("kindred").workers.beat(info.model_copy(update={"name": other}))

    assert health.main() == code
    assert said in capsys.readouterr().out
