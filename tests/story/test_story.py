"""A department's first day: ingest, look, search, restart, ingest again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from pipeline.images.picture import Picture, decode
from tests.system import WAIT, System, end, until


@pytest.fixture(scope="module")
def rows(drawn: Path) -> list[dict[str, Any]]:
    table = datasets.load_dataset(str(drawn), split="train")
    return list(table.cast_column("image", datasets.Image(decode=False)))


@pytest.fixture(scope="module")
def vectors(encoder: Path, rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """Every drawn image embedded here, one by one, and scaled to length 1: (n, dimensions)."""
    ours = Encoder.load(Settings(model=str(encoder)).encoder)
    found = []
    for row in rows:
        picture = decode(row["image"]["bytes"], 100_000_000)
        assert isinstance(picture, Picture)
        found.append(ours.embed(ours.preprocess(picture)[None], bulk=False)[0])
    matrix = np.stack(found)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def job(system: System, drawn: Path) -> dict[str, Any]:
    return system.ingest(drawn)


def test_the_account_closes(job: dict[str, Any], system: System) -> None:
    assert (job["state"], job["total"]) == ("succeeded", 200)
    assert (job["embedded"], job["unchanged"], job["rejected"]) == (200, 0, 0)
    assert system.count() == 200


@pytest.mark.usefixtures("job")
def test_every_image_is_held_once_under_its_own_names(
    system: System, rows: list[dict[str, Any]]
) -> None:
    indexed = {image["image_id"]: image["payload"] for image in system.indexed()}

    assert indexed.keys() == {row["image_id"] for row in rows}
    for number, row in enumerate(rows):
        payload = indexed[row["image_id"]]
        source = payload.pop("source")
        expected = {k: v for k, v in row.items() if k != "image" and v is not None}
        assert payload == expected
        assert (source["row"], source["kind"]) == (number, "dataset")


@pytest.mark.usefixtures("job")
def test_a_search_by_id_agrees_with_brute_force(
    system: System, rows: list[dict[str, Any]], vectors: np.ndarray
) -> None:
    found = system.search(image_id=rows[7]["image_id"], limit=20)["results"]

    _agree(found, rows, vectors @ vectors[7])
    assert found[0]["image_id"] == rows[7]["image_id"]
    assert found[0]["score"] == pytest.approx(1, abs=1e-5)


@pytest.mark.usefixtures("job")
def test_a_search_by_upload_with_a_filter_agrees_with_brute_force(
    system: System, rows: list[dict[str, Any]], vectors: np.ndarray
) -> None:
    condition = {
        "must": [{"key": "sex", "match": {"value": "female"}}],
        "must_not": [{"key": "age", "range": {"lt": 50}}],
    }
    found = system.search([rows[3]["image"]["bytes"]], filter=condition, limit=20)["results"]

    allowed = np.array(
        [r["sex"] == "female" and not (r["age"] is not None and r["age"] < 50) for r in rows]
    )
    _agree(found, rows, np.where(allowed, vectors @ vectors[3], -np.inf))


@pytest.mark.usefixtures("job")
def test_only_these_and_not_these(system: System, rows: list[dict[str, Any]]) -> None:
    ids = [row["image_id"] for row in rows[:10]]

    only = system.search(image_id=ids[0], ids=ids, limit=100)["results"]
    others = system.search(image_id=ids[0], not_ids=ids, limit=1000)["results"]

    assert {hit["image_id"] for hit in only} == set(ids)
    assert {hit["image_id"] for hit in others} == {row["image_id"] for row in rows[10:]}


@pytest.mark.usefixtures("job")
def test_a_batch_keeps_its_searches_apart(system: System, rows: list[dict[str, Any]]) -> None:
    first, second = rows[0]["image_id"], rows[1]["image_id"]
    answer = system.http.post(
        "/v1/searches/batch",
        json={
            "searches": [
                {"image_id": first, "limit": 4, "exclude": ["image_id", "source"]},
                {"image_id": second, "limit": 7, "include": ["dx"], "score_threshold": 0.2},
            ]
        },
        headers=WAIT,
    )

    one, two = answer.json()["results"]
    assert (len(one), one[0]["image_id"]) == (4, first)
    assert two[0]["image_id"] == second
    assert "image_id" not in one[0]["payload"]
    assert "dx" in one[0]["payload"]
    assert all(set(hit["payload"]) == {"dx"} and hit["score"] >= 0.2 for hit in two)


@pytest.mark.usefixtures("job")
def test_a_search_can_be_polled(system: System, rows: list[dict[str, Any]]) -> None:
    accepted = system.http.post("/v1/searches", json={"image_id": rows[0]["image_id"], "limit": 1})

    # A worker can be quicker than the api's look at it.
    finished_already = accepted.json()["state"] == "succeeded"
    assert accepted.status_code == (200 if finished_already else 202)
    assert ("Retry-After" in accepted.headers) != finished_already
    where = accepted.headers["Location"]
    finished = until(
        lambda: (s := system.http.get(where).json())["state"] == "succeeded" and s, "the result"
    )
    assert [hit["image_id"] for hit in finished["results"]] == [rows[0]["image_id"]]


@pytest.mark.usefixtures("job")
def test_every_result_has_a_picture(system: System, rows: list[dict[str, Any]]) -> None:
    hit = system.search(image_id=rows[0]["image_id"], limit=1)["results"][0]

    picture = decode(system.http.get(hit["preview_url"]).content, 100_000_000)

    original = decode(rows[0]["image"]["bytes"], 100_000_000)
    assert isinstance(picture, Picture)
    assert isinstance(original, Picture)
    assert max(picture.width, picture.height) <= 512
    assert picture.width / picture.height == pytest.approx(
        original.width / original.height, rel=0.01
    )


def test_after_a_restart_all_is_there_and_nothing_is_embedded_again(
    job: dict[str, Any], system: System, drawn: Path, rows: list[dict[str, Any]]
) -> None:
    system.stop()
    system.start_redis()
    system.worker.start()
    system.api.start()
    system.wait_ready()

    assert system.job(job["id"]) == job
    again = system.ingest(drawn)
    assert (again["embedded"], again["unchanged"], again["rejected"]) == (0, 200, 0)
    assert system.count() == 200
    assert system.search(image_id=rows[5]["image_id"], limit=1)["results"][0]["score"] > 0.999


def test_with_redis_gone_the_api_says_so_at_once_and_recovers(
    job: dict[str, Any], system: System
) -> None:
    end(system.redis_process)

    refused = system.http.post("/v1/jobs", json={"dataset": "any"})
    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert system.http.get("/readyz").status_code == 503
    assert system.http.get("/healthz").status_code == 200

    system.start_redis()
    system.wait_ready()
    until(lambda: system.search(image_id="DRAWN_000001")["state"] == "succeeded", "a search again")
    assert system.job(job["id"])["state"] == "succeeded"


def _agree(found: list[dict[str, Any]], rows: Sequence[dict[str, Any]], scores: np.ndarray) -> None:
    """The same scores in the same order; where two images tie, either may come first."""
    by_id = {row["image_id"]: float(score) for row, score in zip(rows, scores, strict=True)}
    best = np.sort(scores)[::-1][: len(found)]
    assert [hit["score"] for hit in found] == pytest.approx(best.tolist(), abs=1e-4)
    assert [by_id[hit["image_id"]] for hit in found] == pytest.approx(best.tolist(), abs=1e-4)
