"""Drift: the test itself, how often it cries wolf, and what it finds."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control, ks_2samp

from pipeline.evaluation.drift import (
    LEAST_GAP,
    Sample,
    corrected,
    difference,
    distances,
    is_drift,
)

DIMENSIONS = 16


def images(rng: np.random.Generator, count: int, shift: float = 0.0) -> Sample:
    """Images around a few centres; `shift` moves them all, as another camera does."""
    centres = np.random.default_rng(99).normal(size=(12, DIMENSIONS))
    points = centres[rng.integers(0, 12, count)] + 0.5 * rng.normal(size=(count, DIMENSIONS))
    points[:, 0] += shift
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return Sample(points.astype(np.float32), rng.integers(0, 2**60, count))


def test_distances_leave_out_the_own_group() -> None:
    turns = np.array([0.0, 0.1, 0.2, 0.3])
    pool = Sample(
        np.stack([np.cos(turns), np.sin(turns)], 1).astype(np.float32), np.array([7, 1, 2, 3])
    )
    one = Sample(np.array([[1, 0]], np.float32), np.array([7]))

    assert distances(one, pool, 1)[0] == pytest.approx(1 - np.cos(0.1), abs=1e-6)
    assert distances(one, pool, 3)[0] == pytest.approx(1 - np.cos(0.3), abs=1e-6)
    assert np.isnan(distances(one, pool, 4)[0])  # of the four, one is its own


def test_the_difference_is_scipy_s_and_counts_what_is_beyond() -> None:
    usual = np.arange(100) / 100
    new = np.array([0.2, 0.5, 0.97, 0.99, 2.0])

    found = difference(new, usual)

    assert found.beyond == 3  # beyond 0.9405, the 95th percentile
    expected = ks_2samp(new, usual, alternative="less")
    assert (found.gap, found.p_value) == (expected.statistic, expected.pvalue)
    # At 0.96, 97 of 100 usual ones are behind, and 2 of 5 new ones: by hand.
    assert found.gap == pytest.approx(0.97 - 0.4)


def test_closer_than_usual_is_no_drift() -> None:
    far, near = np.linspace(1, 2, 100), np.linspace(0, 1, 100)

    found = difference(near, far)

    assert (found.gap, found.beyond) == (0, 0)
    assert not is_drift(found.gap, found.p_value)


def test_holm_s_correction() -> None:
    """By hand, and never less than what only controls the share of false alarms."""
    p_values = [0.01, 0.04, 0.03, 0.005]

    assert corrected(p_values) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert all(np.array(corrected(p_values)) >= false_discovery_control(p_values) - 1e-12)
    assert corrected([]) == []


def test_many_images_make_no_alarm_of_a_trifle() -> None:
    rng = np.random.default_rng(0)
    usual, new = rng.normal(size=5000), rng.normal(0.2, size=5000)

    found = difference(new, usual)

    assert found.p_value < 1e-6
    assert found.gap < LEAST_GAP
    assert not is_drift(found.gap, found.p_value)


def alarms(runs: int, count: int, shift: float, groups: int = 1) -> float:
    """The share of jobs, of so many groups, that are said to be unlike."""
    rng, found = np.random.default_rng(1), 0
    for _ in range(runs):
        pool, reference = images(rng, 400), images(rng, 150)
        usual = distances(reference, pool)
        each = [
            difference(distances(images(rng, count, shift), pool), usual) for _ in range(groups)
        ]
        p_values = corrected([one.p_value for one in each])
        found += any(is_drift(one.gap, p) for one, p in zip(each, p_values, strict=True))
    return found / runs


@pytest.mark.parametrize(("count", "groups"), [(20, 1), (20, 8), (200, 1), (60, 4)])
def test_jobs_of_the_same_kind_are_seldom_called_unlike(count: int, groups: int) -> None:
    assert alarms(100, count, 0.0, groups) <= 0.05


@pytest.mark.parametrize("count", [30, 200])
def test_a_camera_that_shifts_all_its_pictures_is_found(count: int) -> None:
    assert alarms(10, count, 3.0) == 1.0
