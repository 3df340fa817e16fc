"""A search without its own image and lesion: by id, by a file sent along, in groups, in a batch."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.identity import point_id, sha256
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from pipeline.evaluation.closeness import Calibrations
from pipeline.images.decoders import Decoders
from pipeline.images.picture import Picture, decode
from pipeline.messages import SearchQuery
from pipeline.operations.base import Call
from pipeline.operations.search import BATCH, BatchRequest
from pipeline.retrieval.fields import Fields
from pipeline.retrieval.search import Search
from pipeline.retrieval.targets import QueryTargets
from pipeline.store import Points
from pipeline.store.edge import EdgeStore
from tests.decoders import InlineDecoders
from tests.encoders import DIMENSIONS, ENCODER

SIDE = 64  # pixels


class GreySteps:
    resizer = "pillow"

    def pixels_of(self, picture: Picture) -> np.ndarray:
        side = int(DIMENSIONS**0.5)
        return np.asarray(picture.image.convert("L").resize((side, side)))


class GreyEncoder:
    """A picture's vector is the picture itself, in a few grey pixels."""

    info = ENCODER
    steps = GreySteps()

    def preprocess(self, picture: Picture) -> np.ndarray:
        return self.steps.pixels_of(picture)

    def embed(self, pixels: np.ndarray, *, bulk: bool) -> np.ndarray:
        return pixels.reshape(len(pixels), -1).astype(np.float32)


class Collection:
    """Indexed files, and searches among them."""

    def __init__(self, folder: Path, **settings: str) -> None:
        chosen = Settings(data=folder, **settings)  # type: ignore[arg-type]
        self.encoder = cast(Encoder, GreyEncoder())
        self.store = EdgeStore(folder / "store", "kindred", ENCODER, chosen.indexed_fields)
        self.blobs = Blobs(str(folder / "blobs"))
        targets = QueryTargets(
            self.encoder, self.store, self.blobs, cast(Decoders, InlineDecoders(chosen.max_pixels))
        )
        fields = Fields(self.store, chosen.indexed_fields, chosen.lesion_field)
        self.search = Search(self.store, targets, fields)
        self.calibrations = Calibrations(self.blobs, ENCODER, self.store.count)

    def index(self, files: Sequence[bytes], payloads: Sequence[dict[str, Any]]) -> None:
        pictures = [cast(Picture, decode(data, 10**6)) for data in files]
        pixels = np.stack([self.encoder.preprocess(picture) for picture in pictures])
        named = [
            {"image_id": str(n), "source": {"sha256": sha256(data)}, **payload}
            for n, (data, payload) in enumerate(zip(files, payloads, strict=True))
        ]
        ids = [point_id(payload["image_id"]) for payload in named]
        self.store.upsert(Points(ids, self.encoder.embed(pixels, bulk=True), named))
        for point, data in zip(ids, files, strict=True):
            self.blobs.write(preview_name(point), data)

    def found(self, *sent: bytes, **query: Any) -> list[str]:
        """The ids of the hits, without those of the searched image's lesion."""
        names = [f"sent-{n}" for n in range(len(sent))]
        for name, data in zip(names, sent, strict=True):
            self.blobs.write(name, data)
        search = SearchQuery.model_validate({"exclude_same_lesion": True, **query})
        [outcome] = self.search.run([search], [names])
        assert isinstance(outcome, tuple), outcome
        return [hit.image_id for hit in outcome]


@pytest.fixture(autouse=True)
def few_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a large collection: most images are not among the nearest."""
    monkeypatch.setattr("pipeline.retrieval.same._NEAREST", 2)


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    opened = Collection(tmp_path)
    yield opened
    opened.store.close()


def file(number: int, quality: int = 90) -> bytes:
    """A picture of its own for each number."""
    coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(coarse).resize((SIDE, SIDE)).save(data, "JPEG", quality=quality)
    return data.getvalue()


FILES = [file(n) for n in range(8)]
LESIONS: list[dict[str, Any]] = [{"lesion_id": f"L{n // 2}"} for n in range(8)]


def test_a_stored_image_and_its_lesion_are_no_hits_and_cost_none(collection: Collection) -> None:
    collection.index(FILES, LESIONS)
    assert set(collection.found(image_id="2")) == set("014567")
    assert len(collection.found(image_id="2", limit=6)) == 6
    assert "2" in collection.found(image_id="2", exclude_same_lesion=False)


def test_a_file_that_is_indexed_is_the_searched_image_and_another_is_not(
    collection: Collection,
) -> None:
    collection.index(FILES, LESIONS)
    assert set(collection.found(FILES[2])) == set("014567")
    assert set(collection.found(file(2, quality=60))) == set("01234567")


def test_a_part_of_a_file_leaves_out_all_of_it(collection: Collection) -> None:
    collection.index(FILES, LESIONS)
    for left, top in ((0, 0), (0.7, 0), (0, 0.7), (0.7, 0.7)):
        crop = {"left": left, "top": top, "width": 0.3, "height": 0.3}
        assert set(collection.found(FILES[2], crop=crop)) == set("014567")
        assert set(collection.found(image_id="2", crop=crop)) == set("014567")


def test_several_examples_leave_out_all_their_lesions(collection: Collection) -> None:
    collection.index(FILES, LESIONS)
    assert set(collection.found(FILES[2], positive=["6"], negative=["0"])) == set("145")


def test_a_copy_under_another_id_is_the_same_image(collection: Collection) -> None:
    collection.index([*FILES, FILES[2]], [*LESIONS, {"lesion_id": "L3"}])
    assert set(collection.found(image_id="2")) == set("0145")


@pytest.mark.parametrize("lesion", [{}, {"lesion_id": ["a", "b"]}], ids=["none", "a list"])
def test_an_image_without_a_lesion_leaves_out_itself_alone(
    collection: Collection, lesion: dict[str, Any]
) -> None:
    collection.index(FILES[:3], [lesion] * 3)
    assert set(collection.found(image_id="0")) == set("12")
    assert set(collection.found(FILES[0])) == set("12")


def test_groups_are_without_it_too(collection: Collection) -> None:
    collection.index(FILES, LESIONS)
    groups = collection.found(image_id="2", group_by="lesion_id", group_size=2)
    assert sorted(int(one) // 2 for one in groups) == [0, 2, 3]


def test_words_and_vectors_have_no_image_to_leave_out(collection: Collection) -> None:
    collection.index(FILES, LESIONS)
    assert len(collection.found(vector=[1.0] * DIMENSIONS)) == 8


def test_the_field_of_the_lesion_is_a_setting(tmp_path: Path) -> None:
    fields = "image_id=keyword,PatientID=keyword"
    collection = Collection(tmp_path, indexed_fields=fields, lesion_field="PatientID")
    collection.index(FILES[:4], [{"PatientID": f"P{n // 2}", "lesion_id": "L"} for n in range(4)])
    assert set(collection.found(image_id="0")) == set("23")
    collection.store.close()


def test_where_no_lesion_is_indexed_the_image_alone_is_left_out(tmp_path: Path) -> None:
    collection = Collection(tmp_path, indexed_fields="image_id=keyword,dx=keyword")
    collection.index(FILES[:4], LESIONS[:4])
    assert set(collection.found(image_id="0")) == set("123")
    collection.store.close()


# --- batches -----------------------------------------------------------------------------------


def test_a_search_that_is_impossible_fails_alone(collection: Collection) -> None:
    collection.index(FILES, LESIONS)
    wrong = {"must": [{"key": "shoe_size", "match": {"value": 4}}]}
    searches = tuple(
        SearchQuery.model_validate({"limit": 2, **query})
        for query in (
            {"image_id": "2"},
            {"image_id": "unknown"},
            {"image_id": "2", "filter": wrong},
            {"image_id": "2", "exclude_same_lesion": True},
        )
    )
    context: Any = collection
    assert callable(BATCH.run)
    answer = BATCH.run(context, BatchRequest(searches=searches), Call("id", "/v1"))

    assert [hits and len(hits) for hits in answer.results] == [2, None, None, 2]
    kinds = [error and (error.status, error.type) for error in answer.errors]
    assert kinds == [None, (404, "not-found"), (422, "invalid-query"), None]
    assert "There is no image unknown." in answer.errors[1].detail
    assert answer.errors[2].detail.startswith("filter.must.0")


def test_a_batch_without_faults_has_no_list_of_them(collection: Collection) -> None:
    collection.index(FILES, LESIONS)
    searches = (SearchQuery(image_id="2"),)
    context: Any = collection
    assert callable(BATCH.run)
    answer = BATCH.run(context, BatchRequest(searches=searches), Call("id", "/v1"))
    assert "errors" not in answer.model_dump()
