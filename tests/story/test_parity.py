"""Every row of docs/parity.md: what the notebook does with its collection, and what is beyond it.

Each result is compared with brute force in numpy over the vectors that `kindred images export`
wrote. Runs on drawn images, and on the 10,015 real ones where they are.
"""

import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from pipeline.images.picture import Picture, decode
from tests.conftest import SHARED
from tests.system import PATIENCE, System

Row = dict[str, Any]
Keep = Callable[[Row], bool]


@dataclass(frozen=True)
class Held:
    """What is held, by brute force: vectors are float32 (n, d) of length 1, beside payloads."""

    system: System
    vectors: np.ndarray
    payloads: list[Row]

    def id(self, row: int) -> str:
        return str(self.payloads[row]["image_id"])

    def scores(self, row: int) -> np.ndarray:
        return self.vectors @ self.vectors[row]

    def pick(self, keep: Keep) -> int:
        return next(n for n, payload in enumerate(self.payloads) if keep(payload))


@pytest.fixture(scope="module", params=["drawn", "skin_cancer_full"])
def held(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, encoder: Path
) -> Iterator[Held]:
    """A running system that holds a data set, and all of it as exported by the command line."""
    if request.param == "drawn":
        source = request.getfixturevalue("drawn")
    else:
        source = SHARED / "skin_cancer_full"
        if not source.exists():
            pytest.skip(f"the real images are not here: {source.name}")
    folder = tmp_path_factory.mktemp(f"parity-{request.param}")
    with System(folder / "data", encoder) as system:
        job = system.ingest(source)
        assert job["state"] == "succeeded", job
        exported = folder / "exported"
        assert kindred(system, "images", "export", str(exported)) == {"rows": job["total"]}
        lines = (exported / "payloads.jsonl").read_text().splitlines()
        payloads = [json.loads(line)["payload"] for line in lines]
        yield Held(system, np.load(exported / "vectors.npy"), payloads)


# --- the notebook ------------------------------------------------------------------------------


def test_count(held: Held) -> None:
    assert held.system.count() == len(held.payloads)
    assert kindred(held.system, "facets")["count"] == len(held.payloads)


def test_count_under_a_filter(held: Held) -> None:
    wanted = {"must": [{"key": "sex", "match": {"value": "female"}}]}
    expected = sum(p.get("sex") == "female" for p in held.payloads)
    assert held.system.facets(wanted)["count"] == expected
    assert kindred(held.system, "facets", "--filter", json.dumps(wanted))["count"] == expected


def test_scroll_a_page(held: Held) -> None:
    page = held.system.http.get("/v1/images", params={"limit": 5}).json()
    assert [image["payload"] for image in page["images"]] == held.payloads[:5]
    assert page["cursor"]


def test_scroll_all_pages(held: Held) -> None:
    listed = kindred(held.system, "images", "list", "--all", "--limit", "500")["images"]
    assert [image["payload"] for image in listed] == held.payloads


def test_top_10_by_an_image_of_the_collection(held: Held) -> None:
    found = held.system.search(image_id=held.id(7), limit=10)["results"]
    assert found[0]["image_id"] == held.id(7)
    assert found[0]["score"] == pytest.approx(1, abs=1e-5)
    agree(held, found, held.scores(7), 10)
    assert same(kindred(held.system, "search", "--id", held.id(7)), found)


def test_must_and_should_with_an_age_range(held: Held) -> None:
    wanted = {
        "must": [{"key": "sex", "match": {"value": "female"}}],
        "should": [{"key": "age", "range": {"gte": 55.0}}],
    }

    def keep(p: Row) -> bool:
        return p.get("sex") == "female" and p.get("age", 0) >= 55

    found = held.system.search(image_id=held.id(3), filter=wanted, limit=10)["results"]
    agree(held, found, only(held, held.scores(3), keep), 10)
    by_hand = kindred(held.system, "search", "--id", held.id(3), "--filter", json.dumps(wanted))
    assert same(by_hand, found)


def test_pictures_of_the_results_with_their_captions(held: Held, tmp_path: Path) -> None:
    found = kindred(held.system, "search", "--id", held.id(5), "--limit", "3", "--save", tmp_path)

    pictures = sorted(tmp_path.iterdir())
    assert len(pictures) == 3
    for rank, (hit, file) in enumerate(zip(found["results"], pictures, strict=True), 1):
        assert file.name == f"{rank:03}-{hit['image_id']}.jpg"
        assert held.system.http.get(hit["preview_url"]).content == file.read_bytes()
        source = hit["payload"]["source"]
        with Image.open(file) as picture:
            shrunk = min(1, 512 / max(source["width"], source["height"]))
            assert picture.width == pytest.approx(source["width"] * shrunk, abs=1)
            assert picture.height == pytest.approx(source["height"] * shrunk, abs=1)
    shown = run(held.system, "search", "--id", held.id(5), "--limit", "3")
    for hit in found["results"]:
        caption = next(line for line in shown.splitlines() if hit["image_id"] in line)
        assert hit["payload"]["dx"] in caption
        assert f"{hit['score']:.4f}" in caption


def test_a_score_threshold(held: Held) -> None:
    scores = held.scores(11)
    for threshold in (0.92, float(np.sort(scores)[-15]) - 1e-6):
        query = {"image_id": held.id(11), "limit": 1000, "score_threshold": threshold}
        found = held.system.search(**query)["results"]
        agree(held, found, scores, min(1000, int((scores >= threshold).sum())))
        assert all(hit["score"] >= threshold for hit in found)


def test_only_these_ids_and_not_these_ids(held: Held) -> None:
    chosen = [held.id(row) for row in range(20, 120, 5)]
    scores = held.scores(20)

    these = held.system.search(image_id=held.id(20), ids=chosen, limit=10)["results"]
    others = held.system.search(image_id=held.id(20), not_ids=chosen, limit=10)["results"]

    agree(held, these, only(held, scores, lambda p: p["image_id"] in chosen), 10)
    agree(held, others, only(held, scores, lambda p: p["image_id"] not in chosen), 10)
    options = [word for image_id in chosen for word in ("--without", image_id)]
    assert same(kindred(held.system, "search", "--id", held.id(20), *options), others)


def test_except_some_diagnoses_and_not_at_some_places(held: Held) -> None:
    wanted = {
        "must": [{"key": "dx", "match": {"except": ["melanoma", "actinic_keratoses"]}}],
        "must_not": [{"key": "localization", "match": {"any": ["face", "neck"]}}],
    }

    def keep(p: Row) -> bool:
        allowed = p["dx"] not in ("melanoma", "actinic_keratoses")
        return allowed and p.get("localization") not in ("face", "neck")

    row = held.pick(lambda p: p["dx"] == "melanoma")
    found = held.system.search(image_id=held.id(row), filter=wanted, limit=10)["results"]
    agree(held, found, only(held, held.scores(row), keep), 10)


def test_two_different_searches_in_one_batch(held: Held, tmp_path: Path) -> None:
    chest = {"must": [{"key": "localization", "match": {"value": "chest"}}]}
    others = {"must_not": [{"key": "dx", "match": {"value": "melanocytic_Nevi"}}]}
    searches = [
        {
            "image_id": held.id(70),
            "filter": chest,
            "exclude": ["image_id", "dx_type"],
            "limit": 4,
        },
        {"image_id": held.id(77), "filter": others, "include": ["dx", "sex"], "limit": 7},
    ]
    file = tmp_path / "searches.json"
    file.write_text(json.dumps(searches))

    first, second = held.system.batch(searches)

    at_chest = only(held, held.scores(70), lambda p: p.get("localization") == "chest")
    agree(held, first, at_chest, 4)
    agree(held, second, only(held, held.scores(77), lambda p: p["dx"] != "melanocytic_Nevi"), 7)
    assert all(not {"image_id", "dx_type"} & set(hit["payload"]) for hit in first)
    assert all({"dx", "source"} <= set(hit["payload"]) for hit in first)
    assert all(set(hit["payload"]) <= {"dx", "sex"} for hit in second)
    assert kindred(held.system, "batch", str(file))["results"] == [first, second]


def test_the_vectors_as_a_file_with_the_payloads_beside_them(held: Held) -> None:
    assert held.vectors.dtype == np.float32
    assert len(held.vectors) == len(held.payloads) == len({p["image_id"] for p in held.payloads})
    assert np.linalg.norm(held.vectors, axis=1) == pytest.approx(1, abs=1e-5)
    shown = held.system.http.get(f"/v1/images/{held.id(9)}").json()
    assert shown["payload"] == held.payloads[9]
    by_vector = held.system.search(vector=held.vectors[9].tolist(), limit=5)["results"]
    agree(held, by_vector, held.scores(9), 5)


# --- beyond it ---------------------------------------------------------------------------------


def test_several_images_at_once(held: Held) -> None:
    rows = [1, 12, 33]
    found = held.system.search(positive=[held.id(row) for row in rows], limit=10)["results"]

    scores = cosine(held, held.vectors[rows].mean(axis=0))
    agree(held, found, leave_out(scores, rows), 10)


def test_several_uploads_at_once(held: Held) -> None:
    """The previews of drawn and real images are whole enough to be searched with."""
    rows = [1, 12]
    pictures = [held.system.http.get(preview_of(held, row)).content for row in rows]
    found = held.system.search(images=pictures, positive=[held.id(33)], limit=10)["results"]

    ours = [embedded(held, picture) for picture in pictures]
    scores = cosine(held, np.mean([*ours, held.vectors[33]], axis=0))
    agree(held, found, leave_out(scores, [33]), 10)


@pytest.mark.parametrize("strategy", ["average_vector", "best_score"])
def test_like_these_unlike_those(held: Held, strategy: str) -> None:
    likes, unlikes = [2, 14], [40, 41, 55]
    query = {
        "positive": [held.id(row) for row in likes],
        "negative": [held.id(row) for row in unlikes],
        "strategy": strategy,
    }
    found = held.system.search(**query, limit=10)["results"]

    if strategy == "average_vector":
        mean = 2 * held.vectors[likes].mean(axis=0) - held.vectors[unlikes].mean(axis=0)
        scores = cosine(held, mean)
    else:
        best = (held.vectors @ held.vectors[likes].T).max(axis=1)
        worst = (held.vectors @ held.vectors[unlikes].T).max(axis=1)
        scores = np.where(best > worst, sigmoid(best), -sigmoid(worst))
    agree(held, found, leave_out(scores, likes + unlikes), 10)


def test_a_rectangle_of_the_image(held: Held) -> None:
    """As if the rectangle had been cut out by hand and sent."""
    crop = {"left": 0.25, "top": 0.5, "width": 0.5, "height": 0.25}
    data = held.system.http.get(preview_of(held, 8)).content
    with Image.open(io.BytesIO(data)) as whole:
        left, top = round(whole.width * 0.25), round(whole.height * 0.5)
        right, bottom = round(whole.width * 0.75), round(whole.height * 0.75)
        part = Picture(whole.convert("RGB").crop((left, top, right, bottom)))
    expected = cosine(held, embedded(held, part))

    sent = held.system.search(images=[data], crop=crop, limit=10)["results"]
    by_id = held.system.search(image_id=held.id(8), crop=crop, limit=10)["results"]

    agree(held, sent, expected, 10)
    agree(held, by_id, expected, 10)
    assert sent != held.system.search(images=[data], limit=10)["results"]


def test_pictures_of_one_lesion_count_as_one(held: Held) -> None:
    counts = Counter(p["lesion_id"] for p in held.payloads)
    row = held.pick(lambda p: counts[p["lesion_id"]] > 1)
    query = {"image_id": held.id(row), "group_by": "lesion_id", "group_size": 3, "limit": 30}
    found = held.system.search(**query)["results"]

    scores = held.scores(row)
    order = np.argsort(-scores, kind="stable")
    groups: dict[str, list[int]] = {}
    for n in order:
        groups.setdefault(held.payloads[n]["lesion_id"], []).append(int(n))
    expected = list(groups.values())[:30]
    assert [hit["score"] for hit in found] == pytest.approx(
        [scores[members[0]] for members in expected], abs=1e-5
    )
    for hit, members in zip(found, expected, strict=True):
        assert hit["payload"]["lesion_id"] == held.payloads[members[0]]["lesion_id"]
        assert {o["image_id"] for o in hit["others"]} == {held.id(n) for n in members[1:3]}
    assert found[0]["others"]
    assert held.system.search(**{**query, "limit": 10, "offset": 5})["results"] == found[5:15]


def test_the_query_s_own_lesion_is_left_out(held: Held) -> None:
    counts = Counter(p["lesion_id"] for p in held.payloads)
    row = held.pick(lambda p: counts[p["lesion_id"]] > 1)
    own = held.payloads[row]["lesion_id"]
    found = held.system.search(image_id=held.id(row), not_same="lesion_id", limit=10)["results"]
    agree(held, found, only(held, held.scores(row), lambda p: p["lesion_id"] != own), 10)


def test_near_duplicates(held: Held, tmp_path: Path, tmp_path_factory: Any) -> None:
    """A smaller, recompressed, lighter copy is found by its hash; other lesions are not."""
    data = held.system.http.get(preview_of(held, 6)).content
    with Image.open(io.BytesIO(data)) as picture:
        small = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4))
        small.point(lambda value: min(255, value + 12)).save(tmp_path / "copy.jpg", quality=80)
    query = {"score_threshold": 0.8, "max_hash_distance": 40, "limit": 100}
    found = held.system.search(images=[(tmp_path / "copy.jpg").read_bytes()], **query)["results"]

    assert held.id(6) in {hit["image_id"] for hit in found}
    assert all(hit["hash_distance"] <= 40 and hit["score"] >= 0.8 for hit in found)
    hashes = [int(p["source"]["phash"], 16) for p in held.payloads]
    near = [
        n
        for n, hashed in enumerate(hashes)
        if n != 6 and (hashed ^ hashes[6]).bit_count() <= 40 and held.scores(6)[n] >= 0.8
    ]
    by_id = held.system.search(image_id=held.id(6), **query)["results"]
    assert {hit["image_id"] for hit in by_id} == {held.id(n) for n in near}


def test_text_on_a_vision_encoder_is_refused(held: Held) -> None:
    found = held.system.search(text="a mole on the back")
    assert (found["state"], found["error"]["status"]) == ("failed", 422)
    assert "cannot search by text" in found["error"]["detail"]


def test_facets_for_the_filters(held: Held) -> None:
    wanted = {"must": [{"key": "age", "range": {"gte": 40, "lt": 70}}]}
    fitting = [p for p in held.payloads if 40 <= p.get("age", 0) < 70]

    found = held.system.facets(wanted)

    assert found["count"] == len(fitting)
    for field in ("dx", "sex", "localization", "dx_type"):
        counts = {value["value"]: value["count"] for value in found["facets"][field]}
        assert counts == Counter(p[field] for p in fitting if field in p)
    ages = [p["age"] for p in fitting]
    assert found["ranges"]["age"] == {"min": min(ages), "max": max(ages)}
    assert "image_id" not in found["facets"]


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "place", "says"),
    [
        ({"limit": 0}, "limit", "greater than or equal to 1"),
        ({"limit": 10_000}, "limit", "less than or equal to 1000"),
        ({"score_threshold": 1.5}, "score_threshold", "less than or equal to 1"),
        ({"crop": {"left": 0.6, "top": 0, "width": 0.5, "height": 1}}, "crop", "outside"),
        ({"text": "and this"}, "image_id", "exactly one"),
        (
            {"filter": {"must": [{"key": "age", "range": {"gte": 60, "lt": 40}}]}},
            "filter.must.0.range",
            "nothing can lie in this range",
        ),
        (
            {
                "filter": {
                    "must": [{"key": "dx", "match": {"value": "melanoma"}}],
                    "must_not": [{"key": "dx", "match": {"any": ["nevus", "melanoma"]}}],
                }
            },
            "filter",
            "no image can fit",
        ),
        ({"ids": ["a"], "not_ids": ["a", "b"]}, "", "no image can fit"),
        ({"unknown": 1}, "unknown", "not permitted"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(
    held: Held, query: Row, place: str, says: str
) -> None:
    answer = held.system.http.post("/v1/searches", json={"image_id": held.id(0), **query})
    assert answer.status_code == 422
    [fault] = answer.json()["errors"]
    assert fault["path"] == place
    assert says in fault["message"]


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ({"filter": {"must": [{"key": "diagnosis", "match": {"value": "x"}}]}}, 422, "No image"),
        ({"include": ["diagnosis"]}, 422, "No image has this field"),
        ({"group_by": "age"}, 422, "must be one of lesion_id"),
        ({"image_id": "nobody"}, 404, "There is no image nobody"),
    ],
)
def test_what_the_collection_lacks_is_said(held: Held, query: Row, status: int, says: str) -> None:
    found = held.system.search(**{"image_id": held.id(0), **query})
    assert (found["state"], found["error"]["status"]) == ("failed", status)
    assert says in found["error"]["detail"]


def test_a_photo_of_20_megapixels_is_searched(held: Held) -> None:
    data = held.system.http.get(preview_of(held, 4)).content
    large = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        picture.resize((5472, 3648)).save(large, "JPEG", quality=85)
    found = held.system.search(images=[large.getvalue()], limit=3)
    assert found["state"] == "succeeded"
    assert len(found["results"]) == 3


# --- helpers -----------------------------------------------------------------------------------


def run(system: System, *words: Any) -> str:
    """What `kindred …` prints on standard output. The command must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", *map(str, words)],
        env={**os.environ, "KINDRED_URL": str(system.http.base_url)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def kindred(system: System, *words: Any) -> Any:
    return json.loads(run(system, *words, "--json"))


def same(answer: Any, found: list[Row]) -> bool:
    return bool(answer["results"] == found)


def agree(held: Held, found: list[Row], scores: np.ndarray, count: int) -> None:
    """The best `count`, in order. Where two scores tie, either image may come first."""
    best = np.sort(scores[np.isfinite(scores)])[::-1][:count]
    assert len(found) == len(best)
    assert [hit["score"] for hit in found] == pytest.approx(best.tolist(), abs=2e-5)
    rows = {payload["image_id"]: n for n, payload in enumerate(held.payloads)}
    assert len({hit["image_id"] for hit in found}) == len(found)
    for hit in found:
        assert hit["score"] == pytest.approx(scores[rows[hit["image_id"]]], abs=2e-5)


def only(held: Held, scores: np.ndarray, keep: Keep) -> np.ndarray:
    return np.where([keep(payload) for payload in held.payloads], scores, -np.inf)


def leave_out(scores: np.ndarray, rows: list[int]) -> np.ndarray:
    left = scores.copy()
    left[rows] = -np.inf
    return left


def cosine(held: Held, vector: np.ndarray) -> np.ndarray:
    scores: np.ndarray = held.vectors @ (vector / np.linalg.norm(vector))
    return scores


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Qdrant's, as best_score uses it."""
    return 0.5 * (x / (1 + np.abs(x)) + 1)


def preview_of(held: Held, row: int) -> str:
    return f"/v1/images/{held.id(row)}/preview"


def embedded(held: Held, picture: bytes | Picture) -> np.ndarray:
    """float32 (d,) of length 1, by an encoder in this process."""
    encoder = Encoder.load(Settings(model=held.system.environment["KINDRED_MODEL"]).encoder)
    if isinstance(picture, bytes):
        decoded = decode(picture, 100_000_000)
        assert isinstance(decoded, Picture)
        picture = decoded
    vector = encoder.embed(encoder.preprocess(picture)[None], bulk=False)[0]
    unit: np.ndarray = vector / np.linalg.norm(vector)
    return unit
