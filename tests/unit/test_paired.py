"""Paired differences of two encoders: against every exchange by hand, and against simulation."""

from itertools import product

import numpy as np
import pytest

from pipeline.evaluation import paired
from pipeline.evaluation.paired import changes

NO_CLASSES = np.zeros(9, np.int64)
GROUPS = np.array([0, 0, 1, 2, 3, 3, 3, 4, 5])


def drawn(seed: int, images: int = 9, metrics: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).random((images, metrics))


def by_hand(first: np.ndarray, other: np.ndarray, weights: np.ndarray) -> list[float]:
    """The share of all exchanges of groups that make a difference at least as large."""
    found = []
    for column in ((other - first) * weights[:, None]).T:
        observed = abs(column.sum())
        signs = product((1, -1), repeat=GROUPS.max() + 1)
        sums = [abs(sum(column * np.array(each)[GROUPS])) for each in signs]
        found.append(np.mean([value >= observed - 1e-12 for value in sums]))
    return found


def test_a_test_of_few_groups_tries_every_exchange() -> None:
    first, other = drawn(1), drawn(2)

    found = changes(first, other, NO_CLASSES, GROUPS)

    assert [c.value for c in found] == pytest.approx((other - first).mean(0))
    assert [c.p for c in found] == pytest.approx(by_hand(first, other, np.full(9, 1 / 9)))


def test_a_macro_difference_weighs_classes_alike() -> None:
    first, other = drawn(3), drawn(4)
    classes = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    weights = np.array([1 / 4] * 4 + [1 / 3] * 3 + [1 / 2] * 2) / 3

    found = changes(first, other, classes, GROUPS)

    wanted = ((other - first) * weights[:, None]).sum(0)
    assert [c.value for c in found] == pytest.approx(wanted)
    assert [c.p for c in found] == pytest.approx(by_hand(first, other, weights))


def test_a_model_does_not_differ_from_itself() -> None:
    same = drawn(5)
    for found in changes(same, same, NO_CLASSES, GROUPS):
        assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_chance_never_gives_a_p_of_zero_and_many_groups_are_drawn_from() -> None:
    first, other = np.zeros((60, 1)), np.ones((60, 1))

    (found,) = changes(first, other, np.zeros(60, np.int64), np.arange(60))

    # One-sided 1 / (9999 + 1): twice that, since either sign would do.
    assert found.p == pytest.approx(2 / (paired.PERMUTATIONS + 1))
    assert (found.low, found.value, found.high) == (1, 1, 1)


def test_images_of_one_group_are_no_evidence_of_their_own() -> None:
    """Two groups of thirty images each: the sign of two differences proves nothing."""
    first, other = np.zeros((60, 1)), np.ones((60, 1))

    (found,) = changes(first, other, np.zeros(60, np.int64), np.repeat([0, 1], 30))

    assert found.p == pytest.approx(0.5)  # of four exchanges, two


@pytest.mark.parametrize("truth", [0.0, 0.1])
def test_intervals_hold_the_truth_in_nineteen_of_twenty_experiments(
    truth: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paired, "RESAMPLES", 400)
    monkeypatch.setattr(paired, "PERMUTATIONS", 399)
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(80), 2)
    held = rejected = 0
    experiments = 200
    for number in range(experiments):
        shift = np.repeat(rng.normal(truth, 0.3, 80), 2)[:, None]
        first = rng.normal(size=(160, 1)) * 0.1
        (found,) = changes(first, first + shift, np.zeros(160, np.int64), groups, seed=number)
        held += found.low <= truth <= found.high
        rejected += found.p <= 0.05
    assert 0.90 <= held / experiments <= 0.99
    if truth == 0:
        assert rejected / experiments <= 0.09
