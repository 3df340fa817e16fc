"""A series as a unit of search: each frame's best match, averaged; exact, by all of its images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.base.errors import InvalidQuery
from pipeline.base.identity import point_id
from pipeline.messages import SearchQuery
from pipeline.messages.filters import FieldCondition, Filter, Match
from pipeline.retrieval import matching
from pipeline.retrieval.matching import best_match
from pipeline.store import Points, Query
from pipeline.store.edge import EdgeStore
from tests.encoders import DIMENSIONS, ENCODER

INDEXES = {"series_id": "keyword", "modality": "keyword"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EdgeStore]:
    opened = EdgeStore(tmp_path / "store", "kindred", ENCODER, INDEXES)
    yield opened
    opened.close()


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def fill(store: EdgeStore, series: list[Any], seed: int = 7) -> np.ndarray:
    """An image of each of `series`, with a vector drawn around its series'."""
    random = np.random.default_rng(seed)
    centres = {name: random.normal(size=DIMENSIONS) for name in series}
    vectors = np.stack([centres[name] + random.normal(size=DIMENSIONS) for name in series])
    payloads = [
        {"image_id": str(n), "modality": "MR", **({"series_id": name} if name else {})}
        for n, name in enumerate(series)
    ]
    ids = [point_id(str(n)) for n in range(len(series))]
    store.upsert(Points(ids, unit(vectors), payloads))
    return unit(vectors)


def expected(frames: np.ndarray, vectors: np.ndarray, series: list[Any]) -> dict[Any, float]:
    """The definition itself: the mean over the frames of the cosine to the nearest image."""
    cosines = frames @ vectors.T
    groups = {name: [n for n, one in enumerate(series) if one == name] for name in set(series)}
    return {name: float(cosines[:, rows].max(axis=1).mean()) for name, rows in groups.items()}


@pytest.mark.parametrize("shortest", [4, 64])
def test_the_order_is_that_of_the_definition(
    store: EdgeStore, shortest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "SHORTEST", shortest)
    series = [f"series {n % 40}" for n in range(400)]
    vectors = fill(store, series)
    frames = unit(np.random.default_rng(1).normal(size=(8, DIMENSIONS)))

    found = best_match(store, frames, Query(frames[0], 10), "series_id", wanted=12)

    scores = expected(frames, vectors, series)
    assert [f.score for f in found] == pytest.approx(sorted(scores.values())[::-1][:12], abs=1e-5)
    first, own = found[0].images[0]
    row = next(n for n in range(400) if point_id(str(n)) == first)
    assert scores[series[row]] == pytest.approx(found[0].score, abs=1e-5)
    assert own == pytest.approx(float((frames @ vectors[row]).max()), abs=1e-5)


def test_an_image_without_a_series_is_a_group_of_its_own(store: EdgeStore) -> None:
    vectors = fill(store, [None, None, "a", "a"])
    found = best_match(store, vectors[:1], Query(vectors[0], 10), "series_id", wanted=10)
    assert [len(group.images) for group in found].count(1) == 2
    assert found[0].images[0] == (point_id("0"), pytest.approx(1.0, abs=1e-5))


def test_what_a_filter_leaves_out_does_not_count(store: EdgeStore) -> None:
    series = ["a", "a", "b"]
    vectors = fill(store, series)
    store.set_payloads({point_id("0"): {"image_id": "0", "series_id": "a", "modality": "CT"}})
    only = Filter(must=(FieldCondition(key="modality", match=Match(value="MR")),))
    query = Query(vectors[0], 10, filter=only)
    found = best_match(store, vectors[:1], query, "series_id", wanted=10)
    images = {image for group in found for image, _ in group.images}
    assert images == {point_id("1"), point_id("2")}


def test_a_threshold_is_of_the_mean(store: EdgeStore) -> None:
    series = ["a", "a", "b", "b"]
    vectors = fill(store, series)
    scores = sorted(expected(vectors[:2], vectors, series).values())
    between = (scores[0] + scores[1]) / 2
    query = Query(vectors[0], 10, score_threshold=between)
    assert len(best_match(store, vectors[:2], query, "series_id", wanted=10)) == 1


def test_reading_is_bounded(store: EdgeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a series of endless images some are compared: an answer comes all the same."""
    monkeypatch.setattr(matching, "MOST_VECTORS", 10)
    monkeypatch.setattr(matching, "_PAGE", 10)
    vectors = fill(store, ["a"] * 30 + ["b"])
    found = best_match(store, vectors[:1], Query(vectors[0], 10), "series_id", wanted=5)
    assert len(found[0].images) <= 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"series": ["1.2.3"], "strategy": "best_score"},
        {"series": ["1.2.3"], "negative": ["a"]},
        {"positive": ["a"], "negative": ["b"], "strategy": "best_match"},
        {"series": ["1.2.3"], "max_hash_distance": 4},
        {"series": []},
        {"frame": 0},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SearchQuery.model_validate(wrong)


@pytest.mark.parametrize(
    ("query", "pictures"),
    [
        ({"series": ["1.2.3"]}, 1),
        ({"series": ["1.2.3"], "study": ["1.2.4"]}, 0),
        ({"image_id": "a", "frame": 2}, 0),
        ({"text": "a mole", "strategy": "best_match"}, 0),
        ({"not_same": "patient_id"}, 1),
    ],
)
def test_a_target_and_its_options_must_fit(query: dict[str, Any], pictures: int) -> None:
    with pytest.raises(InvalidQuery):
        SearchQuery.model_validate(query).check_target(pictures)
