"""What a similarity means: curves against a hand-computed case, scikit-learn and simulations."""

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from pipeline.evaluation.calibration import IN_STEP, calibrate, least_score
from pipeline.evaluation.collected import Collected
from pipeline.evaluation.neighbours import Neighbours, nearest
from pipeline.messages.evaluations import Calibrated

NAMES = {0: "nevus", 1: "melanoma", 2: "rare"}


def neighbours(scores: np.ndarray, labels: np.ndarray) -> Neighbours:
    none = np.full(labels.shape, -1)
    return Neighbours(scores.astype(np.float32), labels, none, none, none)


def curves(
    scores: np.ndarray, agree: np.ndarray, groups: Sequence[int] | None = None
) -> tuple[Calibrated, ...]:
    """Of (q, k) scores: the searched images are nevi, and a neighbour that disagrees a melanoma."""
    count = len(scores)
    labels = np.where(agree, 0, 1)
    return calibrate(
        neighbours(scores, labels),
        np.zeros(count, np.int64),
        np.arange(count) if groups is None else np.array(groups),
        NAMES,
    )


def some_agree(shares: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """A step of neighbours for each share: of exactly so many of them the label is the same."""
    scores = np.concatenate([np.full(IN_STEP, n / 10) for n in range(len(shares))])
    agree = np.concatenate([np.arange(IN_STEP) < share * IN_STEP for share in shares])
    return scores[:, None], agree[:, None]


def test_a_curve_never_falls_and_pools_what_would() -> None:
    [every, *_] = curves(*some_agree((0.1, 0.6, 0.2, 0.9)))
    assert every.label is None
    assert [point.share for point in every.points] == [0.1, 0.4, 0.4, 0.9]
    assert [point.score for point in every.points] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert [point.neighbours for point in every.points] == [IN_STEP] * 4
    assert all(point.low <= point.share <= point.high for point in every.points)


def test_it_is_what_scikit_learn_makes_of_single_neighbours() -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(0, 1, (2000, 10))
    agree = random.random((2000, 10)) < 0.2 + 0.6 * scores**2

    points = curves(scores, agree)[0].points
    single = IsotonicRegression(out_of_bounds="clip").fit(scores.ravel(), agree.ravel())

    assert len(points) == 30
    expected = single.predict([point.score for point in points])
    assert np.abs(np.array([point.share for point in points]) - expected).max() < 0.03


@pytest.mark.parametrize("cluster", [1, 4])
def test_intervals_hold_what_is_true_in_19_of_20_collections(cluster: int) -> None:
    """Also where the images of a group agree together, which an interval over images misses."""
    held = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        groups = np.repeat(np.arange(150), cluster)
        scores = random.uniform(0, 1, (len(groups), 5))
        luck = np.repeat(random.random((150, 5)), cluster, axis=0)
        points = curves(scores, luck < 0.1 + 0.8 * scores, groups)[0].points
        inner = points[1:-1]
        held += [p.low <= 0.1 + 0.8 * p.score <= p.high for p in inner]
    assert 0.93 <= np.mean(held) <= 0.985


def test_a_score_that_says_nothing_has_a_flat_curve() -> None:
    random = np.random.default_rng(0)
    points = curves(random.uniform(0, 1, (1500, 10)), random.random((1500, 10)) < 0.4)[0].points
    assert all(point.low <= 0.42 and point.high >= 0.38 for point in points)
    assert points[-2].share - points[1].share < 0.08


@pytest.mark.parametrize("planted", [True, False])
def test_a_planted_collection_comes_out_as_it_was_planted(planted: bool) -> None:
    """Of two labels that lie apart, the nearest agree; under shuffled labels none says anything."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 800)
    centres = random.normal(size=(2, 16))
    vectors = centres[labels] + random.normal(size=(800, 16)) * 1.2
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    said = labels if planted else random.permutation(labels)
    numbers, none = np.arange(800), np.full(800, -1)
    images = Collected(
        ids=tuple(map(str, numbers)),
        keys=numbers,
        vectors=vectors.astype(np.float32),
        labels=said,
        groups=numbers // 2,
        patients=none,
        digests=none,
        hashes=np.zeros((800, 32), np.uint8),
    )
    points = calibrate(nearest(images, [images]), said, images.groups, NAMES)[0].points
    if planted:
        assert points[-1].low > points[0].high, "more similar is closer"
        assert points[-1].share > 0.95
    else:
        assert all(point.low <= 0.55 and point.high >= 0.45 for point in points)


def test_where_all_agree_the_bound_is_that_of_so_many_groups() -> None:
    scores, agree = some_agree((0.5, 0.5, 1.0))
    top = curves(scores, agree)[0].points[-1]
    assert (top.share, top.high) == (1, 1)
    assert top.low == pytest.approx(0.025 ** (1 / IN_STEP), abs=1e-4)
    bottom = curves(scores, ~agree)[0].points[0]
    assert bottom.share > 0, "the curve of the opposite falls, so it is one pool"


def test_a_label_with_enough_neighbours_has_a_curve_of_its_own() -> None:
    """Of melanomas among neighbours fewer agree, since fewer images are melanomas."""
    random = np.random.default_rng(0)
    labels = (random.random(2000) < 0.1).astype(np.int64)
    scores = random.uniform(0, 1, (2000, 5))
    same = random.random((2000, 5)) < scores
    others = (random.random((2000, 5)) < 0.1).astype(np.int64)
    theirs = np.where(same, labels[:, None], others)
    theirs[:3, 0] = 2

    found = {
        curve.label: curve.points
        for curve in calibrate(neighbours(scores, theirs), labels, np.arange(2000), NAMES)
    }

    assert list(found) == [None, "nevus", "melanoma"]
    for label, points in found.items():
        mine = np.ones_like(same) if label is None else theirs == (label == "melanoma")
        agree = (theirs == labels[:, None])[mine]
        counted = sum(point.neighbours for point in points)
        assert counted == mine.sum()
        assert sum(p.share * p.neighbours for p in points) / counted == pytest.approx(
            agree.mean(), abs=1e-3
        )
    assert found["melanoma"][0].share < 0.3 < 0.7 < found["nevus"][0].share


def test_without_a_label_nothing_counts_and_with_little_there_is_no_curve() -> None:
    scores, agree = some_agree((0.1, 0.5, 0.9))
    labels = np.zeros(300, np.int64)
    theirs = np.where(agree, 0, 1)
    with_none = np.concatenate([scores, scores], axis=1)
    padded = np.concatenate([theirs, np.full((300, 1), -1)], axis=1)
    [every, *_] = calibrate(neighbours(with_none, padded), labels, np.arange(300), NAMES)
    assert [point.share for point in every.points] == [0.1, 0.5, 0.9]

    unknown = np.where(np.arange(300) < 10, -1, 0)
    assert calibrate(neighbours(scores, theirs), unknown, np.arange(300), NAMES) == ()
    few = np.arange(300) % 40
    assert calibrate(neighbours(scores, theirs), labels, few, NAMES) == (), "of 40 lesions"


def test_the_least_score_leaves_out_a_stray_neighbour() -> None:
    scores = np.linspace(0.8, 0.9, 1000)[:, None]
    scores[0] = 0.1
    none = np.full((1000, 1), -np.inf)
    found = neighbours(np.concatenate([scores, none], axis=1), np.zeros((1000, 2), np.int64))
    assert least_score(found) == pytest.approx(0.8005, abs=1e-3)
