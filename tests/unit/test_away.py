"""What becomes of work, queries and those who ask, while a worker's store or blobs are away."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from pipeline.base.asking import Asked
from pipeline.base.blobs import Blobs, request_folder
from pipeline.base.errors import BlobsUnavailable, LedgerUnavailable, StoreUnavailable
from pipeline.base.outage import Away, Outage
from pipeline.ledger import Lease, Ledger, Ledgers, Progress, WorkerInfo
from pipeline.ledger.requests import PATIENCE
from pipeline.messages import SearchQuery
from pipeline.operations.context import Context
from pipeline.operations.ingest import IngestRequest
from pipeline.operations.search import SEARCH, SearchRequest
from pipeline.sources.dataset import DatasetSource
from tests.ledger_steps import OTHER, US, planned, worker
from tests.memory_api import MemoryApi
from tests.unit.conftest import Backend
from workers.intake import Intake, Watch
from workers.runtime import Runtime
from workers.services import Services

GONE = Away(since=1_767_225_600.0, cause="The Qdrant server cannot be reached (UNAVAILABLE)")
FULL = Away(since=1_767_225_600.0, cause="The vector store's disk is full", writes_only=True)
SAID = (
    "The vector store is away since 2026-01-01 00:00 UTC: "
    "The Qdrant server cannot be reached (UNAVAILABLE)"
)


def unable(name: str = US, **away: Away) -> WorkerInfo:
    return worker(name, lanes=2).model_copy(update={"lanes": {}, "away": away})


# --- the ledger ----------------------------------------------------------------------------------


def test_a_job_says_what_it_waits_for_and_since_when_until_it_is_well(ledger: Ledger) -> None:
    planned(ledger, "job", total=8, shard_size=8)
    planned(ledger, "paused", total=8, shard_size=8)
    ledger.jobs.transition("paused", "pause")

    ledger.workers.beat(unable(store=GONE))

    assert ledger.jobs.get("job").notice == SAID
    assert ledger.jobs.get("paused").notice is None
    assert {job.id: job.notice for job in ledger.jobs.recent()} == {"job": SAID, "paused": None}
    ledger.workers.beat(worker(US, lanes=1))
    assert ledger.jobs.get("job").notice is None


def test_a_job_does_not_wait_while_one_worker_can_work(ledger: Ledger) -> None:
    planned(ledger, "job", total=8, shard_size=8)
    ledger.workers.beat(unable(store=GONE))
    ledger.workers.beat(worker(OTHER, lanes=1))

    assert ledger.jobs.get("job").notice is None
    assert [lease.worker for lease in ledger.jobs.dispatch()] == [OTHER]
    ledger.workers.beat(unable(OTHER, blobs=GONE))
    notice = ledger.jobs.get("job").notice
    assert notice is not None
    assert "The blobs' store is away" in notice
    assert SAID in notice


def test_an_item_in_quarantine_waits_for_no_worker_that_takes_no_work(ledger: Ledger) -> None:
    planned(ledger, "job", total=800, shard_size=8)
    for name in (US, OTHER):
        ledger.workers.beat(worker(name, lanes=2))
    begun = [ledger.jobs.begin(lease, lease.worker) for lease in ledger.jobs.dispatch()]
    suspect, *items = sorted(filter(None, begun), key=lambda item: item.lease.worker)
    ledger.jobs.checkpoint(suspect.lease, Progress(suspect.start, suspect.start + 4))
    ledger.jobs.release(suspect.lease, crashed=True)
    assert suspect.lease.worker == US
    assert ledger.jobs.dispatch() == [], "nobody is idle: a lane is kept free for it"

    ledger.workers.beat(unable(US, store=GONE))
    leased = []
    for item in items[1:]:  # those of the other worker, one after the other
        ledger.jobs.finish(item.lease)
        leased += ledger.jobs.dispatch()

    assert [(lease.item, lease.worker) for lease in leased] == [(suspect.lease.item, OTHER)]


# --- a worker ------------------------------------------------------------------------------------


class Rig:
    """A worker whose store and blobs are away when `outages` say so."""

    def __init__(self, ledger: Ledger, redis: Any, folder: Path) -> None:
        self.ledger, self.redis = ledger, redis
        parts: dict[str, Any] = {name: MagicMock() for name in Context.__dataclass_fields__}
        parts |= {"ledger": ledger, "blobs": Blobs(str(folder))}
        info = worker(US, lanes=2)
        parts["encoder"].configure_mock(info=info.encoder, dtype="torch.float32", device="cpu")
        parts["encoder"].sizing.lanes = 2
        parts["encoder"].sizing.shard_size_for.return_value = 8
        reader = MagicMock(version="of many files", **{"__len__.return_value": 800})
        parts["sources"].get.return_value = reader
        parts["ingest"].run.side_effect = lambda item, *_: ledger.jobs.finish(item.lease) or True
        self.context: Any = Context(**parts)
        self.outages = {"store": Outage("store"), "blobs": Outage("blobs", "blobs")}
        asked = {name: Asked(outage, MagicMock()) for name, outage in self.outages.items()}
        self.published: list[Any] = []
        played: Any = MagicMock
        self.runtime = Runtime(
            US,
            self.context,
            played(),
            played(healthy=True),
            self.published.append,
            services=Services(asked),
        )
        self.runtime.beat()

    def plan(self) -> list[Lease]:
        """Leases of shards of a job, on all lanes."""
        request = IngestRequest(source=DatasetSource(dataset="any")).model_dump_json()
        self.ledger.jobs.create("job", "ingest", "ingest", request)
        [plan] = self.ledger.jobs.dispatch()
        self.ledger.jobs.begin(plan, US)
        self.ledger.jobs.planned(plan, 800, 8, "of many files")
        return self.ledger.jobs.dispatch()

    def search(self, request: str) -> Any:
        """What the ledger says of it when the worker has had it once."""
        body = SEARCH.envelope("/v1", SearchRequest(query=SearchQuery(image_id="A")))
        self.context.blobs.write(f"{request_folder(request)}/request.json", body)
        self.ledger.requests.create(request, SEARCH.name)
        self.runtime.answer(request)
        return self.ledger.requests.get(request)


@pytest.fixture
def rig(ledger: Ledger, backend: Backend, tmp_path: Path) -> Rig:
    return Rig(ledger, backend.redis, tmp_path)


def test_a_worker_whose_store_is_away_gives_back_what_it_has_and_takes_nothing(rig: Rig) -> None:
    rig.context.ingest.run.side_effect = StoreUnavailable("it is gone (UNAVAILABLE)")
    leases = rig.plan()
    assert len(leases) == 2

    for lease in leases:
        assert rig.runtime.work(lease).state == "given back"

    assert rig.context.ingest.run.call_count == 1, "the second is given back untouched"
    assert rig.published == rig.ledger.jobs.dispatch() == []
    notice = rig.ledger.jobs.get("job").notice
    assert notice is not None
    assert notice.endswith("it is gone (UNAVAILABLE)")


def test_what_was_given_back_blames_nobody_and_goes_on_when_all_is_well(rig: Rig) -> None:
    rig.context.ingest.run.side_effect = BlobsUnavailable("the disk is full")
    lease, _ = rig.plan()
    rig.runtime.work(lease)

    with rig.outages["blobs"].watching(writes=True):
        pass  # it is well again
    rig.runtime.beat()
    rig.ledger.jobs._script.redis.zadd(
        rig.ledger.jobs._script.key("waiting"), {f"job:{lease.item}": 0}
    )
    rig.ledger.jobs.reclaim()

    [again] = rig.ledger.jobs.dispatch()
    item = rig.ledger.jobs.begin(again, US)
    assert item is not None
    assert item.lease.item == lease.item
    assert (item.crashes, item.deaths, item.quarantined) == (0, 0, 0)
    assert rig.ledger.jobs.get("job").notice is None


def test_a_query_is_not_sent_to_a_store_that_is_away(rig: Rig) -> None:
    rig.outages["store"].fails("it is gone (UNAVAILABLE)")

    request = rig.search("request")

    assert request.state == "queued", "a short outage fails no query"
    assert not rig.context.search.run.called


def test_a_query_fails_at_once_where_an_outage_has_lasted(rig: Rig) -> None:
    outage = rig.outages["store"]
    outage.fails("it is gone (UNAVAILABLE)", since=0)
    outage._failing[False] = (outage._clock() - PATIENCE, "it is gone (UNAVAILABLE)")

    request = rig.search("request")

    assert (request.state, request.error.status) == ("failed", 503)
    assert request.error.title == StoreUnavailable.title
    assert "The vector store is away since" in request.error.detail
    assert "UNAVAILABLE" in request.error.detail

    rig.ledger.workers.beat(worker(OTHER, lanes=1))
    assert rig.search("another").state == "queued", "another worker can answer it"


def test_a_full_disk_of_the_store_keeps_no_query_waiting(rig: Rig) -> None:
    rig.context.search.run.side_effect = [[()]]
    rig.outages["store"].fails("its disk is full", writes=True)

    assert rig.search("request").state == "succeeded"


class Consumer:
    def __init__(self) -> None:
        self.done: list[str] = []

    def call_soon(self, change: Callable[[str], None], queue: str) -> None:
        change(queue)

    def add_task_queue(self, queue: str) -> None:
        self.done.append(f"add {queue}")

    def cancel_task_queue(self, queue: str) -> None:
        self.done.append(f"cancel {queue}")


def test_a_worker_leaves_searches_to_others_while_they_can_answer_and_it_cannot(rig: Rig) -> None:
    consumer, told = Consumer(), []
    intake = Intake("searches")
    watch = Watch(rig.runtime, intake, lambda: told.append(1))
    watch()  # before Celery's worker is there
    intake.of(SimpleNamespace(consumer=consumer))
    rig.outages["store"].fails("it is gone")
    watch()
    watch()
    assert (consumer.done, len(told)) == ([], 1), "somebody must say that there is no answer"

    rig.ledger.workers.beat(worker(OTHER, lanes=1))
    watch()
    watch()
    assert consumer.done == ["cancel searches"]
    with rig.outages["store"].watching():
        pass
    watch()
    assert consumer.done == ["cancel searches", "add searches"]
    assert len(told) == 2


# --- the api -------------------------------------------------------------------------------------


@pytest.fixture
def api(tmp_path: Path) -> MemoryApi:
    return MemoryApi(tmp_path)


def parts(answer: Any) -> dict[str, str]:
    return {name: answer.json()[name]["state"] for name in ("broker", "store", "blobs")}


def test_readiness_names_each_part(api: MemoryApi) -> None:
    none = api.http.get("/readyz")
    assert none.status_code == 503
    assert parts(none) == {"broker": "ok", "store": "unknown", "blobs": "unknown"}

    api.ledger.workers.beat(worker(US, lanes=1))
    well = api.http.get("/readyz")
    assert (well.status_code, well.json()["status"]) == (200, "ready")
    assert parts(well) == {"broker": "ok", "store": "ok", "blobs": "ok"}

    api.ledger.workers.beat(unable(store=GONE))
    away = api.http.get("/readyz")
    assert away.status_code == 503
    assert away.json()["store"] == {
        "state": "away",
        "since": "2026-01-01T00:00:00Z",
        "cause": GONE.cause,
    }
    assert (away.json()["detail"], away.json()["title"]) == (SAID, StoreUnavailable.title)
    assert parts(away)["blobs"] == "ok"

    api.ledger.workers.beat(worker(OTHER, lanes=1))
    some = api.http.get("/readyz")
    assert (some.status_code, parts(some)["store"]) == (200, "partial")


def test_workers_that_cannot_start_say_why(api: MemoryApi) -> None:
    """They have no heartbeat: each ends, and is started again."""
    api.ledger.workers.cannot_start("store", GONE.cause)
    first = api.http.get("/readyz").json()["store"]
    api.ledger.workers.cannot_start("store", GONE.cause)

    answer = api.http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["store"] == first
    assert first["state"] == "away"
    assert answer.json()["type"] == "urn:kindred:problem:store-unavailable"
    assert GONE.cause in api.http.get("/v1/collection").json()["detail"]

    api.ledger.workers.can_start("store")
    assert parts(api.http.get("/readyz"))["store"] == "unknown"


def test_a_store_that_takes_no_writes_is_ready_for_searches(api: MemoryApi) -> None:
    api.ledger.workers.beat(unable(store=FULL))

    answer = api.http.get("/readyz")

    assert (answer.status_code, parts(answer)["store"]) == (200, "read-only")


def test_readiness_says_that_redis_is_away(api: MemoryApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api.ledger.workers.beat(worker(US, lanes=1))
    with monkeypatch.context() as patch:
        patch.setattr(Ledgers, "check_schema", MagicMock(side_effect=LedgerUnavailable("Silent.")))
        away = api.http.get("/readyz")

    assert away.status_code == 503
    assert parts(away) == {"broker": "away", "store": "unknown", "blobs": "unknown"}
    assert away.json()["broker"]["cause"] == "Silent."
    assert parts(api.http.get("/readyz"))["broker"] == "ok"


def test_readiness_says_that_the_blobs_are_away_for_the_api(api: MemoryApi) -> None:
    api.ledger.workers.beat(worker(US, lanes=1))
    api.http.get("/readyz")
    services = api.services
    services.collection().blobs.outage.fails("Blobs cannot be read", writes=True)

    assert parts(api.http.get("/readyz"))["blobs"] == "read-only"


def test_a_query_that_nobody_can_answer_says_what_is_away(api: MemoryApi) -> None:
    unknown = api.http.get("/v1/collection")
    assert "Is one running?" in unknown.json()["detail"]

    api.ledger.workers.beat(unable(store=GONE))
    answer = api.http.get("/v1/collection")

    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:kindred:problem:store-unavailable"
    assert answer.json()["detail"] == SAID
    api.ledger.workers.beat(unable(store=FULL))
    assert "Is one running?" in api.http.get("/v1/collection").json()["detail"]
