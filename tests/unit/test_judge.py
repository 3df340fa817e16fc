"""Encoders on the same images: each as computed by hand, and how two of them differ."""

import numpy as np
import pytest

from pipeline.base.errors import InvalidQuery
from pipeline.evaluation.collected import NONE, Collected, number_of
from pipeline.evaluation.judge import Judge

NAMES = {number_of(name): name for name in ("mole", "melanoma", "rare")}


def images(labels: list[str | None], lesions: list[str], seed: int = 0) -> Collected:
    count = len(labels)
    hashes = np.random.default_rng(seed).integers(0, 256, (count, 32), dtype=np.uint8)
    return Collected(
        ids=tuple(f"image-{n}" for n in range(count)),
        keys=np.arange(count),
        vectors=np.zeros((count, 0), np.float32),
        labels=np.array([NONE if each is None else number_of(each) for each in labels]),
        groups=np.array([number_of(each) for each in lesions]),
        patients=np.full(count, NONE),
        digests=np.full(count, NONE),
        hashes=hashes,
    )


def drawn(seed: int, count: int = 60) -> Collected:
    rng = np.random.default_rng(seed)
    lesions = [f"lesion-{n}" for n in rng.integers(40, size=count)]
    kinds = rng.choice(["mole", "melanoma"], 40, p=[0.7, 0.3])
    return images([str(kinds[int(each.split("-")[1])]) for each in lesions], lesions, seed)


def precision_by_hand(found: Collected, vectors: np.ndarray) -> float:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    shares = []
    for n in range(len(found)):
        others = np.nonzero(found.groups != found.groups[n])[0]
        nearest = others[np.argsort(-cosines[n, others])[:10]]
        shares.append((found.labels[nearest] == found.labels[n]).sum() / 10)
    return float(np.mean(shares))


@pytest.mark.parametrize("seed", range(3))
def test_each_encoder_is_judged_as_by_hand(seed: int) -> None:
    found = drawn(seed)
    vectors = np.random.default_rng(seed).normal(size=(60, 8)).astype(np.float32) * 7
    judge = Judge.of(found, NAMES, "keep", 0)

    (ranking,) = judge.rankings({"a": judge.values(vectors)})

    value = ranking.overall["precision_at_10"].value
    assert value == pytest.approx(precision_by_hand(found, vectors))
    assert {each.label for each in ranking.classes} == {"mole", "melanoma"}


def test_a_difference_is_that_of_the_numbers_beside_it() -> None:
    judge = Judge.of(drawn(4), NAMES, "keep", 0)
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(60, 8)).astype(np.float32)
    told = noise + 3 * np.eye(8, dtype=np.float32)[judge.truth]  # it knows the label
    values = {"noise": judge.values(noise), "told": judge.values(told)}
    first, other = judge.rankings(values)

    overall, macro = judge.differences(values["noise"], values["told"])

    for metric, change in macro.items():
        one, two = first.macro[metric].value, other.macro[metric].value
        assert one is not None and two is not None
        assert change.value == pytest.approx(two - one)
        assert change.low <= change.value <= change.high
    assert overall["precision_at_10"].p < 0.01
    assert overall["precision_at_10"].low > 0
    assert overall["balanced_accuracy"] == macro["balanced_accuracy"]


def test_an_encoder_does_not_differ_from_itself() -> None:
    judge = Judge.of(drawn(5), NAMES, "keep", 0)
    values = judge.values(np.random.default_rng(5).normal(size=(60, 8)).astype(np.float32))
    for changes in judge.differences(values, values):
        for each in changes.values():
            assert (each.value, each.low, each.high, each.p) == (0, 0, 0, 1)


def test_what_cannot_be_judged_is_counted_and_in_no_number() -> None:
    labels = ["mole", "mole", "melanoma", "melanoma", None, "rare", "rare"]
    found = images(labels, ["a", "b", "c", "d", "e", "f", "f"])  # both rare ones show one lesion

    judge = Judge.of(found, NAMES, "keep", 0)

    assert judge.left_out == {"no label": 1, "alone with its label": 2}
    assert list(judge.kept) == [True] * 4 + [False] * 3
    assert len(judge.values(np.eye(7, dtype=np.float32)[judge.kept])["map_at_10"]) == 4


def test_near_duplicates_of_other_groups_do_not_find_each_other() -> None:
    found = images(["mole", "mole", "mole", "melanoma", "melanoma"], list("abcde"))
    found.hashes[1] = found.hashes[0]
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0.2, 1], [0.3, 1]], np.float32)

    found_by = {
        treatment: Judge.of(found, NAMES, treatment, 0).values(vectors)["precision_at_1"]
        for treatment in ("keep", "leave_out")
    }

    assert found_by["keep"].tolist()[:2] == [1, 1]  # each by its copy
    assert found_by["leave_out"].tolist()[:2] == [0, 0]  # by a melanoma


def test_one_class_alone_cannot_be_compared() -> None:
    with pytest.raises(InvalidQuery):
        Judge.of(images(["mole"] * 4, list("abcd")), NAMES, "keep", 0)
