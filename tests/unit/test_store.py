"""One suite for both backends of the store, against brute force in numpy.

Backends: the embedded engine, a Qdrant server (when KINDRED_TEST_QDRANT_URL names one), and the
server's code on qdrant-client's in-memory stand-in, which needs no server.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx
import numpy as np
import pytest
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.http.exceptions import UnexpectedResponse

from pipeline.base.errors import (
    Conflict,
    EncoderMismatch,
    InvalidQuery,
    KindredError,
    StoreLocked,
    StoreUnavailable,
)
from pipeline.base.identity import point_id
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from pipeline.messages import EncoderInfo
from pipeline.messages.filters import Filter
from pipeline.store import Examples, Points, Query, Store, edge_generations, fingerprint, open_store
from pipeline.store.edge import EdgeStore
from pipeline.store.server import ServerStore
from tests import real_qdrant
from tests.encoders import DIMENSIONS, ENCODER
from tests.memory_qdrant import MemoryQdrant
from tests.real_qdrant import VERSION

ROOT = Path(__file__).parents[2]
MOVED = ENCODER.model_copy(update={"model": "/models/vit", "revision": "main"})
OTHER = ENCODER.model_copy(update={"model": "acme/other", "dimensions": 8})
INDEXES = {"dx": "keyword", "age": "float", "grade": "integer", "held": "bool"}

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

Open = Callable[..., Store]


# --- the backends --------------------------------------------------------------------------------


@contextmanager
def edge(folder: Path, index_from: int = 0) -> Iterator[Open]:
    opened: list[Store] = []

    def open_(encoder: EncoderInfo = ENCODER, indexes: Mapping[str, str] = INDEXES) -> Store:
        while opened:
            opened.pop().close()
        opened.append(EdgeStore(folder / "kindred", "kindred", encoder, indexes, index_from))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


@contextmanager
def indexed(folder: Path) -> Iterator[Open]:
    """The engine with an index, which it else builds and walks for many points only."""
    with pytest.MonkeyPatch.context() as patched, edge(folder, index_from=100) as open_:
        patched.setattr(edge_generations, "_EXACT_LEAST", 50)
        yield open_


@contextmanager
def memory(folder: Path) -> Iterator[Open]:
    client = MemoryQdrant()
    yield lambda encoder=ENCODER, indexes=INDEXES: ServerStore(client, "kindred", encoder, indexes)
    client.close()


@contextmanager
def server(folder: Path, *, rest: bool = False) -> Iterator[Open]:
    with real_qdrant.collection(rest=rest) as open_:
        yield lambda encoder=ENCODER, indexes=INDEXES: open_(encoder, indexes)


BACKENDS = {"edge": edge, "indexed": indexed, "memory": memory} | (
    {"server": server, "server over REST": partial(server, rest=True)} if real_qdrant.URL else {}
)
every_backend = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture
def opening(backend: str, tmp_path: Path) -> Iterator[Open]:
    """Opens the one collection of this test, again if it is called again."""
    with BACKENDS[backend](tmp_path) as open_:
        yield open_


# --- what is stored ---------------------------------------------------------------------------


def payload(row: int, rng: np.random.Generator) -> dict[str, Any]:
    """One row of a data set: what is missing is absent, and some of everything JSON can say."""
    image: dict[str, Any] = {
        "image_id": f"ISIC_{row:07}",
        "dx": str(rng.choice(["mel", "nv", "bkl", "møl"])),
        "grade": int(rng.integers(1, 5)),
        "held": bool(rng.integers(2)),
        "taken": f"2024-{1 + row % 12:02}-01T00:00:00Z",
        "tags": [["a", "b"], ["b"], []][row % 3],
        "body part": ["left arm", "right ärm, upper"][row % 2],
        "note": None if row % 5 == 0 else "次の",
        "site": {"lon": 10.0 + row % 10, "lat": 50.0},
        "lesions": [{"kind": "dot", "size": row % 4}, {"kind": "net", "size": row % 7}],
        "source": {"kind": "dataset", "row": row, "job": f"job-{row % 2}", "sha256": "0" * 64},
    }
    if row % 4:
        image["age"] = float(row % 90)
    return image


class Stored(NamedTuple):
    points: Points
    unit: np.ndarray  # float32 (n, DIMENSIONS), of length 1

    def nearest(self, vector: np.ndarray, keep: Callable[[int], bool]) -> list[tuple[UUID, float]]:
        """Brute force: the points to keep with their cosines, best first."""
        scores = self.unit @ (vector / np.linalg.norm(vector))
        order = (int(row) for row in np.argsort(-scores, kind="stable"))
        return [(self.points.ids[row], float(scores[row])) for row in order if keep(row)]


def make(count: int, seed: int = 1) -> Stored:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, DIMENSIONS)).astype(np.float32) * 3
    payloads = [payload(row, rng) for row in range(count)]
    ids = [point_id(image["image_id"]) for image in payloads]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return Stored(Points(ids, vectors, payloads), unit)


STORED = make(600)
PAYLOADS = STORED.points.payloads
VECTOR = np.random.default_rng(2).normal(size=DIMENSIONS).astype(np.float32)


@pytest.fixture(scope="module", params=BACKENDS)
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A store with STORED in it, for tests that only read."""
    with BACKENDS[request.param](tmp_path_factory.mktemp("store")) as open_:
        store = open_()
        store.upsert(STORED.points)
        if isinstance(store, EdgeStore):
            store.wait_until_idle()
        yield store


# --- reading ----------------------------------------------------------------------------------


def test_the_nearest_come_in_order_with_their_cosines(filled: Store):
    (found,) = filled.query([Query(VECTOR, limit=50)])
    expected = STORED.nearest(VECTOR, lambda row: True)[:50]
    assert [hit.id for hit in found] == [point for point, _ in expected]
    assert [hit.score for hit in found] == pytest.approx([score for _, score in expected], abs=1e-5)
    assert [hit.payload["image_id"] for hit in found] == [
        PAYLOADS[STORED.points.ids.index(point)]["image_id"] for point, _ in expected
    ]


def test_the_same_direction_scores_one_whatever_its_length(filled: Store):
    (found,) = filled.query([Query(STORED.points.vectors[3] * 7, limit=1)])
    assert (found[0].id, found[0].score) == (STORED.points.ids[3], pytest.approx(1, abs=1e-5))


def field(key: str, **operator: Any) -> dict[str, Any]:
    return {"key": key, **operator}


def geo(lon: float, lat: float) -> dict[str, float]:
    return {"lon": lon, "lat": lat}


MEL = field("dx", match={"value": "mel"})
SOME_IDS = [str(point) for point in STORED.points.ids[5:15]]
SQUARE = {"points": [geo(11.5, 49), geo(13.5, 49), geo(13.5, 51), geo(11.5, 51), geo(11.5, 49)]}
Kept = Callable[[dict[str, Any]], bool]
FILTERS: dict[str, tuple[dict[str, Any], Kept]] = {
    "nothing": ({}, lambda p: True),
    "must": ({"must": [MEL]}, lambda p: p["dx"] == "mel"),
    "one in place of a list": ({"must": MEL}, lambda p: p["dx"] == "mel"),
    "should": (
        {"should": [MEL, field("age", range={"gt": 80})]},
        lambda p: p["dx"] == "mel" or p.get("age", 0) > 80,
    ),
    "must_not": ({"must_not": [MEL]}, lambda p: p["dx"] != "mel"),
    "all three": (
        {
            "must": [field("held", match={"value": True})],
            "should": [MEL, field("dx", match={"value": "nv"})],
            "must_not": [field("grade", match={"value": 2})],
        },
        lambda p: p["held"] and p["dx"] in ("mel", "nv") and p["grade"] != 2,
    ),
    "any": (
        {"must": [field("dx", match={"any": ["mel", "møl", "no such"]})]},
        lambda p: p["dx"] in ("mel", "møl"),
    ),
    "any of integers": (
        {"must": [field("grade", match={"any": [1, 4]})]},
        lambda p: p["grade"] in (1, 4),
    ),
    "any of none": ({"must": [field("dx", match={"any": []})]}, lambda p: False),
    "except": (
        {"must": [field("dx", match={"except": ["mel", "nv"]})]},
        lambda p: p["dx"] not in ("mel", "nv"),
    ),
    "except, not indexed": (
        {"must": [field("body part".join('""'), match={"except": ["left arm"]})]},
        lambda p: p["body part"] != "left arm",
    ),
    "range": (
        {"must": [field("age", range={"gte": 30, "lt": 41})]},
        lambda p: 30 <= p.get("age", -1) < 41,
    ),
    "an absent value is not 0": (
        {"must": [field("age", range={"lte": 0})]},
        lambda p: "age" in p and p["age"] <= 0,
    ),
    "range of times": (
        {"must": [field("taken", range={"gte": "2024-03-01", "lt": "2024-05-01T00:00:00+00:00"})]},
        lambda p: p["taken"][:7] in ("2024-03", "2024-04"),
    ),
    "is_empty": ({"must": [{"is_empty": {"key": "age"}}]}, lambda p: "age" not in p),
    "is_empty of a field": ({"must": [field("tags", is_empty=True)]}, lambda p: not p["tags"]),
    "is_null": ({"must": [{"is_null": {"key": "note"}}]}, lambda p: p["note"] is None),
    "is_null of a field": ({"must": [field("note", is_null=False)]}, lambda p: bool(p["note"])),
    "values_count": (
        {"must": [field("tags", values_count={"gte": 2})]},
        lambda p: len(p["tags"]) >= 2,
    ),
    "in a list": ({"must": [field("tags", match={"value": "a"})]}, lambda p: "a" in p["tags"]),
    "in an object": (
        {"must": [field("source.job", match={"value": "job-1"})]},
        lambda p: p["source"]["job"] == "job-1",
    ),
    "in any element": (
        {"must": [field("lesions[].size", match={"value": 6})]},
        lambda p: any(lesion["size"] == 6 for lesion in p["lesions"]),
    ),
    "within one element": (
        {
            "must": [
                {
                    "nested": {
                        "key": "lesions",
                        "filter": {
                            "must": [
                                field("kind", match={"value": "net"}),
                                field("size", range={"lt": 2}),
                            ]
                        },
                    }
                }
            ]
        },
        lambda p: p["lesions"][1]["size"] < 2,
    ),
    "has_id": (
        {"must": [{"has_id": [*SOME_IDS, str(uuid4()), 7]}]},
        lambda p: str(point_id(p["image_id"])) in SOME_IDS,
    ),
    "not has_id": (
        {"must_not": [{"has_id": SOME_IDS}]},
        lambda p: str(point_id(p["image_id"])) not in SOME_IDS,
    ),
    "min_should": (
        {
            "min_should": {
                "conditions": [
                    MEL,
                    field("held", match={"value": False}),
                    field("grade", match={"value": 1}),
                ],
                "min_count": 2,
            }
        },
        lambda p: (p["dx"] == "mel") + (not p["held"]) + (p["grade"] == 1) >= 2,
    ),
    "filters within filters": (
        {"should": [{"must": [MEL, field("grade", match={"value": 3})]}, {"must_not": [MEL]}]},
        lambda p: p["dx"] != "mel" or p["grade"] == 3,
    ),
    "a contradiction": ({"must": [MEL, field("dx", match={"value": "nv"})]}, lambda p: False),
    "prefix": ({"must": [field("dx", match={"prefix": "m"})]}, lambda p: p["dx"][0] == "m"),
    "substring": ({"must": [field("dx", match={"substring": "v"})]}, lambda p: "v" in p["dx"]),
    "words": (
        {"must": [field('"body part"', match={"text": "UPPER ärm"})]},
        lambda p: "upper" in p["body part"],
    ),
    "any word": (
        {"must": [field('"body part"', match={"text_any": "left nothing"})]},
        lambda p: "left" in p["body part"],
    ),
    "phrase": (
        {"must": [field('"body part"', match={"phrase": "left arm"})]},
        lambda p: "left" in p["body part"],
    ),
    "radius": (
        {"must": [field("site", geo_radius={"center": geo(12, 50), "radius": 80_000})]},
        lambda p: 11 <= p["site"]["lon"] <= 13,
    ),
    "box": (
        {
            "must": [
                field(
                    "site",
                    geo_bounding_box={"top_left": geo(11.5, 51), "bottom_right": geo(13.5, 49)},
                )
            ]
        },
        lambda p: 12 <= p["site"]["lon"] <= 13,
    ),
    "polygon": (
        {"must": [field("site", geo_polygon={"exterior": SQUARE})]},
        lambda p: 12 <= p["site"]["lon"] <= 13,
    ),
}


# What older servers answer otherwise, or refuse, and why; Kindred does not take such a server.
SINCE = {
    "prefix": ((1, 19), "has no prefix"),
    "substring": ((1, 20), "has no substring"),
    "words": ((1, 20), "takes text without an index for a substring"),
}


def lacks(store: Store, name: str) -> str:
    """Why this store does not keep to this filter; empty if it does."""
    least, why = SINCE.get(name, ((), ""))
    if not isinstance(store, ServerStore) or isinstance(store._client, MemoryQdrant):
        return ""
    return f"Qdrant {'.'.join(map(str, VERSION))} {why}" if least > VERSION else ""


@pytest.mark.parametrize("name", FILTERS)
def test_filters_keep_what_brute_force_keeps(filled: Store, name: str):
    if why := lacks(filled, name):
        pytest.skip(why)
    wanted, keep = FILTERS[name]
    expected = STORED.nearest(VECTOR, lambda row: keep(PAYLOADS[row]))
    filter_ = Filter.model_validate(wanted)
    assert filled.count(filter_) == len(expected)
    (found,) = filled.query([Query(VECTOR, limit=1000, filter=filter_)])
    assert [hit.id for hit in found] == [point for point, _ in expected]


@pytest.mark.parametrize("name", FILTERS)
def test_filters_survive_the_way_to_a_server(name: str):
    theirs = models.Filter.model_validate(Filter.model_validate(FILTERS[name][0]).to_qdrant())
    travelled = GrpcToRest.convert_filter(RestToGrpc.convert_filter(theirs))
    assert without_empty(travelled.model_dump()) == without_empty(theirs.model_dump())


def without_empty(value: Any) -> Any:
    """On the wire, an empty list of conditions, none at all and null are one."""
    if isinstance(value, dict):
        return {key: without_empty(item) for key, item in value.items() if item not in (None, [])}
    return [without_empty(item) for item in value] if isinstance(value, list) else value


@pytest.mark.filterwarnings("ignore:Local mode performs exact")
@pytest.mark.parametrize("name", ["nothing", "must"])
def test_an_exact_query_finds_what_brute_force_finds(filled: Store, name: str):
    wanted, keep = FILTERS[name]
    expected = STORED.nearest(VECTOR, lambda row: keep(PAYLOADS[row]))[:20]
    query = Query(VECTOR, limit=20, filter=Filter.model_validate(wanted), exact=True)
    for found in filled.query([query, query]):
        assert [hit.id for hit in found] == [point for point, _ in expected]


def test_threshold_and_offset(filled: Store):
    expected = STORED.nearest(VECTOR, lambda row: True)
    threshold = (expected[20][1] + expected[21][1]) / 2
    (above,) = filled.query([Query(VECTOR, limit=1000, score_threshold=threshold)])
    assert [hit.id for hit in above] == [point for point, _ in expected[:21]]
    (page,) = filled.query([Query(VECTOR, limit=5, offset=18, score_threshold=threshold)])
    assert [hit.id for hit in page] == [point for point, _ in expected[18:21]]
    (beyond,) = filled.query([Query(VECTOR, limit=5, offset=100_000)])
    assert beyond == []


def test_examples_are_scored_by_their_best(filled: Store):
    positives, negatives = STORED.points.vectors[:2], STORED.points.vectors[5:8]
    best, worst = (
        (STORED.unit @ STORED.unit[:2].T).max(1),
        (STORED.unit @ STORED.unit[5:8].T).max(1),
    )
    squashed = {sign: (x / (1 + abs(x)) + 1) / 2 for sign, x in ((1, best), (-1, worst))}
    for negative, expected in (
        (negatives, np.where(best > worst, squashed[1], -squashed[-1])),
        (negatives[:0], squashed[1]),
    ):
        (found,) = filled.query([Query(Examples(positives, negative), limit=1000)])
        assert len(found) == len(STORED.unit)
        assert [hit.score for hit in found] == pytest.approx(sorted(expected)[::-1], abs=1e-5)
        for hit in found:
            assert hit.score == pytest.approx(expected[STORED.points.ids.index(hit.id)], abs=1e-5)


def test_include_and_exclude_choose_payload_fields(filled: Store):
    everything, some, rest, none = filled.query(
        [
            Query(VECTOR, limit=1),
            Query(VECTOR, limit=1, include=["image_id", "body part", "source.job", "absent"]),
            Query(VECTOR, limit=1, exclude=["image_id", "body part", "source"]),
            Query(VECTOR, limit=1, include=[]),
        ]
    )
    whole = everything[0].payload
    assert some[0].payload == {
        "image_id": whole["image_id"],
        "body part": whole["body part"],
        "source": {"job": whole["source"]["job"]},
    }
    assert rest[0].payload == {
        key: value for key, value in whole.items() if key not in ("image_id", "body part", "source")
    }
    assert none[0].payload == {}


def test_a_batch_answers_every_query_by_itself(filled: Store):
    queries = [
        Query(
            STORED.points.vectors[row], limit=3 + row, filter=Filter.model_validate({"must": MEL})
        )
        for row in range(20)
    ]
    together = filled.query(queries)
    alone = [answer for query in queries for answer in filled.query([query])]
    assert [[hit.id for hit in hits] for hits in together] == [
        [hit.id for hit in hits] for hits in alone
    ]
    for ours, theirs in zip(together, alone, strict=True):  # a batch may round otherwise
        assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=1e-6)
        assert [hit.payload for hit in ours] == [hit.payload for hit in theirs]
    assert filled.query([]) == []


def test_pages_hold_all_exactly_once_in_the_order_of_ids(filled: Store):
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        records, cursor = filled.scroll(70, cursor=cursor)
        seen += records
        pages += 1
    assert pages == 9
    assert [record.id for record in seen] == sorted(STORED.points.ids)
    stored = dict(zip(STORED.points.ids, PAYLOADS, strict=True))
    assert all(record.payload == stored[record.id] for record in seen)
    assert all(record.vector is None for record in seen)


def test_pages_of_a_filter_end_at_the_last_match(filled: Store):
    mel = Filter.model_validate({"must": MEL})
    count = sum(image["dx"] == "mel" for image in PAYLOADS)
    first, cursor = filled.scroll(count - 1, filter=mel)
    last, end = filled.scroll(count - 1, filter=mel, cursor=cursor, vectors=True)
    assert (len(first), len(last), end) == (count - 1, 1, None)
    assert last[0].vector is not None
    assert filled.scroll(count, filter=mel)[1] is None


def test_facets_count_exactly_most_first(filled: Store):
    for name in ("dx", "grade", "held"):
        found = filled.facet(name)
        assert dict(found) == Counter(image[name] for image in PAYLOADS)
        assert [count for _, count in found] == sorted((c for _, c in found), reverse=True)
        assert {type(value) for value, _ in found} == {type(PAYLOADS[0][name])}
    assert filled.facet("dx", limit=2) == filled.facet("dx")[:2]
    for name in ("age", "taken", "no such field"):
        with pytest.raises(InvalidQuery):
            filled.facet(name)


def test_facets_and_bounds_under_a_filter(filled: Store):
    wanted = Filter.model_validate({"must": [MEL, field("age", range={"lt": 50})]})
    fitting = [p for p in PAYLOADS if p["dx"] == "mel" and p.get("age", 99) < 50]
    assert dict(filled.facet("grade", filter=wanted)) == Counter(p["grade"] for p in fitting)
    ages = [p["age"] for p in fitting]
    assert filled.bounds("age", wanted) == (min(ages), max(ages))
    assert filled.bounds("grade") == (1, 4)
    nothing = Filter.model_validate({"must": [field("dx", match={"value": "nothing"})]})
    assert filled.bounds("age", nothing) is None
    with pytest.raises(InvalidQuery):
        filled.bounds("dx")


def test_retrieve_gives_payloads_and_unit_vectors_of_what_is_stored(filled: Store):
    wanted = [*STORED.points.ids[:20], uuid4(), STORED.points.ids[0]]
    records = filled.retrieve(wanted, vectors=True)
    assert records.keys() == set(STORED.points.ids[:20])
    for row, point in enumerate(STORED.points.ids[:20]):
        record = records[point]
        assert record.id == point
        assert record.payload == PAYLOADS[row]
        assert record.vector is not None
        assert record.vector.dtype == np.float32
        np.testing.assert_allclose(record.vector, STORED.unit[row], atol=1e-6)
    assert filled.retrieve(wanted)[wanted[0]].vector is None
    assert filled.retrieve([]) == {}


def test_a_vector_that_cannot_be_searched_is_refused(filled: Store):
    broken = np.full(DIMENSIONS, np.nan, np.float32)
    for vector in (VECTOR[:-1], broken):
        with pytest.raises(InvalidQuery) as caught:
            filled.query([Query(vector, limit=1)])
        assert caught.value.path == ("vector",)


# --- writing ----------------------------------------------------------------------------------


@every_backend
def test_writing_again_changes_nothing(opening: Open):
    store = opening()
    small = make(300)
    for _ in range(2):
        store.upsert(small.points)
    assert store.count() == 300
    assert sum(count for _, count in store.facet("dx")) == 300
    changed = Points(small.points.ids[:1], -small.points.vectors[:1], [{"dx": "new"}])
    store.upsert(changed)
    record = store.retrieve(changed.ids, vectors=True)[changed.ids[0]]
    assert record.payload == {"dx": "new"}
    assert record.vector is not None
    np.testing.assert_allclose(record.vector, -small.unit[0], atol=1e-6)
    assert store.count() == 300
    nothing = Points([], np.empty((0, DIMENSIONS), np.float32), [])
    store.upsert(nothing)


@every_backend
def test_vectors_that_are_none_are_not_written(opening: Open):
    store = opening()
    broken = np.ones((1, DIMENSIONS), np.float32)
    broken[0, 3] = np.nan
    for vectors in (broken, np.ones((1, 3), np.float32), np.ones((2, DIMENSIONS), np.float32)):
        with pytest.raises(ValueError, match="vector"):
            store.upsert(Points([uuid4()], vectors, [{}]))
    assert store.count() == 0


@every_backend
def test_payloads_are_replaced_whole_and_vectors_stay(opening: Open):
    store = opening()
    small = make(20)
    store.upsert(small.points)
    first, second, *_ = small.points.ids
    gone = uuid4()
    store.set_payloads({first: {"dx": "é", "source": {"row": 1}}, second: {}, gone: {"dx": "x"}})
    records = store.retrieve([first, second, gone], vectors=True)
    assert records.keys() == {first, second}
    assert records[first].payload == {"dx": "é", "source": {"row": 1}}
    assert records[second].payload == {}
    assert records[first].vector is not None
    np.testing.assert_allclose(records[first].vector, small.unit[0], atol=1e-6)
    assert store.count(Filter.model_validate({"must": field("dx", match={"value": "é"})})) == 1
    store.set_payloads({})


@every_backend
def test_what_is_deleted_is_gone_everywhere(opening: Open):
    store = opening()
    small = make(30)
    store.upsert(small.points)
    store.delete([*small.points.ids[:10], uuid4()])
    store.delete([])
    assert store.count() == 20
    assert store.retrieve(small.points.ids[:10]) == {}
    (found,) = store.query([Query(small.points.vectors[0], limit=100)])
    assert {hit.id for hit in found} == set(small.points.ids[10:])
    assert dict(store.facet("dx")) == Counter(image["dx"] for image in small.points.payloads[10:])
    store.delete(small.points.ids)
    assert store.facet("dx") == []


@every_backend
def test_opening_again_finds_all(opening: Open):
    store = opening()
    store.upsert(STORED.points)
    store.flush()
    again = opening()
    assert again.encoder == ENCODER
    assert again.count() == len(PAYLOADS)
    records = again.retrieve(STORED.points.ids)
    assert [records[point].payload for point in STORED.points.ids] == PAYLOADS


@every_backend
def test_an_index_can_be_added_or_changed_later(opening: Open):
    store = opening(indexes={"age": "keyword", "taken": "datetime"})
    store.upsert(make(50).points)
    store = opening(indexes={"age": "float", "dx": "keyword", "body part": "keyword"})
    assert sum(count for _, count in store.facet("body part")) == 50
    assert sum(count for _, count in store.facet("dx")) == 50
    assert store.count(Filter.model_validate({"must": field("age", range={"gte": 0})})) == 37


WORDS = ["left arm", "arm", "LEFT", "ar", "arm left", "right ärm, upper", "ÄRM", "upper-right", ""]


@every_backend
@pytest.mark.parametrize("operator", ["text", "text_any", "phrase"])
def test_words_mean_the_same_with_and_without_an_index(opening: Open, operator: str):
    def counts(store: Store) -> list[int]:
        matches = [field("'body part'".replace("'", '"'), match={operator: w}) for w in WORDS]
        return [store.count(Filter.model_validate({"must": [each]})) for each in matches]

    store = opening()
    store.upsert(make(40).points)
    without = counts(store)
    store = opening(indexes={**INDEXES, "body part": "text"})
    expected = {
        "text": [20, 20, 20, 0, 20, 20, 20, 20, 0],
        "text_any": [20, 20, 20, 0, 20, 20, 20, 20, 0],
        "phrase": [20, 20, 20, 0, 0, 20, 20, 0, 0],
    }
    assert counts(store) == expected[operator]
    if not lacks(store, "words"):
        assert without == expected[operator]


@every_backend
def test_another_encoder_is_refused_and_both_are_named(opening: Open):
    opening().upsert(make(3).points)
    for other in (OTHER, ENCODER.model_copy(update={"weights_sha256": "cd" * 32})):
        with pytest.raises(EncoderMismatch) as caught:
            opening(other)
        for encoder in (ENCODER, other):
            assert encoder.model in str(caught.value)
            assert f"weights {encoder.weights_sha256[:12]}" in str(caught.value)
            assert f"{encoder.dimensions} dimensions" in str(caught.value)
    assert opening().count() == 3


@every_backend
def test_an_encoder_loaded_from_elsewhere_is_the_same(opening: Open):
    opening().upsert(STORED.points)
    store = opening(MOVED)
    assert store.count() == len(PAYLOADS)
    (found,) = store.query([Query(STORED.points.vectors[3], limit=1)])
    assert found[0].id == STORED.points.ids[3]
    store.delete(STORED.points.ids[:1])
    assert opening().count() == len(PAYLOADS) - 1


@every_backend
@pytest.mark.parametrize(
    "change", [{"weights_sha256": "cd" * 32}, {"pooling": "cls"}, {"preprocessing": "384 bicubic"}]
)
def test_an_encoder_of_the_same_name_that_gives_other_vectors_is_refused(
    opening: Open, change: dict[str, str]
):
    opening().upsert(make(3).points)
    with pytest.raises(EncoderMismatch):
        opening(ENCODER.model_copy(update=change))


@every_backend
def test_a_collection_that_is_still_empty_takes_another_encoder(opening: Open):
    opening()
    store = opening(OTHER)
    assert store.encoder == OTHER
    store.upsert(Points([uuid4()], np.ones((1, OTHER.dimensions), np.float32), [{}]))
    assert opening(OTHER).count() == 1
    with pytest.raises(EncoderMismatch):
        opening(ENCODER)


@every_backend
def test_threads_may_write_and_search_at_once(opening: Open, backend: str):
    if backend == "memory":
        pytest.skip("the in-memory stand-in is not made for threads; the engine and a server are")
    store = opening()
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for _ in range(5):
                store.upsert(Points([uuid4() for _ in range(20)], *part(make(20, seed).points)))
                store.query([Query(VECTOR, limit=10)])
                store.scroll(10)
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.count() == 4 * 5 * 20


def part(points: Points) -> tuple[Any, Any]:
    return points.vectors, points.payloads


# --- purges -----------------------------------------------------------------------------------


def everything(store: Store) -> tuple[dict[str, Any], list[float]]:
    """All that a store can be asked; vectors and scores, which may be rounded, as numbers."""
    mel = Filter.model_validate({"must": MEL})
    records, cursor = store.scroll(1000, vectors=True)
    assert cursor is None
    hits = store.query([Query(VECTOR, limit=1000), Query(VECTOR, limit=9, filter=mel)])
    answers = {
        "points": [(record.id, record.payload) for record in records],
        "facets": [dict(store.facet(name)) for name in ("dx", "grade", "held")],
        "bounds": [store.bounds(name) for name in ("age", "grade")],
        "counts": [
            store.count(Filter.model_validate(wanted))
            for name, (wanted, _) in FILTERS.items()
            if not lacks(store, name)
        ],
        "hits": [[(hit.id, hit.payload) for hit in found] for found in hits],
    }
    vectors = np.stack([record.vector for record in records if record.vector is not None])
    return answers, [*vectors.ravel().tolist(), *(hit.score for found in hits for hit in found)]


def assert_same(store: Store, before: tuple[dict[str, Any], list[float]]) -> None:
    answers, numbers = everything(store)
    assert answers == before[0]
    np.testing.assert_allclose(numbers, before[1], atol=1e-6)


@every_backend
def test_a_purge_changes_no_answer(opening: Open):
    store = opening()
    store.upsert(STORED.points)
    assert not store.purge_due
    store.delete(STORED.points.ids[:50])
    store.set_payloads({STORED.points.ids[60]: {"dx": "mel", "age": 0.5}})
    store.upsert(Points(STORED.points.ids[70:71], -STORED.points.vectors[70:71], [{"dx": "nv"}]))
    if isinstance(store, EdgeStore):
        store.wait_until_idle()
        assert store.purge_due
    before = everything(store)
    store.purge()
    assert not store.purge_due
    assert_same(store, before)
    store.purge()  # nothing to do
    again = opening()
    assert_same(again, before)
    assert not again.purge_due


@every_backend
def test_what_is_written_while_a_purge_runs_is_there(opening: Open):
    store = opening()
    store.upsert(STORED.points)
    store.delete(STORED.points.ids[:1])
    first, second = make(700).points, make(800).points
    writes = [
        lambda: store.upsert(Points(first.ids[600:], first.vectors[600:], first.payloads[600:])),
        lambda: store.delete(STORED.points.ids[1:11]),
        lambda: store.set_payloads({point: {"dx": "new"} for point in STORED.points.ids[11:21]}),
        lambda: store.upsert(Points(second.ids[700:], second.vectors[700:], second.payloads[700:])),
    ]

    def write_on() -> None:
        if writes:
            writes.pop(0)()

    store.purge(write_on)
    while writes:  # of a backend that has nothing to do
        write_on()
    assert store.count() == 600 - 11 + 200
    assert dict(store.facet("dx"))["new"] == 10
    records = store.retrieve([*first.ids[600:], *second.ids[700:]])
    assert [record.payload["image_id"] for record in records.values()] == [
        payload["image_id"] for payload in [*first.payloads[600:], *second.payloads[700:]]
    ]
    assert store.retrieve(STORED.points.ids[:11]) == {}


# --- names --------------------------------------------------------------------------------------


def test_fingerprints_tell_encoders_apart_and_are_stable():
    assert fingerprint(ENCODER) == fingerprint(MOVED) == "cec4454e007d"
    assert fingerprint(ENCODER) != fingerprint(OTHER)


def test_a_model_folder_that_was_copied_is_the_same_encoder(tmp_path: Path, encoder: Path):
    """With real weights: whoever moves the folder need not embed all images again."""
    copied = tmp_path / "models" / "copied"
    shutil.copytree(encoder, copied)
    options: dict[str, Any] = {"data": tmp_path, "device": "cpu", "lanes": 1, "batch_size": 1}
    before = Settings(model=str(encoder), **options)
    after = Settings(model=str(copied), revision="main", **options)
    ids, payload = [uuid4()], {"image_id": "ISIC_1", "source": {"sha256": "of its bytes"}}

    first = Encoder.load(before.encoder)
    store = open_store(before.store, first.info)
    store.upsert(Points(ids, np.ones((1, first.info.dimensions), np.float32), [payload]))
    store.close()
    second = Encoder.load(after.encoder)
    store = open_store(after.store, second.info)

    assert first.info.model != second.info.model
    assert first.info.identity == second.info.identity
    assert store.retrieve(ids)[ids[0]].payload == payload  # what ingest finds unchanged
    store.close()
    shard = tmp_path / "store" / "kindred" / f"kindred-{fingerprint(first.info)}"
    recorded = json.loads((shard / "encoder.json").read_text())
    assert EncoderInfo.model_validate(recorded) == first.info  # as it was first recorded


# --- the embedded engine alone ----------------------------------------------------------------


WORKER = """
import sys
from pathlib import Path
import numpy as np
from pipeline.base.identity import point_id
from pipeline.messages import EncoderInfo
from pipeline.store import Points
from pipeline.store.edge import EdgeStore

encoder = EncoderInfo.model_validate_json(sys.argv[2])
store = EdgeStore(Path(sys.argv[1]), "kindred", encoder, {"dx": "keyword"})
for start in range(0, 10**9, 64):
    rows = range(start, start + 64)
    vectors = np.random.default_rng(start).normal(size=(64, encoder.dimensions)).astype(np.float32)
    payloads = [{"dx": "nv", "row": row} for row in rows]
    store.upsert(Points([point_id(str(row)) for row in rows], vectors, payloads))
    print(start + 64, flush=True)
"""


@contextmanager
def other_worker(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that owns the store in `folder`, writes, and prints how much it has written."""
    command = [sys.executable, "-c", WORKER, str(folder), ENCODER.model_dump_json()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_second_worker_is_told_who_owns_the_store_and_a_killed_one_loses_nothing(tmp_path: Path):
    with other_worker(tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "64\n"
        with pytest.raises(StoreLocked) as caught:
            EdgeStore(tmp_path, "kindred", ENCODER, {})
        assert f"process {process.pid} " in str(caught.value)
        assert str(tmp_path) in str(caught.value)
        assert "KINDRED_DATA" in str(caught.value)
        for line in process.stdout:
            if int(line) >= 2048:
                process.send_signal(signal.SIGKILL)
                break
        acknowledged = int((process.stdout.read().split() or [line])[-1])
    store = EdgeStore(tmp_path, "kindred", ENCODER, {"dx": "keyword"})
    records = store.retrieve([point_id(str(row)) for row in range(acknowledged)])
    assert [records[point_id(str(row))].payload["row"] for row in range(acknowledged)] == list(
        range(acknowledged)
    )
    assert store.count() == store.facet("dx")[0][1] >= acknowledged
    store.close()


def test_a_store_that_cannot_be_opened_is_unavailable_and_releases_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As on a full disk: the engine's bare exception must not look like a fault of the worker's."""

    def refuse(*_: object) -> None:
        raise Exception("No space left on device")

    with monkeypatch.context() as patched, pytest.raises(StoreUnavailable):
        patched.setattr("pipeline.store.edge_folder.add_indexes", refuse)
        EdgeStore(tmp_path, "kindred", ENCODER, {})
    EdgeStore(tmp_path, "kindred", ENCODER, {}).close()


def test_the_engines_own_lock_is_told_too(tmp_path: Path):
    store = EdgeStore(tmp_path, "kindred", ENCODER, {})
    (tmp_path / "lock").unlink()  # as a clean-up job might, while the worker lives
    with pytest.raises(StoreLocked, match="not Kindred"):
        EdgeStore(tmp_path, "kindred", ENCODER, {})
    store.close()


def test_a_start_that_was_cut_off_is_finished_by_the_next(tmp_path: Path):
    shard = f"kindred-{fingerprint(ENCODER)}"
    (tmp_path / f".{shard}.part" / "segments").mkdir(parents=True)
    EdgeStore(tmp_path, "kindred", ENCODER, {}).close()
    (tmp_path / "alias.json").unlink()
    EdgeStore(tmp_path, "kindred", ENCODER, {}).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alias.json", shard, "lock"]
    assert json.loads((tmp_path / "alias.json").read_text()) == {"shard": shard}
    assert json.loads((tmp_path / shard / "encoder.json").read_text()) == ENCODER.model_dump()


@pytest.mark.parametrize("generation", ["", ".2"])
def test_a_folder_named_by_an_older_version_goes_on(tmp_path: Path, generation: str):
    """Older versions hashed the model's path too."""
    shard, older = f"kindred-{fingerprint(ENCODER)}", f"kindred-0123456789ab{generation}"
    store = EdgeStore(tmp_path, "kindred", ENCODER, {})
    store.upsert(make(3).points)
    store.close()
    (tmp_path / shard).rename(tmp_path / older)
    (tmp_path / "alias.json").write_text(json.dumps({"shard": older}))

    store = EdgeStore(tmp_path, "kindred", MOVED, {})

    assert store.count() == 3
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alias.json", older, "lock"]
    with pytest.raises(EncoderMismatch):
        EdgeStore(tmp_path, "kindred", OTHER, {})


def test_the_embedded_store_takes_no_writes_onto_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine would end the process: it writes through mapped files."""
    store = EdgeStore(tmp_path, "kindred", ENCODER, {})
    point = uuid4()
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=4096))
        with pytest.raises(StoreUnavailable, match="full"):
            store.delete([point])
        assert store.count() == 0
    store.delete([point])
    store.close()


def test_a_closed_store_says_so(tmp_path: Path):
    settings = Settings(data=tmp_path, indexed_fields="dx=keyword")
    store = open_store(settings.store, ENCODER)
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable):
        store.count()
    with pytest.raises(StoreUnavailable):
        store.delete([uuid4()])
    assert (tmp_path / "store" / "kindred" / "alias.json").exists()


# --- the server's code alone ------------------------------------------------------------------


@pytest.mark.skipif(not real_qdrant.URL, reason="KINDRED_TEST_QDRANT_URL names no Qdrant server")
def test_the_suite_ran_against_a_server_and_leaves_it_as_it_was():
    assert {"server", "server over REST"} <= BACKENDS.keys()
    client, other = real_qdrant.client(), f"kindred-other-{uuid4().hex[:8]}"
    vectors = models.VectorParams(size=4, distance=models.Distance.DOT)
    client.create_collection(other, vectors_config=vectors)
    with real_qdrant.collection() as open_:
        store = open_(ENCODER, INDEXES)
        store.upsert(make(3).points)
        name, alias = store._name, store._name.rpartition("-")[0]
        assert client.collection_exists(name)
    assert not client.collection_exists(name)
    assert alias not in {each.alias_name for each in client.get_aliases().aliases}
    assert client.collection_exists(other)
    client.delete_collection(other)
    client.close()


def test_a_server_that_cannot_be_reached_is_named_unavailable():
    """On ports of its own, which nobody listens on: a server may run on Qdrant's own."""
    with socket.socket() as http, socket.socket() as grpc:
        for owned in (http, grpc):
            owned.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{http.getsockname()[1]}"
        settings = Settings(
            qdrant_url=url, qdrant_api_key=None, qdrant_grpc_port=grpc.getsockname()[1]
        )
        with pytest.raises(StoreUnavailable, match="UNAVAILABLE"):
            open_store(settings.store, ENCODER)


def test_a_collection_named_by_an_older_version_goes_on():
    """Older versions hashed the model's path too."""
    client, older = MemoryQdrant(), "kindred-0123456789ab"
    vectors = models.VectorParams(size=DIMENSIONS, distance=models.Distance.COSINE)
    recorded = {"encoder": ENCODER.model_dump(mode="json")}
    client.create_collection(older, vectors_config=vectors, metadata=recorded)
    alias = models.CreateAlias(collection_name=older, alias_name="kindred")
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    ServerStore(client, "kindred", ENCODER, {}).upsert(make(3).points)

    assert ServerStore(client, "kindred", MOVED, {}).count() == 3

    assert [held.name for held in client.get_collections().collections] == [older]
    assert client.get_collection(older).config.metadata == recorded
    with pytest.raises(EncoderMismatch):
        ServerStore(client, "kindred", OTHER, {})


@pytest.mark.parametrize(
    ("status", "expected"), [(400, InvalidQuery), (422, InvalidQuery), (500, StoreUnavailable)]
)
def test_what_a_server_says_of_a_filter_is_not_repeated(
    status: int, expected: type[KindredError], monkeypatch: pytest.MonkeyPatch
):
    client = MemoryQdrant()
    store = ServerStore(client, "kindred", ENCODER, {})

    def refuse(*args: Any, **options: Any) -> None:
        raise UnexpectedResponse(status, "", b"no such name: Lovelace", httpx.Headers())

    monkeypatch.setattr(client, "query_batch_points", refuse)
    with pytest.raises(expected) as caught:
        store.query([Query(VECTOR, limit=1)])
    assert "Lovelace" not in str(caught.value)
    assert str(status) in str(caught.value)
    assert getattr(caught.value, "path", ("filter",)) == ("filter",)
    store.close()


def test_a_collection_of_somebody_elses_is_left_alone():
    client = MemoryQdrant()
    vectors = models.VectorParams(size=4, distance=models.Distance.DOT)
    client.create_collection("kindred", vectors_config=vectors)
    with pytest.raises(Conflict, match="KINDRED_COLLECTION"):
        ServerStore(client, "kindred", ENCODER, {})
    client.close()
