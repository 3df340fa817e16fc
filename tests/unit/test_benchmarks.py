"""What the benchmarks compute from what they measure; the measuring itself is not tested."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import data, machine, results
from benchmarks.compute import Shape
from benchmarks.duplicates import Found, pairs_by_distance
from benchmarks.embeddings import IMAGES_A_LESION, Maker, Structure
from benchmarks.fidelity import compare
from benchmarks.kindred import KindredRun
from benchmarks.notebook import NotebookRun
from benchmarks.report import Goal, Spread, number, ratios, table
from benchmarks.results import Ingests
from benchmarks.scale_store import FILTERS, TOP, Truth, fits, points, query_vectors


def test_a_spread_is_the_median_with_its_extremes():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(median=2.0, low=1.0, high=3.0, count=3)
    assert str(Spread.of([10.04, 12.0])) == "11.0 (10.0 .. 12.0)"
    with pytest.raises(ValueError, match="nothing was measured"):
        Spread.of([])


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0123, "0.012"), (1.678, "1.68"), (14.66, "14.7"), (12345.6, "12,346")],
)
def test_numbers_have_about_three_digits(value, text):
    assert number(value) == text


def test_goals_are_judged_by_what_was_measured():
    assert Goal("speed", 1.6, 1.6, more=True).met
    assert not Goal("delay", 1.51, 1.5, more=False).met
    assert str(Goal("speed", 1.2, 1.6, more=True)) == "MISSED: speed 1.20, wanted >= 1.6"


def test_a_table_is_markdown_with_aligned_columns():
    assert table(["what", "ms"], [["decode", "1.9"], ["sum", "100"]]).split("\n") == [
        "| what   |  ms |",
        "| ------ | --: |",
        "| decode | 1.9 |",
        "| sum    | 100 |",
    ]


def test_ratios_are_within_a_slice_and_the_total_weighs_by_time():
    notebook = [NotebookRun(seconds, 0, {}, Path("vectors.npy")) for seconds in (10, 30)]
    first = [KindredRun(seconds, None, 64, 0) for seconds in (5, 30)]
    again = [KindredRun(seconds, None, 0, 64) for seconds in (0.5, 0.5)]

    ingests = Ingests(64, notebook, [16, 4], first, again)

    assert ingests.by_slice == [2, 1]
    assert ingests.total == pytest.approx(40 / 35)
    assert ingests.of_forward == pytest.approx([0.8, 64 / 120])
    assert ingests.again_by_slice == [10, 60]
    assert ratios([1], [2]) == [0.5]


def test_slices_are_alike_and_hold_no_image_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "hub_in_reach", lambda: False)
    monkeypatch.setattr(data, "write_encoder", lambda folder: None)
    sample = data.prepare(tmp_path, tmp_path / "missing", rows=10, slices=3, queries=2)

    ids = [image_id for part in sample.slices for image_id in part.ids]
    assert [part.rows for part in sample.slices] == [3, 3, 3]
    assert len(set(ids)) == 9
    assert len(sample.queries) == 2
    assert sample.queries[0].startswith(b"\xff\xd8")
    assert "drawn" in sample.images_are


def test_a_slice_holds_something():
    assert data.slice_size(available=100, wanted=1000, slices=3) == 33
    with pytest.raises(ValueError, match="too few"):
        data.slice_size(available=100, wanted=2, slices=3)


def test_the_work_of_vit_s16_is_known(tmp_path):
    config = {
        "image_size": 224, "patch_size": 16, "hidden_size": 384,
        "num_attention_heads": 6, "intermediate_size": 1536, "num_hidden_layers": 12,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))

    shape = Shape.read(tmp_path)

    assert shape.tokens == 197
    assert shape.flop == pytest.approx(9.2e9, rel=0.01)


def test_fidelity_looks_at_directions_and_neighbours():
    vectors = np.random.default_rng(0).normal(size=(20, 8))

    same = compare(vectors * 3, vectors)
    other = compare(vectors, vectors[::-1])

    assert same.lowest_cosine == pytest.approx(1)
    assert same.overlap == 1
    assert other.lowest_cosine < 0.9
    assert other.overlap < 1


def test_made_images_are_the_same_each_time_and_those_of_a_lesion_lie_close():
    made, again = (Maker(1000).make(1000, part=3) for _ in range(2))

    assert (made.vectors == again.vectors).all()
    assert (Maker(1000).make(1000, part=4).vectors != made.vectors).any()
    np.testing.assert_allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-5)
    assert made.lesions.max() < round(1000 / IMAGES_A_LESION)
    structure = Structure.of(made.vectors, made.lesions)
    assert structure.any_pair < structure.same_lesion < 1
    assert structure.nearest_low < structure.nearest < structure.nearest_high


def test_the_truth_that_is_kept_up_is_that_of_brute_force_over_all():
    maker, truth = Maker(600), Truth(600)
    parts = [points(maker.make(200, part), 200 * part) for part in range(3)]
    for part in parts:
        truth.add(part)

    vectors = np.concatenate([part.vectors for part in parts])
    ids = np.array([str(point) for part in parts for point in part.ids])
    for name in FILTERS:
        keep = np.concatenate([fits(part)[name] for part in parts])
        for query, found in zip(query_vectors(600)[:5], truth.ids()[name][:5], strict=True):
            order = np.argsort(-(vectors[keep] @ query))[:TOP]
            assert found == list(ids[keep][order])


def test_pairs_are_counted_once_by_distance_and_by_lesion():
    hashes = np.array([[0, 0, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]], bool)

    others, same = pairs_by_distance(hashes, np.array([7, 7, 8, 9]))

    assert others.tolist() == [1, 1, 1, 2]  # 0-3; 1-3; 1-2; 0-2 and 2-3
    assert same.tolist() == [0, 1, 0, 0]  # 0-1


def test_precision_is_of_what_searches_by_copies_find():
    found = Found("a hash", 64, 4, 0.1, {"smaller": 1.0, "trimmed": 0.5}, 0.25, 0)
    assert found.precision == pytest.approx(0.75)
    assert Found("a hash", 64, 0, 0.1, {"smaller": 0.0}, 0.0, 0).precision == 0


def test_every_kind_of_machine_has_goals(monkeypatch):
    found = set()
    for gpu, able in ((False, {}), (False, {"avx512_bf16": True}), (True, {})):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        found.add(machine.kind())
    assert found == set(results.FASTER_THAN_NOTEBOOK) == set(results.OF_PRODUCTS)
