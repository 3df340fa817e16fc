"""How close hits are: what is kept of an evaluation, when it is void, and what searches say."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from pipeline.base.blobs import Blobs
from pipeline.base.errors import InvalidQuery
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from pipeline.evaluation import closeness
from pipeline.evaluation.closeness import Calibration, Calibrations, Kept, keep
from pipeline.images.decoders import Decoders
from pipeline.messages import Hit, SearchQuery
from pipeline.messages.evaluations import Calibrated, CalibrationPoint
from pipeline.operations.facets import COLLECTION, CollectionRequest
from pipeline.operations.search import (
    BATCH,
    SEARCH,
    BatchAnswer,
    BatchRequest,
    SearchAnswer,
    SearchRequest,
)
from pipeline.retrieval.fields import Fields
from pipeline.retrieval.targets import QueryTargets
from pipeline.store.edge import EdgeStore
from tests.decoders import InlineDecoders
from tests.encoders import ENCODER
from tests.unit.test_same_lesion import GreyEncoder
from tests.unit.test_search import INDEXES, Opened, index

# Images 0 to 9 turn away from image 0: their cosines to it fall from 1 to 0.
IMAGES: list[dict[str, Any]] = [
    {"dx": "melanoma" if n % 2 else "nevus", "lesion_id": f"L{n // 2}"} for n in range(10)
]


class SameEncoder(GreyEncoder):
    untrained = False
    reads_text = False


def point(score: float, share: float, neighbours: int = 100) -> CalibrationPoint:
    return CalibrationPoint(
        score=score, share=share, low=share - 0.1, high=share + 0.1, neighbours=neighbours
    )


KEPT = Kept(
    evaluation="e1",
    created_at=datetime(2026, 11, 1, tzinfo=UTC),
    encoder=ENCODER,
    label="dx",
    group="lesion_id",
    images=10,
    least_score=0.3,
    curves=(
        Calibrated(label=None, points=(point(0.5, 0.4), point(0.9, 0.8, 300))),
        Calibrated(label="melanoma", points=(point(0.5, 0.2), point(0.9, 0.6))),
    ),
)


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Opened]:
    settings = Settings(data=tmp_path, indexed_fields=INDEXES)
    store = EdgeStore(tmp_path / "store", "kindred", ENCODER, settings.indexed_fields)
    blobs = Blobs(str(tmp_path / "blobs"))
    encoder = cast(Encoder, SameEncoder())
    targets = QueryTargets(encoder, store, blobs, cast(Decoders, InlineDecoders()))
    yield Opened(store, Fields(store, settings.indexed_fields), targets)
    store.close()


@pytest.fixture
def evaluated(answers: Opened) -> Opened:
    index(answers, IMAGES)
    keep(answers.calibrations.blobs, KEPT)
    return answers


def searched(answers: Opened, **query: Any) -> SearchAnswer:
    search = SearchQuery.model_validate({"image_id": "0", **query})
    answer: SearchAnswer = answers.answer(SEARCH, SearchRequest(query=search))
    return answer


def by_id(answer: SearchAnswer) -> dict[str, Hit]:
    return {hit.image_id: hit for hit in answer.results or ()}


# --- what is kept ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "label", "share", "neighbours"),
    [
        (0.5, "nevus", 0.4, 100),
        (0.6, "nevus", 0.5, 100),
        (0.8, None, 0.7, 300),
        (0.99, "nevus", 0.8, 300),
        (0.3, "nevus", 0.4, 100),
        (0.7, "melanoma", 0.4, 100),
    ],
)
def test_between_points_a_curve_is_a_line_and_beyond_them_it_stays(
    score: float, label: str | None, share: float, neighbours: int
) -> None:
    found = Calibration(KEPT).closeness(score, label)
    assert found is not None
    assert found.share == pytest.approx(share)
    assert (found.low, found.high) == pytest.approx((share - 0.1, share + 0.1))
    assert found.neighbours == neighbours
    assert found.label == ("melanoma" if label == "melanoma" else None)


def test_of_what_is_less_similar_than_all_neighbours_nothing_is_known() -> None:
    assert Calibration(KEPT).closeness(0.29, "nevus") is None


def test_it_is_void_for_another_encoder_and_where_a_fifth_came_or_went(tmp_path: Path) -> None:
    blobs, count = Blobs(str(tmp_path)), 100
    keep(blobs, KEPT.model_copy(update={"images": 100}))

    def void(**changes: Any) -> str | None:
        encoder = ENCODER.model_copy(update=changes)
        current = Calibrations(blobs, encoder, lambda: count).current()
        assert current is not None
        return current.void

    assert void() is None
    assert void(model="elsewhere/vit", revision="2") is None, "the same weights"
    assert void(weights_sha256="cd" * 32) == "encoder"
    for count, expected in (
        (80, None),
        (120, None),
        (79, "images"),
        (121, "images"),
        (0, "images"),
    ):
        assert void() == expected, count


def test_it_is_read_seldom_and_a_new_evaluation_shows_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, counted, now = Blobs(str(tmp_path)), [], [100.0]
    monkeypatch.setattr(closeness.time, "monotonic", lambda: now[0])
    calibrations = Calibrations(blobs, ENCODER, lambda: counted.append(1) or 10)
    assert calibrations.current() is None
    keep(blobs, KEPT)
    assert calibrations.current() is None
    now[0] += closeness.LOOK_SECONDS
    found = [calibrations.current() for _ in range(50)]
    assert found[0] is not None
    assert found[0].kept == KEPT
    assert len(counted) == 1


def test_what_a_newer_version_keeps_is_read_or_else_none(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    body = KEPT.model_dump_json()[:-1] + ', "added": {"later": 1}}'
    blobs.write("calibration/closeness.json", body.encode())
    assert Calibrations(blobs, ENCODER, lambda: 10).current() == Calibration(KEPT)
    blobs.write("calibration/closeness.json", b'{"curves": "elsewhere"}')
    assert Calibrations(blobs, ENCODER, lambda: 10).current() is None


# --- searches ----------------------------------------------------------------------------------


def test_a_hit_says_how_close_it_is_by_its_own_label(evaluated: Opened) -> None:
    answer = searched(evaluated)
    hits = by_id(answer)
    assert answer.closeness is not None
    assert (answer.closeness.evaluation, answer.closeness.label) == ("e1", "dx")
    assert answer.no_close_match is None
    calibration = Calibration(KEPT)
    for name, hit in hits.items():
        own = name in ("0", "1")  # the searched image and its lesion
        expected = None if own else calibration.closeness(hit.score, hit.payload["dx"])
        assert hit.closeness == expected, name
        assert hit.close is None
    assert hits["3"].closeness is not None
    assert hits["3"].closeness.label == "melanoma"
    assert hits["9"].closeness is None, "its cosine is 0"


def test_a_least_closeness_marks_and_drops_nothing(evaluated: Opened) -> None:
    everything = searched(evaluated)
    answer = searched(evaluated, min_closeness=0.65)
    assert [hit.image_id for hit in answer.results or ()] == [str(n) for n in range(10)]
    assert [hit.score for hit in answer.results or ()] == [
        h.score for h in everything.results or ()
    ]
    close = {name: hit.close for name, hit in by_id(answer).items()}
    assert close == {"0": None, "1": None, "2": True, "4": True} | dict.fromkeys(
        ("3", "5", "6", "7", "8", "9"), False
    )
    assert answer.no_close_match is False
    assert searched(evaluated, min_closeness=0.95).no_close_match is True
    only = searched(evaluated, min_closeness=0.1, ids=["0", "1"])
    assert only.no_close_match is True, "its own lesion is no match"


def test_copies_say_nothing(evaluated: Opened) -> None:
    """An evaluation leaves them out, and whoever searches by a copy learns nothing from it."""
    vector = tuple(np.eye(1, 16, 0)[0])
    answer = searched(evaluated, image_id=None, vector=vector, min_closeness=0.1)
    hits = by_id(answer)
    assert hits["0"].closeness is None
    assert hits["0"].close is None
    assert hits["1"].close is True


def test_fields_that_are_not_wanted_are_read_and_not_shown(evaluated: Opened) -> None:
    hit = by_id(searched(evaluated, include=["image_id"]))["3"]
    assert hit.payload == {"image_id": "3"}
    assert hit.closeness is not None
    assert hit.closeness.label == "melanoma"
    hit = by_id(searched(evaluated, exclude=["dx"]))["3"]
    assert set(hit.payload) == {"image_id", "lesion_id"}
    assert hit.closeness is not None
    assert hit.closeness.label == "melanoma"


def test_groups_and_near_duplicates_say_it_too(evaluated: Opened) -> None:
    grouped = by_id(searched(evaluated, group_by="lesion_id", group_size=2))
    assert grouped["2"].closeness is not None
    assert [other.closeness is not None for other in grouped["2"].others or ()] == [True]
    assert grouped["0"].closeness is None
    assert searched(evaluated, max_hash_distance=256).results == ()


@pytest.mark.parametrize(
    "query",
    [
        {"positive": ["0", "2"]},
        {"positive": ["0"], "negative": ["9"]},
        {"positive": ["0"], "strategy": "best_score"},
    ],
)
def test_scores_of_another_kind_have_none(evaluated: Opened, query: dict[str, Any]) -> None:
    hits = searched(evaluated, image_id=None, **query).results
    assert hits
    assert all(hit.closeness is None for hit in hits)
    with pytest.raises(InvalidQuery) as refusal:
        searched(evaluated, image_id=None, **query, min_closeness=0.5)
    assert refusal.value.path == ("min_closeness",)


def test_words_and_bounds_are_refused() -> None:
    for query in ({"text": "a mole"}, {"series": ["1.2"]}):
        with pytest.raises(InvalidQuery, match="one image"):
            SearchQuery.model_validate({**query, "min_closeness": 0.5}).check_target(0)
    SearchQuery(min_closeness=0.5).check_target(1)
    for least in (-0.1, 1.1):
        with pytest.raises(ValidationError):
            SearchQuery(image_id="0", min_closeness=least)


def test_without_a_calibration_searches_go_on_and_a_level_is_refused(answers: Opened) -> None:
    index(answers, IMAGES)
    answer = searched(answers)
    assert answer.closeness is None
    assert "clos" not in answer.model_dump_json()
    with pytest.raises(InvalidQuery, match="run `kindred evaluate`") as refusal:
        searched(answers, min_closeness=0.5)
    assert refusal.value.path == ("min_closeness",)
    assert answers.answer(COLLECTION, CollectionRequest()).closeness is None


def test_a_void_one_says_to_evaluate_again(answers: Opened) -> None:
    index(answers, IMAGES)
    keep(answers.calibrations.blobs, KEPT.model_copy(update={"images": 100}))
    answer = searched(answers)
    assert answer.closeness is None
    assert all(hit.closeness is None for hit in answer.results or ())
    with pytest.raises(InvalidQuery, match="run `kindred evaluate` again"):
        searched(answers, min_closeness=0.5)
    collection = answers.answer(COLLECTION, CollectionRequest())
    assert collection.closeness.void == "images"


def test_a_picture_that_is_sent_is_one_image(evaluated: Opened) -> None:
    file = io.BytesIO()
    Image.new("L", (4, 4), 200).save(file, "PNG")
    evaluated.search.targets.blobs.write("sent", file.getvalue())
    query = SearchQuery(min_closeness=0.1, limit=10)
    answer = evaluated.answer(SEARCH, SearchRequest(query=query, images=("sent",)))
    assert answer.closeness is not None
    assert answer.no_close_match is not None
    assert any(hit.closeness for hit in answer.results) or answer.no_close_match
    two = SearchRequest(query=SearchQuery(), images=("sent", "sent"))
    assert all(hit.closeness is None for hit in evaluated.answer(SEARCH, two).results)


def test_each_search_of_a_batch_is_judged_alone(evaluated: Opened) -> None:
    searches = (
        SearchQuery(image_id="0"),
        SearchQuery(image_id="0", min_closeness=0.95),
        SearchQuery(image_id="none", min_closeness=0.5),
        SearchQuery(image_id="0", min_closeness=0.5),
    )
    answer: BatchAnswer = evaluated.answer(BATCH, BatchRequest(searches=searches))
    assert answer.no_close_match == (None, True, None, False)
    assert answer.closeness is not None
    plain = evaluated.answer(BATCH, BatchRequest(searches=searches[:1]))
    assert "no_close_match" not in plain.model_dump_json()
