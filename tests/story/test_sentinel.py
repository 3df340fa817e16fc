"""Three Sentinels, and the master dies in the middle of a job and of searches."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cli.sample import write_dataset
from tests.redis_nodes import PASSWORD, THEIRS, Watched
from tests.story.test_redis_faults import ROWS, SLOW, Callers, finished
from tests.system import System, kill, until
from workers.health import EXIT_TRY_AGAIN

pytestmark = pytest.mark.story


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    (tmp_path / "nodes").mkdir()
    with ExitStack() as stack:
        yield Watched(tmp_path / "nodes", stack)


def test_a_failover_in_the_middle_loses_nothing(
    watched: Watched, tmp_path: Path, encoder: Path
) -> None:
    write_dataset(tmp_path / "drawn", rows=ROWS)
    with (
        System(tmp_path / "system", encoder, REDIS_URL=watched.url, **SLOW) as system,
        Callers(system) as callers,
        kept_up(system) as codes,
    ):
        job = system.submit(tmp_path / "drawn")["id"]
        until(lambda: system.job(job)["embedded"] > 10, "progress")
        until(lambda: callers.told["succeeded"], "a search")
        kill(watched.redis[0])
        until(lambda: watched.master() == watched.ports[1], "another master")
        ended = finished(system, job)
        before = callers.told["succeeded"]
        until(lambda: callers.told["succeeded"] > before, "a search after it")
        with watched.client(watched.ports[1]) as client:
            until(client.pubsub_numpat, "the api's subscription at the new master")
        logs = system.logs()

    assert set(codes) <= {EXIT_TRY_AGAIN}, "Celery may give up; then the worker says so"
    assert (ended["state"], ended["total"], ended["rejected"]) == ("succeeded", ROWS, 0)
    assert ended["embedded"] + ended["unchanged"] + ended["updated"] == ROWS
    assert set(callers.told) <= {200, 503, "succeeded"}
    assert "work item failed" not in logs
    assert "query failed" not in logs
    for secret in (PASSWORD, THEIRS):
        assert secret not in logs


@contextmanager
def kept_up(system: System) -> Iterator[list[int | None]]:
    """Starts the worker again when it ends, as a supervisor does. Yields its exit codes."""
    codes: list[int | None] = []
    over = threading.Event()

    def keep_up() -> None:
        while not over.wait(0.2):
            if not system.worker.running:
                codes.append(system.worker.exit_code)
                system.worker.start()

    thread = threading.Thread(target=keep_up)
    thread.start()
    try:
        yield codes
    finally:
        over.set()
        thread.join()
