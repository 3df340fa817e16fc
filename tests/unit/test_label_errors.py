"""Wrong labels: what the evidence is, and that planted ones come first."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from pipeline.evaluation.label_errors import suspects

NONE = -1


def test_the_evidence_of_a_case_done_by_hand() -> None:
    labels = np.array([1, 1, 2, NONE])
    neighbours = np.array([[2, 2, 3, 2], [1, 2, 2, 2], [1, 1, 1, NONE], [1, 1, 1, 1]])
    similarities = np.array(
        [[0.9, 0.8, 0.7, 0.1], [0.9, 0.9, 0.9, 0.9], [0.6, 0.5, 0.4, -np.inf], [0.0] * 4]
    )

    found = suspects(labels, neighbours, similarities)

    # The 15 similarities that there are: four of 0.0, then .1 .4 .5 .6 .7 .8 and five of .9.
    # Row 0: label 2 has 15/15 + 10/15 + 5/15 of 4; row 2: label 1 has 8/15 + 7/15 + 6/15 of 4.
    assert found.rows.tolist() == [0, 2]
    np.testing.assert_allclose(found.evidence, [(15 + 10 + 5) / 15 / 4, (8 + 7 + 6) / 15 / 4])
    assert found.suggested.tolist() == [2, 1]
    assert found.judged == 3  # the fourth has no label, and the second agrees with a neighbour


def test_an_image_with_fewer_than_half_of_its_neighbours_is_not_judged() -> None:
    found = suspects(
        np.array([1]), np.array([[2, NONE, NONE, NONE]]), np.array([[0.9, -1.0, -1.0, -1.0]])
    )

    assert (len(found.rows), found.judged) == (0, 0)


def test_the_more_similar_and_the_more_unanimous_come_first() -> None:
    labels = np.array([1, 1, 1])
    neighbours = np.array([[2, 2, 3], [2, 2, 2], [2, 2, 2]])
    similarities = np.array([[0.9] * 3, [0.5] * 3, [0.9] * 3])

    assert suspects(labels, neighbours, similarities).rows.tolist() == [2, 0, 1]


def test_they_are_those_that_no_vote_of_scikit_learn_supports() -> None:
    rng = np.random.default_rng(4)
    points = rng.normal(size=(400, 8))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    labels = rng.integers(0, 4, 400)
    cosines = points @ points.T
    np.fill_diagonal(cosines, -np.inf)
    nearest = np.argsort(-cosines, axis=1)[:, :5]

    found = suspects(labels, labels[nearest], np.take_along_axis(cosines, nearest, 1))

    expected = []
    for row in range(400):
        others = np.arange(400) != row
        model = KNeighborsClassifier(5, metric="cosine").fit(points[others], labels[others])
        share = model.predict_proba(points[row : row + 1])[0]
        expected += [row] if share[labels[row]] == 0 else []
    assert sorted(found.rows.tolist()) == expected


@pytest.mark.parametrize("seed", range(3))
def test_planted_wrong_labels_lead_the_ranking(seed: int) -> None:
    """Four classes that overlap; one label in fifty is wrong."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 4, 2000)
    points = rng.normal(size=(4, 16))[true] + 0.5 * rng.normal(size=(2000, 16))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    labels, planted = true.copy(), rng.choice(2000, 40, replace=False)
    labels[planted] = (labels[planted] + rng.integers(1, 4, 40)) % 4
    cosines = points @ points.T
    np.fill_diagonal(cosines, -np.inf)
    nearest = np.argsort(-cosines, axis=1)[:, :10]

    found = suspects(labels, labels[nearest], np.take_along_axis(cosines, nearest, 1))

    first = found.rows[:20]
    assert np.isin(first, planted).mean() >= 0.95
    assert np.isin(planted, found.rows).mean() >= 0.6  # others have a wrong neighbour beside them
    known = np.isin(first, planted)
    assert (found.suggested[:20][known] == true[first[known]]).mean() >= 0.9
