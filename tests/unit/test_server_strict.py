"""A Qdrant server under strict mode: what is refused is done another way, or named.

`Strict` refuses what a server with these settings refuses, in its words; where
KINDRED_TEST_QDRANT_URL names a server, all of it runs there too.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import numpy as np
import pytest
from qdrant_client import models

from pipeline.base.blobs import Blobs
from pipeline.base.errors import ConfigurationError, InvalidQuery, StoreUnavailable
from pipeline.base.identity import point_id
from pipeline.lifecycle.deletion import Deletions
from pipeline.lifecycle.quarantine import Quarantine
from pipeline.lifecycle.receipts import DeleteRequest
from pipeline.messages import Deletion
from pipeline.messages.filters import Filter
from pipeline.retrieval.fields import Fields
from pipeline.store import Points, Query
from pipeline.store.server import ServerStore
from tests import real_qdrant
from tests.encoders import DIMENSIONS, ENCODER
from tests.memory_ledger import memory_ledgers
from tests.memory_qdrant import MemoryQdrant, Refused

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

INDEXES = {"image_id": "keyword", "dx": "keyword", "age": "float"}
CLOUD: dict[str, Any] = {  # Qdrant Cloud's defaults
    "unindexed_filtering_retrieve": False,
    "unindexed_filtering_update": False,
    "max_payload_index_count": 100,
}
LIMITS: dict[str, Any] = {
    "max_query_limit": 7,
    "search_max_batchsize": 2,
    "upsert_max_batchsize": 10,
    "max_timeout": 5,
    "search_max_hnsw_ef": 64,
}
IMAGES = 60


class Opened(NamedTuple):
    store: ServerStore
    set_strict: Callable[..., None]


@contextmanager
def memory() -> Iterator[Callable[..., ServerStore]]:
    client = MemoryQdrant()
    yield lambda *arguments: ServerStore(client, "kindred", *arguments)
    client.close()


SERVERS: dict[str, Callable[[], AbstractContextManager[Callable[..., ServerStore]]]] = {
    "memory": memory
}
if real_qdrant.URL:
    SERVERS |= {
        "server": real_qdrant.collection,
        "server over REST": lambda: real_qdrant.collection(rest=True),
    }


@pytest.fixture(params=SERVERS)
def opening(request: pytest.FixtureRequest) -> Iterator[Callable[..., ServerStore]]:
    with SERVERS[request.param]() as open_:
        yield open_


def points(count: int) -> Points:
    vectors = np.random.default_rng(3).normal(size=(count, DIMENSIONS)).astype(np.float32)
    payloads = [
        {
            "image_id": f"I{row}",
            "dx": "nv" if row % 2 else "mel",
            "age": float(row),
            "PatientID": f"P{row // 5}",
            "note": f"of {row}",
            "source": {"row": row},
        }
        for row in range(count)
    ]
    return Points([point_id(f"I{row}") for row in range(count)], vectors, payloads)


POINTS = points(IMAGES)


@pytest.fixture
def opened(opening: Callable[..., ServerStore]) -> Opened:
    store = opening(ENCODER, INDEXES)
    store.upsert(POINTS)

    def set_strict(**settings: Any) -> None:
        config = models.StrictModeConfig(enabled=True, **settings)
        store._client.update_collection(store._name, strict_mode_config=config)

    return Opened(store, set_strict)


def by(field: str, value: str) -> Filter:
    return Filter.model_validate({"must": [{"key": field, "match": {"value": value}}]})


def deletions(store: ServerStore, blobs: Blobs) -> Deletions:
    ledger = memory_ledgers().of("kindred")
    fields, quarantine = Fields(store, INDEXES), Quarantine(blobs, ledger.withheld)
    return Deletions(store, blobs, ledger.tombstones, fields, quarantine)


# --- filters by fields without an index -------------------------------------------------------


@pytest.mark.parametrize(
    "wanted",
    [
        Deletion(field="PatientID", value="P3"),
        Deletion(filter=by("PatientID", "P3")),
        Deletion(filter=Filter(must=(by("PatientID", "P3"),), must_not=(by("dx", "x"),))),
    ],
    ids=str,
)
def test_a_deletion_by_a_field_without_an_index_finds_all_of_it(
    opened: Opened, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, wanted: Deletion
) -> None:
    """Whatever strict mode refuses; in pages, and again if a worker dies between them."""
    monkeypatch.setattr("pipeline.store.server._SCANNED", 8)
    opened.set_strict(**CLOUD, **LIMITS)
    deleting = deletions(opened.store, Blobs(str(tmp_path)))
    deletion = str(uuid4())
    for _ in range(2):
        assert deleting.plan(deletion, DeleteRequest(wanted=wanted)) == 5
    ids = deleting.receipts.planned_page(deletion, 0)
    assert sorted(ids) == [f"I{row}" for row in range(15, 20)]
    deleting.delete(ids)
    assert opened.store.count() == IMAGES - 5
    assert deleting.receipts.receipt(deletion).count == 5
    assert deleting.receipts.lift(deletion).count == 5


def test_a_scan_goes_on_from_its_cursor(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.store.server._SCANNED", 8)
    opened.set_strict(**CLOUD)
    wanted = Filter.model_validate({"must": [{"key": "note", "match": {"text": "of"}}]})
    seen: list[UUID] = []
    cursor = None
    while not seen or cursor:
        page, cursor = opened.store.scroll(3, filter=wanted, cursor=cursor, scan=True)
        assert len(page) <= 3
        seen += [record.id for record in page]
    assert seen == sorted(POINTS.ids)


def test_what_is_deleted_while_an_ingest_brings_it_is_matched_among_its_batch(
    opened: Opened, tmp_path: Any
) -> None:
    opened.set_strict(**CLOUD, condition_max_size=3)
    deleting = deletions(opened.store, Blobs(str(tmp_path)))
    request = DeleteRequest(wanted=Deletion(filter=by("PatientID", "P3")))
    found = deleting._among(POINTS.ids[10:20], request)
    assert set(found) == set(POINTS.ids[15:20])


def test_a_misspelt_field_of_a_deletion_is_an_error(opened: Opened, tmp_path: Any) -> None:
    opened.set_strict(**CLOUD)
    deleting = deletions(opened.store, Blobs(str(tmp_path)))
    with pytest.raises(InvalidQuery, match="No image has this field"):
        deleting.plan(str(uuid4()), DeleteRequest(wanted=Deletion(field="PatienID", value="P3")))


def test_a_query_by_a_field_without_an_index_names_it(opened: Opened) -> None:
    opened.set_strict(**CLOUD)
    store, wanted = opened.store, by("PatientID", "P3")
    for call in (
        lambda: store.query([Query(POINTS.vectors[0], limit=3, filter=wanted)]),
        lambda: store.scroll(3, filter=wanted),
        lambda: store.count(wanted),
        lambda: store.facet("dx", filter=wanted),
        lambda: store.bounds("age", wanted),
    ):
        with pytest.raises(InvalidQuery, match="PatientID has no index") as caught:
            call()
        assert "KINDRED_INDEXED_FIELDS" in str(caught.value)
        assert "P3" not in str(caught.value)


def test_a_field_without_an_index_can_be_shown(opened: Opened) -> None:
    """What a search includes need not be looked up by a filter."""
    opened.set_strict(**CLOUD)
    Fields(opened.store, INDEXES).check("note", ("include", 0))


def test_payloads_are_replaced_and_points_deleted_by_id(opened: Opened) -> None:
    opened.set_strict(**CLOUD, **LIMITS)
    first, second = POINTS.ids[:2]
    opened.store.set_payloads({point: {"dx": "new"} for point in POINTS.ids[:20]})
    assert opened.store.count(by("dx", "new")) == 20
    opened.store.delete([first, second])
    assert opened.store.purge_due
    opened.store.purge()
    assert not opened.store.purge_due
    assert opened.store.count() == IMAGES - 2


# --- limits ------------------------------------------------------------------------------------


def test_what_is_more_than_the_server_gives_at_once_is_asked_in_parts(opened: Opened) -> None:
    store = opened.store
    queries = [Query(vector, limit=25, offset=3) for vector in POINTS.vectors[:5]]

    def answers() -> list[Any]:
        return [
            [[hit.id for hit in hits] for hits in store.query(queries)],
            [record.id for record in store.scroll(20)[0]],
            store.scroll(20, cursor=store.scroll(20)[1])[1],
            store.scroll(20, filter=by("dx", "nv"))[1],
            store.facet("dx"),
            store.bounds("age"),
            store.retrieve(POINTS.ids).keys(),
        ]

    before = answers()
    opened.set_strict(**CLOUD, **LIMITS)  # while the worker runs
    assert answers() == before
    more = points(IMAGES + 35)
    store.upsert(more)
    assert store.count() == IMAGES + 35


def test_what_cannot_be_cut_is_named(opened: Opened) -> None:
    two = Filter(must=(by("dx", "nv"), by("image_id", "I1")))
    many = Filter.model_validate({"must": [{"has_id": [str(p) for p in POINTS.ids[:10]]}]})
    opened.set_strict(filter_max_conditions=1, condition_max_size=5)
    with pytest.raises(InvalidQuery, match="allows 1 conditions"):
        opened.store.count(two)
    with pytest.raises(InvalidQuery, match="allows 5 values"):
        opened.store.scroll(3, filter=many)


def test_where_nothing_may_be_exact_no_worker_starts(
    opened: Opened, opening: Callable[..., ServerStore]
) -> None:
    opened.set_strict(search_allow_exact=False)
    with pytest.raises(ConfigurationError, match="search_allow_exact"):
        opening(ENCODER, INDEXES)


def test_too_many_indexes_are_a_wrong_setting(
    opened: Opened, opening: Callable[..., ServerStore]
) -> None:
    opened.set_strict(max_payload_index_count=len(INDEXES))
    opening(ENCODER, INDEXES)
    with pytest.raises(ConfigurationError, match=r"^KINDRED_INDEXED_FIELDS: .* 3 indexes"):
        opening(ENCODER, {**INDEXES, "PatientID": "keyword"})
    opened.set_strict(max_payload_index_count=100)
    opening(ENCODER, {**INDEXES, "PatientID": "keyword"})
    assert opened.store.count(by("PatientID", "P3")) == 5


@pytest.mark.parametrize(
    "text",
    [
        "Bad request: Max points count limit of 10 reached!",
        "Bad request: Max vector storage size limit of 100B reached!",
        "Bad request: Disk usage is at 91% of total capacity, exceeding the limit of 90%",
    ],
)
def test_a_collection_that_may_not_grow_keeps_work_waiting(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    client = MemoryQdrant()
    store = ServerStore(client, "kindred", ENCODER, INDEXES)

    def refuse(*_: Any, **__: Any) -> None:
        raise Refused(text)

    monkeypatch.setattr(client, "upsert", refuse)
    with pytest.raises(StoreUnavailable, match="takes no more into this collection"):
        store.upsert(POINTS)
