"""Words as a query, where the encoder reads text: through api, worker and store."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from tests.system import System
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
