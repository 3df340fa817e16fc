"""Correspondences of patches: by hand, and with an encoder that was never trained."""

import numpy as np
import pytest

from pipeline.images.pixels import PixelSteps
from pipeline.retrieval.matches import correspond, cosines, mutual, whitened

BICUBIC = 3


def test_cosines_are_of_directions_and_0_without_one() -> None:
    first = np.array([[2, 0], [0, 3], [0, 0]], np.float32)
    second = np.array([[1, 1], [0, -5]], np.float32)

    half = 0.5**0.5
    expected = [[half, 0], [half, -1], [0, 0]]
    assert cosines(first, second) == pytest.approx(np.array(expected), abs=1e-6)


def test_the_weight_of_a_pair_is_what_it_has_above_the_mean_if_each_is_the_others_nearest() -> None:
    similarity = np.array([[0.9, 0.1], [0.5, 0.1]], np.float32)  # their mean is 0.4

    # Above the mean: 0.5, 0; 0.1, 0. The pair (1, 0) is the best of its row, and a fifth of the
    # best of its column. What could be above the mean is 0.6.
    expected = [[0.5 / 0.6, 0], [0.1 * 0.2 / 0.6, 0]]
    assert mutual(similarity) == pytest.approx(np.array(expected), abs=1e-6)


def test_whitened_rows_vary_alike_along_every_axis() -> None:
    rows = np.random.default_rng(0).normal(size=(400, 3)) * (20, 15, 10) + 7

    first, second = whitened(rows[:150].astype(np.float32), rows[150:].astype(np.float32))

    both = np.concatenate((first, second))
    assert (first.shape, second.shape) == ((150, 3), (250, 3))
    assert both.mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-6)
    spread = both.std(axis=0)
    assert spread.max() / spread.min() < 1.06
    assert np.corrcoef(both.T) == pytest.approx(np.eye(3), abs=1e-5)


def test_pairs_name_best_buddies_first_and_what_is_at_a_place_alone_is_no_likeness() -> None:
    place = 50 * np.eye(4, 8, dtype=np.float32)  # what the encoder makes of each place alone
    content = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    first = place + content[[0, 1, 2, 3]]
    second = place + content[[3, 4, 1, 1]]  # the last two show what the first has second

    found = correspond(first[None], second[None], place, most=3)

    assert found.nearest[0][[1, 3]].tolist() == [2, 0]
    assert found.nearest[1][[0, 2, 3]].tolist() == [3, 1, 1]
    assert {pair for pair in found.pairs if pair[2]} >= {(3, 0, True), (1, 2, True)}
    assert [pair[2] for pair in found.pairs] == sorted((p[2] for p in found.pairs), reverse=True)
    assert found.weights[0].argmax() in (1, 3)
    assert found.weights[1][1] < min(found.weights[1][[0, 2, 3]])


def test_pictures_of_one_colour_have_nothing_in_common() -> None:
    tokens = np.ones((4, 8), np.float32)

    found = correspond(tokens[None], tokens[None], tokens, most=5)

    assert not found.weights[0].any() and not found.weights[1].any()
    assert found.pairs == ()


def test_a_pair_is_as_similar_as_with_the_best_of_its_shifts() -> None:
    content = np.random.default_rng(2).normal(size=(6, 8)).astype(np.float32)
    first = np.stack([content[[0, 1]], content[[2, 3]]])
    second = np.stack([content[[4, 5]], content[[4, 2]]])  # shifted, its last is the first's first

    found = correspond(first, second, np.zeros((2, 8), np.float32), most=4)

    assert found.similarity[0, 1] == pytest.approx(1, abs=1e-5)
    assert (found.nearest[0][0], found.nearest[1][1]) == (1, 0)
    assert found.pairs[0] == (0, 1, True)


@pytest.mark.parametrize(
    ("resize", "crop", "size", "seen"),
    [
        ((224, 224), None, (600, 450), (0, 0, 1, 1)),
        (256, (224, 224), (512, 256), (144 / 512, 16 / 256, 224 / 512, 224 / 256)),
        (256, (224, 224), (100, 300), (16 / 256, 272 / 768, 224 / 256, 224 / 768)),
        (None, (40, 20), (10, 40), (-0.5, 0, 2, 1)),  # black on both sides
    ],
)
def test_the_part_that_the_encoder_sees_is_known(resize, crop, size, seen) -> None:
    assert PixelSteps(resize, BICUBIC, crop).seen(*size) == pytest.approx(seen)
