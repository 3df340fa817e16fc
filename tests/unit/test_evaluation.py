"""Evaluations, held against a search by brute force, one image at a time."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import InvalidQuery
from pipeline.images.hashes import hash_distance
from pipeline.messages.evaluations import EvaluationReport
from tests.evaluated import Held, collection, evaluated, values


def ranking(report: EvaluationReport, name: str = "embedding") -> Any:
    return next(each for each in report.rankings if each.name == name)


def overall(report: EvaluationReport, name: str = "embedding") -> dict[str, float]:
    return {m: e.value for m, e in ranking(report, name).overall.items()}


def brute(held: Held, own: Callable[[int, int], bool]) -> dict[str, float]:
    """The numbers of `overall`, as slowly as they are defined. `own` says who must not be found."""
    labels = list(values(held.payloads, "dx"))
    cosines = held.vectors.astype(np.float64) @ held.vectors.T.astype(np.float64)
    found: dict[str, list[float]] = {}
    recalls: dict[str, list[bool]] = {}
    for i in range(len(labels)):
        others = [j for j in range(len(labels)) if j != i and labels[j] and not own(i, j)]
        relevant = sum(labels[j] == labels[i] for j in others)
        if not labels[i] or not relevant:
            continue
        best = sorted(others, key=lambda j: -cosines[i, j])[:10]
        hits = [labels[j] == labels[i] for j in best]
        precision = [sum(hits[: n + 1]) / (n + 1) for n in range(10)]
        most = min(10, relevant)
        gain = sum(1 / np.log2(n + 2) for n in range(10) if hits[n])
        votes: dict[str, tuple[int, float]] = {}
        for j in best:
            count, similarity = votes.get(labels[j], (0, 0.0))
            votes[labels[j]] = (count + 1, similarity + cosines[i, j])
        recalls.setdefault(labels[i], []).append(max(votes, key=votes.__getitem__) == labels[i])
        for name, value in {
            "precision_at_1": precision[0],
            "precision_at_5": precision[4],
            "precision_at_10": precision[9],
            "map_at_10": sum(p for p, hit in zip(precision, hits, strict=True) if hit) / most,
            "ndcg_at_10": gain / sum(1 / np.log2(n + 2) for n in range(most)),
        }.items():
            found.setdefault(name, []).append(value)
    means = {name: float(np.mean(each)) for name, each in found.items()}
    accuracy = float(np.mean([np.mean(each) for each in recalls.values()]))
    return {**means, "balanced_accuracy": accuracy}


def same(held: Held, *fields: str) -> Callable[[int, int], bool]:
    def own(i: int, j: int) -> bool:
        one, other = held.payloads[i], held.payloads[j]
        return any(f in one and one.get(f) == other.get(f) for f in fields)

    return own


def test_numbers_are_those_of_a_brute_force() -> None:
    held = collection()

    report = evaluated(held)

    assert overall(report) == pytest.approx(brute(held, same(held, "lesion_id")), abs=1e-9)
    assert report.images == report.evaluated == 400
    # Were a lesion's other images not left out, they would be found.
    assert brute(held, same(held))["precision_at_1"] > overall(report)["precision_at_1"]


def test_wrong_labels_change_them_as_they_change_the_brute_force() -> None:
    held = collection()
    before = overall(evaluated(held))
    for payload in held.payloads[::9]:
        payload["dx"] = "melanoma"

    after = overall(evaluated(held))

    assert after == pytest.approx(brute(held, same(held, "lesion_id")), abs=1e-9)
    assert after["precision_at_10"] < before["precision_at_10"]


def test_images_without_a_label_are_in_no_number_and_counted() -> None:
    held = collection()
    for payload in held.payloads[:30]:
        del payload["dx"]
    held.payloads[50]["dx"] = "alone"

    report = evaluated(held)

    assert report.left_out == {"no label": 30, "alone with its label": 1}
    assert (report.images, report.evaluated) == (370, 369)
    assert overall(report) == pytest.approx(brute(held, same(held, "lesion_id")), abs=1e-9)


def test_images_of_one_patient_do_not_find_each_other_where_patients_are_known() -> None:
    held = collection()
    for number, payload in enumerate(held.payloads):
        if number % 3:
            payload["patient_id"] = f"P{int(payload['lesion_id'][1:]) % 60}"

    report = evaluated(held, patient="patient_id")

    # A patient's lesions, and with them their images whose patient is not known.
    patients: dict[str, set[str]] = {}
    for payload in held.payloads:
        if "patient_id" in payload:
            patients.setdefault(payload["lesion_id"], set()).add(payload["patient_id"])
    for payload in held.payloads:
        [payload["whose"]] = patients.get(payload["lesion_id"], {payload["lesion_id"]})
    assert overall(report) == pytest.approx(brute(held, same(held, "whose")), abs=1e-9)


# --- near-duplicates ------------------------------------------------------------------------------


def flipped(phash: str, bits: int) -> str:
    return f"{int(phash, 16) ^ (2**bits - 1):064x}"


@pytest.fixture
def with_copies() -> Held:
    """Of 12 images there is a copy under another lesion: 4 near, 4 at the bound and 4 beyond it.

    A quarter of each has another label. Two more have the same bytes and no perceptual hash.
    """
    held = collection()
    for number in range(12):
        original, copy = held.payloads[number], held.payloads[200 + number]
        distance = (3, 40, 41)[number % 3]
        copy["source"]["phash"] = flipped(original["source"]["phash"], distance)
        copy["lesion_id"] = f"copy{number}"
        copy["dx"] = "keratosis" if number < 3 else original["dx"]
        original["dx"] = "melanoma" if number < 3 else original["dx"]
        held.vectors[200 + number] = held.vectors[number] + 1e-4 * held.vectors[300 + number]
    for number in (20, 220):
        del held.payloads[number]["source"]["phash"]
        held.payloads[number]["source"]["sha256"] = "ab" * 32
    return held


def near(held: Held) -> Callable[[int, int], bool]:
    """Of one lesion, or of lesions that near-duplicates link."""
    payloads = held.payloads
    cluster = {payload["lesion_id"]: payload["lesion_id"] for payload in payloads}
    for i, one in enumerate(payloads):
        for other in payloads[:i]:
            a, b = one["source"], other["source"]
            copies = a["sha256"] == b["sha256"] or (
                "phash" in a and "phash" in b and hash_distance(a["phash"], b["phash"]) <= 40
            )
            if copies:
                old, new = cluster[one["lesion_id"]], cluster[other["lesion_id"]]
                cluster = {k: new if v == old else v for k, v in cluster.items()}

    def own(i: int, j: int) -> bool:
        return cluster[payloads[i]["lesion_id"]] == cluster[payloads[j]["lesion_id"]]

    return own


def test_near_duplicates_are_counted_and_do_not_find_each_other(with_copies: Held) -> None:
    report = evaluated(with_copies)

    assert report.near_duplicates is not None
    assert report.near_duplicates.model_dump() == {
        "pairs": 9,
        "images": 18,
        "other_label": 2 + (with_copies.payloads[20]["dx"] != with_copies.payloads[220]["dx"]),
        "treatment": "leave_out",
    }
    assert overall(report) == pytest.approx(brute(with_copies, near(with_copies)), abs=1e-9)


def test_near_duplicates_that_are_kept_are_found(with_copies: Held) -> None:
    kept = evaluated(with_copies, near_duplicates="keep")

    assert kept.near_duplicates is not None
    assert (kept.near_duplicates.pairs, kept.near_duplicates.treatment) == (9, "keep")
    expected = brute(with_copies, same(with_copies, "lesion_id"))
    assert overall(kept) == pytest.approx(expected, abs=1e-9)
    assert overall(evaluated(with_copies)) != pytest.approx(expected, abs=1e-9)


# --- a lesion's other images ----------------------------------------------------------------------


def recalls(held: Held) -> dict[str, float]:
    lesions = values(held.payloads, "lesion_id")
    cosines = held.vectors @ held.vectors.T
    found: dict[str, list[float]] = {}
    for i in range(len(lesions)):
        mates = set(np.flatnonzero(lesions == lesions[i])) - {i}
        if not mates:
            continue
        order = [j for j in np.argsort(-cosines[i]) if j != i]
        for k in (1, 5, 10):
            hits = len(mates.intersection(order[:k]))
            found.setdefault(f"recall_at_{k}", []).append(hits / len(mates))
            found.setdefault(f"any_at_{k}", []).append(hits > 0)
    return {name: float(np.mean(each)) for name, each in found.items()}


@pytest.mark.parametrize("patient", [None, "patient_id"])
def test_recall_of_a_lesions_other_images(patient: str | None) -> None:
    """Other lesions of the patient are none of them, though they are left out elsewhere."""
    held = collection()
    for payload in held.payloads:
        payload["patient_id"] = f"P{int(payload['lesion_id'][1:]) % 60}"

    report = evaluated(held, patient=patient)

    assert report.same_group is not None
    assert {k: e.value for k, e in report.same_group.items()} == pytest.approx(recalls(held))


def test_without_groups_there_is_no_such_recall() -> None:
    held = collection()

    report = evaluated(held, group="none")

    assert report.same_group is None
    assert report.groups == 400
    assert overall(report) == pytest.approx(brute(held, same(held)), abs=1e-9)


# --- samples, and large collections ---------------------------------------------------------------


def test_a_sample_searches_among_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    held = collection(3000, 2500)
    whole = evaluated(held)

    monkeypatch.setattr("pipeline.evaluation.survey.KEPT_BYTES", 20_000)  # read a second time
    report = evaluated(held, searched=1500, sample=1500)

    assert (report.images, report.evaluated) == (3000, 1500)
    estimate = ranking(report).overall["precision_at_10"]
    assert estimate.low < overall(whole)["precision_at_10"] < estimate.high
    assert overall(report) != overall(whole)
    again = evaluated(held, searched=1500, sample=1500)
    assert again.rankings == report.rankings  # seeds are fixed
    other = evaluated(held, searched=1500, sample=1500, seed=1)
    assert overall(other) != overall(report)


def test_reading_a_second_time_gives_the_same(
    with_copies: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = evaluated(with_copies)
    monkeypatch.setattr("pipeline.evaluation.survey.KEPT_BYTES", 0)

    twice = evaluated(with_copies)

    assert (twice.rankings, twice.same_group) == (once.rankings, once.same_group)


def test_it_tells_how_far_it_has_come() -> None:
    held = collection()
    ticks: list[float] = []
    evaluated(held, ticks=ticks)
    assert ticks == sorted(ticks)
    assert 0 <= ticks[0] < ticks[-1] <= 1


# --- what stands beside them ----------------------------------------------------------------------


def test_chance_is_what_a_random_order_comes_to() -> None:
    held = collection()
    expected = overall(evaluated(held), "chance")
    found: dict[str, list[float]] = {}
    for seed in range(12):
        random = np.random.default_rng(seed).normal(size=(400, 40)).astype(np.float32)
        numbers = overall(evaluated(Held(held.payloads, random)))
        for name, value in numbers.items():
            found.setdefault(name, []).append(value)

    del found["balanced_accuracy"]  # there, chance is one image drawn, and not ten that vote
    for name, each in found.items():
        assert np.mean(each) == pytest.approx(expected[name], abs=4 * np.std(each) / 12**0.5), name
    assert expected["balanced_accuracy"] == pytest.approx(1 / 3, abs=0.01)


def test_the_constant_guess_is_the_most_frequent_label() -> None:
    held = collection()

    report = evaluated(held)

    share = np.mean(values(held.payloads, "dx") == "nevus")
    assert overall(report, "constant")["precision_at_1"] == pytest.approx(share)
    assert ranking(report, "constant").macro["precision_at_1"].value == pytest.approx(1 / 3)
    assert overall(report, "constant")["balanced_accuracy"] == pytest.approx(1 / 3)


def coloured(held: Held) -> None:
    """Previews whose colours say the label."""
    random = np.random.default_rng(3)
    base = {"nevus": (180, 120, 90), "melanoma": (90, 60, 60), "keratosis": (160, 160, 120)}
    for payload in held.payloads:
        pixels = random.normal(base[payload["dx"]], 12, (24, 24, 3)).clip(0, 255)
        file = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=90)
        held.previews[payload["image_id"]] = file.getvalue()


def test_the_baseline_is_of_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    held = collection()
    coloured(held)
    del held.previews["I3"]

    report = evaluated(held, baseline=True)

    assert overall(report, "histogram")["precision_at_5"] > 0.9
    assert any("1 images have no preview" in note for note in report.notes)

    monkeypatch.setattr("pipeline.evaluation.evaluation.MOST_PREVIEWS", 100)
    report = evaluated(held, baseline=True, searched=200, sample=200)

    names = [each.name for each in report.rankings]
    assert names == ["embedding", "embedding, within the sample", "histogram", "chance", "constant"]
    assert overall(report, "histogram")["precision_at_5"] > 0.9


def test_confusion_is_of_the_ten_nearest() -> None:
    report = evaluated(collection())

    shares = np.array(report.confusion.shares)
    assert shares.sum(1) == pytest.approx(1, abs=1e-5)
    by_class = {c.label: c.metrics["precision_at_10"].value for c in ranking(report).classes}
    for number, name in enumerate(report.confusion.labels):
        assert shares[number, number] == pytest.approx(by_class[name], abs=1e-5)


@pytest.mark.parametrize("label", ["lesion_id", "sex"])
def test_a_field_that_is_no_label_is_refused(label: str) -> None:
    held = collection()
    for payload in held.payloads:
        payload["sex"] = "female"

    with pytest.raises(InvalidQuery):
        evaluated(held, label=label, group="none")


def test_a_report_names_no_image_lesion_or_value_of_a_filter() -> None:
    held = collection()
    wanted = {"must": [{"key": "lesion_id", "match": {"value": "L1"}}]}

    said = evaluated(held, filter=wanted).model_dump_json()

    assert not any(f'"{payload["image_id"]}"' in said for payload in held.payloads)
    assert '"L1"' not in said


def test_too_few_neighbours_for_a_calibration_are_said() -> None:
    def said(images: int) -> bool:
        found = evaluated(collection(images))
        assert bool(found.calibration) == (images == 400)
        return any("Too few neighbours for a calibration" in note for note in found.notes)

    assert [said(25), said(400)] == [True, False]
