"""The paired test of two encoders: against every exchange by hand, and against simulation."""

from itertools import product

import numpy as np
import pytest

from pipeline.evaluation import paired
from pipeline.evaluation.paired import p_values

ALIKE = np.zeros(9, np.int64)
GROUPS = np.array([0, 0, 1, 2, 3, 3, 3, 4, 5])


def drawn(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(9, 2))


def by_hand(change: np.ndarray, weights: np.ndarray) -> list[float]:
    """The share of all exchanges of groups that make a difference at least as large."""
    found = []
    for column in (change * weights[:, None]).T:
        observed = abs(column.sum())
        signs = product((1, -1), repeat=GROUPS.max() + 1)
        sums = [abs(sum(column * np.array(each)[GROUPS])) for each in signs]
        found.append(np.mean([value >= observed - 1e-12 for value in sums]))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_a_test_of_few_groups_tries_every_exchange(seed: int) -> None:
    change = drawn(seed)
    found = p_values(change, ALIKE, GROUPS)
    assert list(found) == pytest.approx(by_hand(change, np.full(9, 1 / 9)))


def test_a_mean_over_classes_weighs_them_alike() -> None:
    change = drawn(3)
    classes = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    weights = np.array([1 / 4] * 4 + [1 / 3] * 3 + [1 / 2] * 2) / 3

    found = p_values(change, classes, GROUPS)

    assert list(found) == pytest.approx(by_hand(change, weights))
    assert list(found) != pytest.approx(by_hand(change, np.full(9, 1 / 9)))


def test_a_model_does_not_differ_from_itself() -> None:
    assert list(p_values(np.zeros((9, 2)), ALIKE, GROUPS)) == [1, 1]


def test_chance_never_gives_a_p_of_zero() -> None:
    found = p_values(np.ones((60, 1)), np.zeros(60, np.int64), np.arange(60))
    # One-sided 1 / (9999 + 1): twice that, since either sign would do.
    assert list(found) == pytest.approx([2 / (paired.PERMUTATIONS + 1)])


def test_images_of_one_group_are_no_evidence_of_their_own() -> None:
    """Two groups of thirty images each: the sign of two differences proves nothing."""
    found = p_values(np.ones((60, 1)), np.zeros(60, np.int64), np.repeat([0, 1], 30))
    assert list(found) == pytest.approx([0.5])  # of four exchanges, two


def test_where_nothing_differs_one_experiment_of_twenty_says_that_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(paired, "PERMUTATIONS", 399)
    rng = np.random.default_rng(7)
    groups, alike = np.repeat(np.arange(80), 2), np.zeros(160, np.int64)
    experiments = np.repeat(rng.normal(size=(80, 200)), 2, axis=0)  # images of a group are alike

    found = p_values(experiments, alike, groups)

    assert 0.01 <= (found <= 0.05).mean() <= 0.10
    assert 0.4 <= (found <= 0.5).mean() <= 0.6
