"""Metrics against cases computed by hand and against scikit-learn; intervals against simulation."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.stats import beta, binom
from sklearn.metrics import average_precision_score, balanced_accuracy_score, ndcg_score
from sklearn.neighbors import KNeighborsClassifier

from pipeline.evaluation.collected import Collected
from pipeline.evaluation.histogram import histogram
from pipeline.evaluation.intervals import estimate
from pipeline.evaluation.metrics import of_chance, of_neighbours, vote
from pipeline.evaluation.near_duplicates import signs
from pipeline.evaluation.neighbours import Nearest, Neighbours, nearest
from pipeline.evaluation.thresholds import at_thresholds
from pipeline.images.hashes import hash_distance
from tests.conftest import SHARED

NONE = -1


def numbers(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.int64)


# --- metrics --------------------------------------------------------------------------------------


def test_a_case_computed_by_hand() -> None:
    """Label 1, found at ranks 1, 3 and 4; 4 other images have it."""
    found = numbers([1, 0, 1, 1, 0, 0, 2, 0, 0, 0])
    scores = np.linspace(0.9, 0.1, 10, dtype=np.float32)[None]

    values = of_neighbours(np.array([1]), found, scores, np.array([4]))

    ideal = 1 + 1 / np.log2(3) + 1 / 2 + 1 / np.log2(5)
    assert {name: float(value[0]) for name, value in values.items()} == pytest.approx(
        {
            "precision_at_1": 1.0,
            "precision_at_5": 3 / 5,
            "precision_at_10": 3 / 10,
            "map_at_10": (1 / 1 + 2 / 3 + 3 / 4) / 4,
            "ndcg_at_10": (1 + 1 / 2 + 1 / np.log2(5)) / ideal,
            "balanced_accuracy": 0.0,  # six votes for 0
        }
    )


def test_an_order_that_cannot_be_better_has_one_and_one_without_hits_has_nothing() -> None:
    scores = np.zeros((2, 10), np.float32)
    best, none = [1, 1, 1] + [0] * 7, [0] * 10

    values = of_neighbours(np.array([1, 1]), numbers(best, none), scores, np.array([3, 3]))

    assert [*values["map_at_10"]] == [*values["ndcg_at_10"]] == pytest.approx([1, 0])


def test_they_are_those_of_scikit_learn() -> None:
    """Where 10 images are all that there are: its averages go over all ranks."""
    random = np.random.default_rng(1)
    labels, found = random.integers(0, 3, 60), random.integers(0, 3, (60, 10))
    scores = -np.sort(-random.random((60, 10)), axis=1).astype(np.float32)
    relevant = (found == labels[:, None]).sum(1)
    labels, found, scores = labels[relevant > 0], found[relevant > 0], scores[relevant > 0]

    values = of_neighbours(labels, found, scores, relevant[relevant > 0])

    hits = found == labels[:, None]
    expected = [average_precision_score(h, s) for h, s in zip(hits, scores, strict=True)]
    assert values["map_at_10"] == pytest.approx(np.array(expected))
    expected = [ndcg_score(h[None].astype(int), s[None]) for h, s in zip(hits, scores, strict=True)]
    assert values["ndcg_at_10"] == pytest.approx(np.array(expected))


def test_the_vote_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(2)
    labels = random.integers(0, 4, 150)
    vectors = random.normal(size=(4, 6))[labels] + random.normal(size=(150, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1)[:, :10]
    scores = np.take_along_axis(cosines, order, 1).astype(np.float32)

    ours = vote(labels[order], scores)

    theirs, tied = [], []
    for row in range(150):
        rest = np.arange(150) != row
        model = KNeighborsClassifier(10, metric="cosine").fit(vectors[rest], labels[rest])
        theirs.append(model.predict(vectors[[row]])[0])
        shares = np.sort(model.predict_proba(vectors[[row]])[0])
        tied.append(shares[-1] == shares[-2])
    clear = ~np.array(tied)
    assert clear.mean() > 0.7
    assert (ours == np.array(theirs))[clear].all()

    values = of_neighbours(labels, labels[order], scores, np.full(150, 30))
    found = estimate(values["balanced_accuracy"][:, None], labels, np.arange(150), 4)
    expected = balanced_accuracy_score(labels, ours)
    assert found.macro[0].value == pytest.approx(expected)


def test_a_tie_goes_to_the_more_similar_and_padding_has_no_vote() -> None:
    scores = np.array([[0.9, 0.75, 0.5, 0.25]], np.float32)
    assert [*vote(numbers([1, 2, 2, 1]), scores)] == [2]  # 1.25 to 1.15
    assert [*vote(numbers([1, 2, 1, 2]), scores)] == [1]
    scores[0, 2:] = -np.inf
    assert [*vote(numbers([2, 1, NONE, NONE]), scores)] == [2]
    assert [*vote(numbers([NONE] * 4), np.full((1, 4), -np.inf, np.float32))] == [NONE]


def test_chance_is_the_mean_over_all_orders() -> None:
    """Of 14 images, of which 3 have the label."""
    random, pool = np.random.default_rng(0), np.array([1] * 3 + [0] * 11)
    found = np.stack([random.permutation(pool)[:10] for _ in range(40_000)])
    drawn = of_neighbours(np.ones(40_000, int), found, np.zeros(found.shape), np.full(40_000, 3))

    expected = of_chance(np.array([3]), np.array([14]))

    for name in ("precision_at_1", "precision_at_10", "map_at_10", "ndcg_at_10"):
        assert expected[name][0] == pytest.approx(drawn[name].mean(), abs=0.008), name


# --- intervals ------------------------------------------------------------------------------------


def test_means_are_over_images_classes_and_images_of_a_class() -> None:
    values = np.array([[1.0], [0.0], [0.0], [1.0]])
    found = estimate(values, np.array([0, 0, 0, 1]), np.array([7, 7, 9, 8]), 3)

    assert found.overall[0].value == pytest.approx(1 / 2)
    assert [each[0].value for each in found.classes] == pytest.approx([1 / 3, 1.0, None])
    assert found.macro[0].value == pytest.approx((1 / 3 + 1) / 2)


def test_intervals_hold_the_truth_about_95_times_of_100() -> None:
    """Groups of 1 to 6 images that are alike. An interval over images would be far too narrow."""
    random, trials, groups = np.random.default_rng(5), 300, 150
    truth = {"overall": 0.5, "macro": 0.5, "class": 0.7}
    held = {(by, which): 0 for by in ("groups", "images") for which in truth}
    for seed in range(trials):
        label_of = random.integers(0, 2, groups)
        shapes = 1.5 * np.array([[0.7, 0.3], [0.3, 0.7]])[label_of].T
        group = np.repeat(np.arange(groups), random.integers(1, 7, groups))
        values = (random.random(len(group)) < random.beta(*shapes)[group]).astype(float)[:, None]
        for by, units in (("groups", group), ("images", np.arange(len(group)))):
            found = estimate(values, label_of[group], units, 2, seed)
            each = {"overall": found.overall, "macro": found.macro, "class": found.classes[0]}
            for which, expected in truth.items():
                estimated = each[which][0]
                held[by, which] += (estimated.low or 0) <= expected <= (estimated.high or 0)

    least, most = binom.interval(0.9999, trials, 0.94)
    for which in truth:
        assert least <= held["groups", which] <= most, held
        assert held["images", which] < 0.85 * trials, held


def test_where_all_groups_agree_the_interval_is_that_of_a_share() -> None:
    for value, low, high in ((0.0, 0, beta.ppf(0.975, 1, 5)), (1.0, beta.ppf(0.025, 5, 1), 1)):
        found = estimate(np.full((9, 1), value), np.zeros(9, int), np.arange(9) % 5, 1)

        assert (found.overall[0].low, found.overall[0].high) == pytest.approx((low, high))


# --- neighbours -----------------------------------------------------------------------------------


def made(count: int, groups: int, seed: int = 0) -> Collected:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, 8)).astype(np.float32)
    return Collected(
        ids=tuple(map(str, range(count))),
        keys=np.arange(count),
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        labels=random.integers(0, 3, count),
        groups=random.integers(0, groups, count),
        patients=np.full(count, NONE),
        digests=np.full(count, NONE),
        hashes=np.zeros((count, 32), np.uint8),
    )


@pytest.mark.parametrize("size", [3, 17, 400, 1500])
def test_the_nearest_are_the_same_however_blocks_are_cut(size: int) -> None:
    images = made(1500, 90)
    search = Nearest(images)
    for start in range(0, 1500, size):
        search.add(images.part(slice(start, start + size)))

    cosines = images.vectors @ images.vectors.T
    own = images.groups[:, None] == images.groups[None]
    others = np.where(own, -np.inf, cosines)
    mates = np.where(own & ~np.eye(1500, dtype=bool), cosines, -np.inf)
    for found, all_ in ((search.others, others), (search.mates, mates)):
        expected = -np.sort(-all_, axis=1)[:, :10]
        assert found.scores == pytest.approx(expected, abs=1e-5)
        some = found.places >= 0
        assert (some == np.isfinite(expected)).all()
        assert (found.labels[some] == images.labels[found.places[some]]).all()
        assert (found.groups[some] == images.groups[found.places[some]]).all()


def test_fewer_than_ten_are_padded() -> None:
    images = made(4, 2)
    found = nearest(images, [images])
    assert (found.scores.shape, found.places.shape) == ((4, 10), (4, 10))
    assert ((found.places == NONE) == ~np.isfinite(found.scores)).all()
    assert (found.labels[found.places == NONE] == NONE).all()


def test_bits_that_differ_are_a_product_of_signs() -> None:
    hashes = np.random.default_rng(0).integers(0, 256, (20, 32), dtype=np.uint8)
    hashes[3] = 0  # none
    products = signs(hashes) @ signs(hashes).T
    for one in range(20):
        for other in range(20):
            bits = hash_distance(hashes[one].tobytes().hex(), hashes[other].tobytes().hex())
            expected = 0 if 3 in (one, other) else 256 - 2 * bits
            assert products[one, other] == expected


# --- the histogram --------------------------------------------------------------------------------


def test_a_histogram_is_of_shares() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 0] = (255, 8, 0)  # bins 31, 1 and 0

    found = histogram(Image.fromarray(pixels))

    assert found.shape == (96,)
    assert found[31] ** 2 * 3 == pytest.approx(1 / 4)
    assert found[0] ** 2 * 3 == pytest.approx(3 / 4)
    assert found[33] ** 2 * 3 == pytest.approx(1 / 4)
    assert (found**2).sum() == pytest.approx(1)


def test_it_comes_to_the_figures_that_were_measured_elsewhere() -> None:
    """RGB histogram on skin_cancer_dev: P@1 .456, P@5 .416, macro P@5 .340; of original pixels."""
    files = [*(SHARED / "skin_cancer_dev").glob("*.parquet")]
    if not files:
        pytest.skip("the shared data set skin_cancer_dev is not here")
    import pyarrow.parquet as pq

    rows = pq.read_table(files[0], columns=["image", "dx"]).to_pylist()
    names, labels = np.unique([row["dx"] for row in rows], return_inverse=True)
    pictures = (Image.open(io.BytesIO(row["image"]["bytes"])) for row in rows)
    count = len(rows)
    images = Collected(
        ids=tuple(map(str, range(count))),
        keys=np.arange(count),
        vectors=np.stack([histogram(picture) for picture in pictures]),
        labels=labels,
        groups=np.arange(count),
        patients=np.full(count, NONE),
        digests=np.full(count, NONE),
        hashes=np.zeros((count, 32), np.uint8),
    )

    found = nearest(images, [images])

    relevant = np.bincount(labels)[labels] - 1
    values = of_neighbours(labels, found.labels, found.scores, relevant)
    columns = np.stack([values["precision_at_1"], values["precision_at_5"]], 1)
    means = estimate(columns, labels, images.groups, len(names))
    assert [round(each.value or 0, 3) for each in means.overall] == [0.456, 0.416]
    assert round(means.macro[1].value or 0, 3) == 0.340


# --- thresholds -----------------------------------------------------------------------------------


def test_precision_and_coverage_at_a_threshold() -> None:
    """Two of four searches have a neighbour at 0.8; there, two of three neighbours agree."""
    nothing = np.full((4, 2), NONE)
    found = Neighbours(
        scores=np.array([[0.9, 0.8], [0.8, 0.1], [0.5, 0.4], [0.2, -np.inf]], np.float32),
        labels=numbers([1, 0], [1, 1], [0, 1], [1, NONE]),
        groups=nothing,
        places=nothing,
        keys=nothing,
    )

    levels = at_thresholds(found, np.ones(4, int), np.arange(4), seed=0)

    assert [round(each.score, 6) for each in levels] == [0.2, 0.5, 0.8]
    assert [each.coverage for each in levels] == [1.0, 0.75, 0.5]
    assert [each.precision.value for each in levels] == pytest.approx([4 / 6, 2 / 4, 2 / 3])
    for each in levels:
        low, high = each.precision.low, each.precision.high
        assert low is not None
        assert high is not None
        assert low <= (each.precision.value or 0) <= high
