"""Words as a query, where the encoder reads text: through api, worker and store."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from tests.system import WAIT, System
from tests.towers import SENTENCES, write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, clip: Path, drawn: Path) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("text"), clip) as running:
        running.ingest(drawn, limit=60)
        yield running


def test_words_find_what_brute_force_finds(system: System, clip: Path) -> None:
    pages = system.http.get("/v1/images", params={"limit": 60, "vectors": True}).json()["images"]
    vectors = np.array([image["vector"] for image in pages], np.float32)
    encoder = Encoder.load(Settings(model=str(clip)).encoder)

    for words in SENTENCES:
        vector = encoder.embed_text([words])[0]
        scores = vectors @ (vector / np.linalg.norm(vector))
        found = system.search(text=words, limit=5)["results"]
        best = np.argsort(-scores)[:5]
        assert [hit["score"] for hit in found] == pytest.approx(scores[best].tolist(), abs=1e-5)
        assert found[0]["image_id"] == pages[best[0]]["image_id"]


def test_the_collection_says_that_words_can_be_searched_for(system: System) -> None:
    found = system.http.get("/v1/collection").json()
    assert found["searches_text"]
    assert found["encoder"]["pooling"] == "projection"


def test_words_and_pictures_share_a_batch(system: System) -> None:
    image_id = system.indexed()[0]["image_id"]
    words, picture = system.batch([{"text": SENTENCES[0], "limit": 3}, {"image_id": image_id}])
    assert len(words) == 3
    assert picture[0]["image_id"] == image_id


@pytest.mark.parametrize("weight", [0, 0.3, 1])
def test_an_image_and_words_are_one_mixed_vector(system: System, clip: Path, weight: float) -> None:
    pages = system.http.get("/v1/images", params={"limit": 60, "vectors": True}).json()["images"]
    vectors = np.array([image["vector"] for image in pages], np.float32)
    words = Encoder.load(Settings(model=str(clip)).encoder).embed_text([SENTENCES[1]])[0]
    mixed = (1 - weight) * vectors[7] + weight * words / np.linalg.norm(words)
    scores = vectors @ mixed / np.linalg.norm(mixed)
    best = [pages[n]["image_id"] for n in np.argsort(-scores)[:5]]
    mix = {"text": SENTENCES[1], "text_weight": weight, "limit": 5}

    found = system.search(image_id=pages[7]["image_id"], **mix)["results"]
    [in_a_batch] = system.batch([{"image_id": pages[7]["image_id"], **mix}])

    assert [hit["image_id"] for hit in found] == best
    assert [hit["score"] for hit in found] == pytest.approx(np.sort(-scores)[:5] * -1, abs=1e-5)
    assert in_a_batch == found


def test_a_picture_that_is_sent_is_mixed_with_words_as_well(system: System, drawn: Path) -> None:
    row = pq.read_table(drawn).slice(7, 1).to_pylist()[0]
    mix = {"text": SENTENCES[1], "text_weight": 0.3, "limit": 5}

    sent = system.search([row["image"]["bytes"]], **mix)["results"]

    stored = system.search(image_id=row["image_id"], **mix)["results"]
    assert [hit["image_id"] for hit in sent] == [hit["image_id"] for hit in stored]


def test_a_tower_that_reads_text_explains_as_well(system: System) -> None:
    first, second = (image["image_id"] for image in system.indexed()[:2])
    pair = {"first": {"image_id": first}, "second": {"image_id": second}}
    found = system.http.post("/v1/explanations", json=pair, headers=WAIT).json()
    assert (found["state"], found["first"]["rows"]) == ("succeeded", 4)
