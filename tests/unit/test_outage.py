"""That a service which is away, hangs or takes no writes is known, said once a minute, and over."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException

from pipeline.base import outage
from pipeline.base.asking import Asked, ask_blobs
from pipeline.base.blobs import Blobs
from pipeline.base.errors import (
    BlobsUnavailable,
    InvalidQuery,
    KindredError,
    StoreUnavailable,
    Unavailable,
)
from pipeline.base.outage import HANGS, SILENT, SUSPECT, Outage
from pipeline.base.settings import Settings
from pipeline.store import Store, open_store
from pipeline.store.server import ServerStore
from tests.encoders import ENCODER
from tests.system import until
from workers.services import Services

NOBODY = UUID(int=0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watched(clock: Clock) -> Outage:
    return Outage(clock=clock)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO)

    def lines() -> list[str]:
        found = [f"{r.levelname} {r.message} {getattr(r, 'reason', '')}" for r in caplog.records]
        caplog.clear()
        return [line.strip() for line in found]

    return lines


def fail(watched: Outage, cause: str, *, writes: bool = False) -> None:
    with pytest.raises(StoreUnavailable), watched.watching(writes=writes):
        raise StoreUnavailable(cause)


def work(watched: Outage, *, writes: bool = False) -> None:
    with watched.watching(writes=writes):
        pass


# --- what is known -------------------------------------------------------------------------------


def test_an_outage_begins_with_the_call_that_met_it(watched: Outage, clock: Clock) -> None:
    work(watched)
    assert watched.look() is None
    with pytest.raises(StoreUnavailable), watched.watching():
        clock.now += 30
        raise StoreUnavailable("it is gone")
    clock.now += 5
    fail(watched, "it is still gone")

    away = watched.look()

    assert away is not None
    assert away.cause == "it is still gone"
    assert away.since == pytest.approx(time.time() - 35, abs=5)
    work(watched)
    assert watched.look() is None


def test_a_call_that_does_not_come_back_is_an_outage(watched: Outage, clock: Clock) -> None:
    with watched.watching(writes=True):
        clock.now += SUSPECT - 0.1
        assert not watched.suspect
        clock.now += 0.1
        assert watched.suspect
        assert watched.look() is None
        clock.now += HANGS - SUSPECT
        away = watched.look()
        assert away is not None
        assert (away.cause, away.writes_only) == (SILENT, False)
    assert watched.look() is None


def test_a_long_call_is_no_outage_while_others_come_back(watched: Outage, clock: Clock) -> None:
    with watched.watching(writes=True):
        for _ in range(10):
            clock.now += HANGS / 2
            work(watched)
            assert watched.look() is None


def test_where_writes_fail_what_is_stored_can_be_read(watched: Outage) -> None:
    fail(watched, "full", writes=True)
    work(watched)
    away = watched.look()
    assert away is not None
    assert away.writes_only
    assert away.sentence("The store").startswith("The store takes no writes since 2")
    fail(watched, "gone")
    assert watched.look() == away.model_copy(
        update={"writes_only": False, "cause": "gone", "since": pytest.approx(away.since, abs=5)}
    )
    work(watched, writes=True)
    assert watched.look() is None


def test_a_blob_that_is_missing_is_an_answer(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    blobs.outage.fails("it was gone")
    with pytest.raises(FileNotFoundError):
        blobs.read("none")
    assert blobs.outage.look() is None


# --- asking --------------------------------------------------------------------------------------


def test_a_service_that_is_away_is_asked_until_it_is_well(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    asked = Asked(blobs.outage, lambda: ask_blobs(blobs))
    assert asked.look() is None
    blobs.outage.fails("it was gone", writes=True)

    until(lambda: asked.look() is None, "the end of the outage")

    assert not [*blobs.walk("parts")], "what it writes to see goes again"


def test_one_that_hangs_is_asked_once_at_a_time(watched: Outage) -> None:
    with ExitStack() as open_:
        questions: list[int] = []
        gate = threading.Event()
        open_.callback(gate.set)
        asked = Asked(watched, lambda: questions.append(1) or gate.wait())
        watched.fails("it hangs")
        for _ in range(5):
            asked.look()
    assert questions == [1]


@pytest.mark.parametrize("writes", [False, True])
def test_the_store_is_asked_what_it_has_failed_at(tmp_path: Path, writes: bool) -> None:
    store = embedded(tmp_path)
    services = Services.of(store, Blobs(str(tmp_path / "blobs")))
    store.outage.fails("it is gone", writes=writes)
    assert services.away["store"].writes_only is writes

    until(lambda: services.look() or not services.away, "the end of the outage")

    assert store.count() == 0
    assert not store.purge_due
    store.close()


def test_what_writes_alone_keep_waiting_is_work_and_no_query(tmp_path: Path) -> None:
    store, blobs = embedded(tmp_path), Blobs(str(tmp_path / "blobs"))
    services = Services.of(store, blobs)
    services.note(StoreUnavailable("the disk is full"))
    assert services.seconds() == 0
    services.refuse(reading=True)
    with pytest.raises(StoreUnavailable, match=r"takes no writes since .*: the disk is full"):
        services.refuse()

    services.note(BlobsUnavailable("no room"))

    assert services.seconds() > 0, "an answer is a blob"
    with pytest.raises(BlobsUnavailable, match="no room"):
        services.refuse(reading=True)
    store.close()


def test_an_error_of_another_service_is_not_noted(tmp_path: Path) -> None:
    store = embedded(tmp_path)
    services = Services.of(store, Blobs(str(tmp_path / "blobs")))
    services.note(Unavailable("no decoder"))
    assert not services.away
    store.close()


def embedded(folder: Path) -> Store:
    return open_store(Settings(data=folder).store, ENCODER)


# --- what the log says ---------------------------------------------------------------------------


def test_an_outage_is_one_warning_a_minute_and_cause_and_one_line_at_its_end(
    watched: Outage, clock: Clock, log: Callable[[], list[str]]
) -> None:
    for second in range(121):
        clock.now = float(second)
        fail(watched, "gone")
        if second == 30:
            fail(watched, "full")
    assert log() == [
        f"WARNING vector store unavailable {why}" for why in ("gone", "full", *["gone"] * 2)
    ]
    for _ in range(3):
        work(watched)
    assert log() == ["WARNING vector store available again"]
    fail(watched, "gone")
    work(watched)
    assert log() == [], "it comes and goes: one line a minute is enough"


def test_an_outage_is_said_again_though_nobody_calls(
    watched: Outage, clock: Clock, log: Callable[[], list[str]]
) -> None:
    fail(watched, "gone")
    for _ in range(130):
        clock.now += 1
        watched.look()
    assert log() == ["WARNING vector store unavailable gone"] * 3


def test_one_that_hangs_is_said_and_over(
    watched: Outage, clock: Clock, log: Callable[[], list[str]]
) -> None:
    with watched.watching():
        clock.now += HANGS
        watched.look()
        watched.look()
        assert log() == [f"WARNING vector store unavailable {SILENT}"]
    assert log() == ["WARNING vector store available again"]


def test_where_writes_fail_reading_is_no_sign_of_health(
    watched: Outage, log: Callable[[], list[str]]
) -> None:
    fail(watched, "full", writes=True)
    work(watched)
    assert log() == ["WARNING vector store unavailable full"]
    work(watched, writes=True)
    assert log() == ["WARNING vector store available again"]


def test_a_query_that_is_refused_is_no_outage(
    watched: Outage, log: Callable[[], list[str]]
) -> None:
    with pytest.raises(KindredError), watched.watching():
        raise InvalidQuery("no such field")
    assert watched.look() is None
    assert log() == []


def test_the_stores_and_the_blobs_say_that_they_are_unavailable(
    tmp_path: Path, log: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = QdrantClient(":memory:")
    store = ServerStore(client, "skin", ENCODER, {})
    with monkeypatch.context() as patched, pytest.raises(StoreUnavailable):
        patched.setattr(client, "count", raising(ResponseHandlingException(OSError())))
        store.count()
    store.count()
    assert [line.split(" unavailable ")[0] for line in log()] == [
        "WARNING vector store",
        "WARNING vector store available again",
    ]

    engine = embedded(tmp_path)
    with monkeypatch.context() as patched, pytest.raises(StoreUnavailable):
        patched.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=4096))
        engine.delete([NOBODY])
    engine.delete([NOBODY])
    engine.close()
    assert log() == [
        "WARNING vector store unavailable the disk of the embedded store is full",
        "WARNING vector store available again",
    ]

    blobs = Blobs(str(tmp_path / "blobs"))
    with monkeypatch.context() as patched, pytest.raises(BlobsUnavailable):
        patched.setattr(Path, "open", raising(OSError(28, "No space left on device")))
        blobs.write("a", b"")
    blobs.write("a", b"")
    assert log() == [
        "WARNING blobs unavailable Blobs cannot be read or written just now: No space left on"
        " device.",
        "WARNING blobs available again",
    ]
    assert outage.SAY_AGAIN == 60


def raising(error: Exception) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise error

    return call
