"""Searches on the real engine, with vectors in place of pictures: groups, examples, conditions."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from pipeline.base.blobs import Blobs
from pipeline.base.errors import InvalidQuery, NotFound
from pipeline.base.identity import point_id
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from pipeline.evaluation.closeness import Calibrations
from pipeline.images.decoders import Decoders
from pipeline.images.decoding import TOO_SMALL, Picture, cut
from pipeline.images.hashes import HASH_BITS, NEAR_BITS, hash_distance, perceptual_hash
from pipeline.images.resizing import Resizer
from pipeline.messages import Hit, SearchQuery
from pipeline.operations.base import Call, Operation
from pipeline.operations.browse import IMAGES, ImagesRequest
from pipeline.operations.context import Context
from pipeline.operations.facets import FACETS, FacetsRequest
from pipeline.operations.search import BATCH, SEARCH, BatchRequest, SearchRequest
from pipeline.retrieval.fields import Fields
from pipeline.retrieval.search import Search
from pipeline.retrieval.targets import QueryTargets
from pipeline.store import Points, Query
from pipeline.store.edge import EdgeStore
from tests.decoders import InlineDecoders
from tests.encoders import DIMENSIONS, ENCODER

INDEXES = "image_id=keyword,lesion_id=keyword,dx=keyword,age=float,visit=integer"


class NoModel:
    """What a search by ids and vectors needs of an encoder."""

    info = ENCODER
    reads_text = False


class Opened:
    """Of a worker's context, what these operations use."""

    def __init__(self, store: EdgeStore, fields: Fields, targets: QueryTargets) -> None:
        self.store, self.fields, self.encoder = store, fields, targets.encoder
        self.search = Search(store, targets, fields)
        self.calibrations = Calibrations(targets.blobs, ENCODER, store.count)

    def answer(self, operation: Operation, request: Any) -> Any:
        assert callable(operation.run)
        return operation.run(cast(Context, self), request, Call("id", "/v1"))


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Opened]:
    settings = Settings(data=tmp_path, indexed_fields=INDEXES)
    store = EdgeStore(tmp_path / "store", "kindred", ENCODER, settings.indexed_fields)
    blobs = Blobs(str(tmp_path / "blobs"))
    targets = QueryTargets(cast(Encoder, NoModel()), store, blobs, cast(Decoders, InlineDecoders()))
    yield Opened(store, Fields(store, settings.indexed_fields), targets)
    store.close()


def index(answers: Opened, payloads: Sequence[dict[str, Any]]) -> np.ndarray:
    """Images that turn away from image 0, each a little further: float32 (n, DIMENSIONS)."""
    angles = np.linspace(0, np.pi / 2, len(payloads))
    vectors = np.zeros((len(payloads), DIMENSIONS), np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
    named = [{"image_id": str(n), **payload} for n, payload in enumerate(payloads)]
    ids = [point_id(payload["image_id"]) for payload in named]
    answers.store.upsert(Points(ids, vectors, named))
    return vectors


def found(answers: Opened, **query: Any) -> tuple[Hit, ...]:
    search = SearchQuery.model_validate({"image_id": "0", **query})
    return answers.answer(SEARCH, SearchRequest(query=search)).results


def names(hits: Sequence[Hit]) -> list[str]:
    return [hit.image_id for hit in hits]


@pytest.mark.parametrize("exact", [False, True])
def test_a_search_that_asks_to_be_exact_is(
    answers: Opened, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(answers, [{}] * 3)
    sent: list[Query] = []
    query = EdgeStore.query
    monkeypatch.setattr(
        EdgeStore, "query", lambda store, queries: sent.extend(queries) or query(store, queries)
    )
    found(answers, exact=exact)
    assert [each.exact for each in sent] == [exact]


# --- groups ------------------------------------------------------------------------------------


def test_a_lesion_of_more_images_than_are_fetched_at_once_hides_nothing(answers: Opened) -> None:
    index(answers, [{"lesion_id": "L"}] * 200 + [{"lesion_id": str(n % 3)} for n in range(50)])
    hits = found(answers, group_by="lesion_id", limit=10)
    assert names(hits) == ["0", "200", "201", "202"]
    assert [hit.others for hit in hits] == [()] * 4


def test_images_without_the_value_are_groups_of_their_own(answers: Opened) -> None:
    index(answers, [{}, {"lesion_id": "L"}, {}, {"lesion_id": "L"}, {"lesion_id": ["a", "b"]}, {}])
    hits = found(answers, group_by="lesion_id", group_size=2)
    assert names(hits) == ["0", "1", "2", "4", "5"]
    assert [names(hit.others or ()) for hit in hits] == [[], ["3"], [], [], []]


def test_groups_can_be_of_numbers_and_keep_to_the_filter(answers: Opened) -> None:
    index(answers, [{"visit": n % 4, "dx": "ab"[n % 2]} for n in range(40)])
    only_a = {"must": [{"key": "dx", "match": {"value": "a"}}]}
    hits = found(answers, group_by="visit", group_size=3, filter=only_a)
    assert names(hits) == ["0", "2"]
    assert [names(hit.others or ()) for hit in hits] == [["4", "8"], ["6", "10"]]


def test_pages_of_groups_and_the_threshold(answers: Opened) -> None:
    vectors = index(answers, [{"lesion_id": str(n // 2)} for n in range(300)])
    everything = found(answers, group_by="lesion_id", limit=150)
    assert names(everything) == [str(n) for n in range(0, 300, 2)]
    assert found(answers, group_by="lesion_id", limit=7, offset=90) == everything[90:97]
    least = float(vectors[0] @ vectors[100]) - 1e-6
    near = found(answers, group_by="lesion_id", limit=150, score_threshold=least)
    assert near == everything[:51]


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, {"image_id", "lesion_id", "dx"}),
        ({"include": ["dx"]}, {"dx"}),
        ({"exclude": ["image_id", "lesion_id"]}, {"dx"}),
        ({"include": ["lesion_id"]}, {"lesion_id"}),
    ],
)
def test_grouping_shows_no_field_that_was_not_asked_for(
    answers: Opened, fields: dict[str, Any], shown: set[str]
) -> None:
    index(answers, [{"lesion_id": "L", "dx": "a"}] * 3)
    [hit] = found(answers, group_by="lesion_id", group_size=2, **fields)
    assert set(hit.payload) == shown
    assert [set(other.payload) for other in hit.others or ()] == [shown]


# --- what is left out --------------------------------------------------------------------------


def test_an_image_without_a_lesion_leaves_out_itself_alone(answers: Opened) -> None:
    index(answers, [{}, {"lesion_id": "L"}, {}])
    assert names(found(answers, not_same="lesion_id")) == ["1", "2"]


def test_the_lesions_of_what_shall_be_alike_are_left_out_not_those_of_the_others(
    answers: Opened,
) -> None:
    index(answers, [{"lesion_id": "abc"[n % 3]} for n in range(9)])
    query = {"image_id": None, "positive": ["0", "1"], "negative": ["2"], "not_same": "lesion_id"}
    assert set(names(found(answers, **query))) == {"5", "8"}


@pytest.mark.parametrize("strategy", ["average_vector", "best_score", "best_match"])
def test_examples_can_be_ids_alone(answers: Opened, strategy: str) -> None:
    """A vector of nothing would be one of NaN, with a warning, which fails a test."""
    index(answers, [{"lesion_id": str(n // 2)} for n in range(20)])
    hits = found(
        answers, image_id=None, positive=["6", "7"], strategy=strategy, group_by="lesion_id"
    )
    assert {hit.payload["lesion_id"] for hit in hits[:2]} == {"2", "4"}


def test_examples_that_cancel_each_other_out_are_refused(answers: Opened) -> None:
    vector = np.eye(DIMENSIONS, dtype=np.float32)[:1]
    ids, payloads = [point_id("0"), point_id("1")], [{"image_id": "0"}, {"image_id": "1"}]
    answers.store.upsert(Points(ids, np.concatenate((vector, -vector)), payloads))
    with pytest.raises(InvalidQuery, match="cancel each other out"):
        found(answers, image_id=None, positive=["0", "1"])


def test_an_id_that_is_not_held_is_named(answers: Opened) -> None:
    index(answers, [{}])
    with pytest.raises(NotFound, match="There is no image 7"):
        found(answers, image_id=None, positive=["0"], negative=["7"])


# --- fields ------------------------------------------------------------------------------------


def test_a_field_that_no_image_has_is_refused_and_a_rare_one_is_not(answers: Opened) -> None:
    index(answers, [{}] * 50 + [{"body part": {"side": "left"}}])
    rare = {"must": [{"key": '"body part".side', "match": {"value": "left"}}]}
    assert names(found(answers, filter=rare)) == ["50"]
    wrong = {"should": [{"must_not": [{"is_null": {"key": "bodypart.side"}}]}]}
    place = ("filter", "should", 0, "must_not", 0, "is_null", "key")
    for search in (
        lambda: found(answers, filter=wrong),
        lambda: answers.answer(IMAGES, ImagesRequest.model_validate({"filter": wrong})),
        lambda: answers.answer(FACETS, FacetsRequest.model_validate({"filter": wrong})),
    ):
        with pytest.raises(InvalidQuery) as refusal:
            search()
        assert refusal.value.path == place


def test_in_an_empty_collection_no_field_is_wrong(answers: Opened) -> None:
    wanted = {"must": [{"key": "anything", "match": {"value": 1}}]}
    assert answers.answer(IMAGES, ImagesRequest.model_validate({"filter": wanted})).images == ()


def test_ids_are_no_facets_and_numbers_have_ranges(answers: Opened) -> None:
    index(answers, [{"lesion_id": "L", "dx": "a", "age": 40.0, "visit": 3}, {"dx": "b"}])
    facets = answers.answer(FACETS, FacetsRequest())
    assert {name: [v.value for v in values] for name, values in facets.facets.items()} == {
        "dx": ["a", "b"],
        "visit": [3],
    }
    assert {name: (r.min, r.max) for name, r in facets.ranges.items()} == {
        "age": (40, 40),
        "visit": (3, 3),
    }


# --- batches -----------------------------------------------------------------------------------


def test_a_batch_mixes_plain_and_grouped_searches(answers: Opened) -> None:
    index(answers, [{"lesion_id": str(n // 2)} for n in range(20)])
    plain = SearchQuery(image_id="0", limit=3)
    grouped = SearchQuery(image_id="0", limit=3, group_by="lesion_id")
    results = answers.answer(BATCH, BatchRequest(searches=(grouped, plain, grouped))).results
    assert [names(hits) for hits in results] == [["0", "2", "4"], ["0", "1", "2"], ["0", "2", "4"]]


# --- what a query may say ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "pictures", "place"),
    [
        ({}, 0, "image_id"),
        ({"image_id": "a", "text": "b"}, 0, "image_id"),
        ({"image_id": "a"}, 1, "image_id"),
        ({"image_id": "a", "positive": ["b"]}, 0, "image_id"),
        ({"image_id": "a", "negative": ["b"]}, 0, "negative"),
        ({"text": "a", "strategy": "best_score"}, 0, "negative"),
        ({"crop": {"left": 0, "top": 0, "width": 1, "height": 1}}, 2, "crop"),
        ({"crop": {"left": 0, "top": 0, "width": 1, "height": 1}, "text": "a"}, 0, "crop"),
        ({"max_hash_distance": 3, "positive": ["a"]}, 1, "max_hash_distance"),
        ({"not_same": "lesion_id"}, 1, "not_same"),
        ({"text_weight": 0.5, "text": "a"}, 0, "text_weight"),
        ({"text_weight": 0.5, "image_id": "a"}, 0, "text_weight"),
        ({"text_weight": 0.5, "text": "a", "vector": [1.0]}, 0, "text_weight"),
        ({"text_weight": 0.5, "text": "a", "image_id": "a", "vector": [1.0]}, 0, "image_id"),
        ({"text_weight": 0, "text": "a", "strategy": "best_score"}, 2, "strategy"),
        ({"text_weight": 0, "text": "a", "max_hash_distance": 3}, 1, "max_hash_distance"),
    ],
)
def test_a_search_starts_from_one_thing(query: dict[str, Any], pictures: int, place: str) -> None:
    with pytest.raises(InvalidQuery) as refusal:
        SearchQuery.model_validate(query).check_target(pictures)
    assert refusal.value.path == (place,)


@pytest.mark.parametrize(
    ("query", "pictures"),
    [
        ({"positive": ["a"], "negative": ["b"], "not_same": "lesion_id"}, 3),
        ({"negative": ["b"], "strategy": "best_score"}, 1),
        ({"crop": {"left": 0.1, "top": 0, "width": 0.9, "height": 1}}, 1),
        ({"max_hash_distance": 3, "image_id": "a", "not_same": "lesion_id"}, 0),
        ({"text": "a", "text_weight": 0.3, "image_id": "a", "not_same": "lesion_id"}, 0),
        ({"text": "a", "text_weight": 1, "positive": ["a"], "negative": ["b"]}, 1),
    ],
)
def test_what_can_be_combined(query: dict[str, Any], pictures: int) -> None:
    SearchQuery.model_validate(query).check_target(pictures)


@pytest.mark.parametrize(
    "query",
    [
        {"group_size": 2},
        {"group_by": "dx", "max_hash_distance": 3},
        {"positive": ["a"], "negative": ["a"]},
        {"include": [], "exclude": []},
        {"strategy": "sum_scores"},
    ],
)
def test_what_contradicts_itself_is_refused(query: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SearchQuery.model_validate(query)


# --- rectangles and hashes -----------------------------------------------------------------------


def test_a_rectangle_is_cut_to_the_pixel() -> None:
    pixels = np.arange(40 * 100 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 100, 3)
    part = cut(Picture(Image.fromarray(pixels)), 0.1, 0.5, 0.9, 0.25)
    assert isinstance(part, Picture)
    assert np.array_equal(np.asarray(part.image), pixels[20:30, 10:100])


def test_a_rectangle_of_a_few_pixels_is_refused() -> None:
    picture = Picture(Image.new("RGB", (100, 40)))
    assert cut(picture, 0, 0, 0.5, 0.1) == TOO_SMALL


@pytest.mark.parametrize("resizer", ["pillow", "torch"])
def test_a_hash_survives_scaling_and_light_and_tells_pictures_apart(resizer: Resizer) -> None:
    rng = np.random.default_rng(3)

    def blobs() -> Image.Image:
        coarse = rng.integers(0, 200, (6, 6, 3)).astype(np.uint8)
        return Image.fromarray(coarse).resize((480, 360), Image.Resampling.BICUBIC)

    one, other = blobs(), blobs()
    copy = one.resize((211, 158)).point(lambda value: value + 30)
    hashes = [perceptual_hash(Picture(image), resizer) for image in (one, copy, other)]
    assert [len(value) for value in hashes] == [64] * 3
    assert hash_distance(hashes[0], hashes[1]) <= 16
    assert hash_distance(hashes[0], hashes[2]) > 2 * NEAR_BITS


def photograph(seed: int) -> Image.Image:
    """What a dermatoscope sees: a dark spot in the middle, hairs, and the grain of a sensor."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-75:75, -100:100]
    spot = np.exp(-((x**2 + y**2) / rng.uniform(500, 900)))
    coarse = Image.fromarray(rng.integers(0, 60, (24, 32), dtype=np.uint8))
    skin = 190 + np.asarray(coarse.resize((200, 150), Image.Resampling.BICUBIC)) / 2
    grain = rng.normal(0, 3, (150, 200))
    channels = [np.clip(skin - 120 * spot + grain + tint, 0, 255) for tint in (20, -20, -30)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def saved(image: Image.Image, quality: int) -> Image.Image:
    image.save(out := io.BytesIO(), "JPEG", quality=quality)
    return Image.open(out).convert("RGB")


@pytest.mark.parametrize(
    "copy",
    [
        lambda image: image.resize((100, 75), Image.Resampling.BICUBIC),
        lambda image: image.resize((150, 112), Image.Resampling.BICUBIC),
        lambda image: image.resize((400, 300), Image.Resampling.BICUBIC),
        lambda image: saved(image, 90),
        lambda image: saved(image, 40),
        lambda image: image.point(lambda value: min(255, value + 12)),
        lambda image: image.crop((2, 1, 198, 149)),
    ],
    ids=["half", "3/4", "double", "JPEG 90", "JPEG 40", "lighter", "trimmed"],
)
@pytest.mark.parametrize("resizer", ["pillow", "torch"])
def test_a_copy_is_near_and_another_lesion_is_not(
    resizer: Resizer, copy: Callable[[Image.Image], Image.Image]
) -> None:
    hashes = [perceptual_hash(Picture(photograph(seed)), resizer) for seed in range(20)]
    copied = perceptual_hash(Picture(copy(photograph(0))), resizer)
    assert hash_distance(hashes[0], copied) <= NEAR_BITS
    assert min(hash_distance(one, copied) for one in hashes[1:]) > NEAR_BITS


@pytest.mark.parametrize("resizer", ["pillow", "torch"])
def test_blank_pictures_are_copies_of_each_other(resizer: Resizer) -> None:
    shades = [Picture(Image.new("RGB", (50, 40), (shade,) * 3)) for shade in (0, 7, 128, 255)]
    assert {perceptual_hash(shade, resizer) for shade in shades} == {"0" * (HASH_BITS // 4)}


@pytest.mark.parametrize("factor", [0.2, 1, 3])
def test_hashes_by_torch_are_those_by_pillow_but_for_some_bits(factor: float) -> None:
    """So a card, which hashes as Pillow does, finds the copies of what torch has hashed."""
    for seed in range(10):
        whole = photograph(seed)
        size = (round(whole.width * factor), round(whole.height * factor))
        picture = Picture(whole.resize(size, Image.Resampling.BICUBIC))
        by_torch = perceptual_hash(picture, "torch")
        assert hash_distance(perceptual_hash(picture), by_torch) <= 8


def test_near_duplicates_are_found_by_the_new_hash_alone(answers: Opened) -> None:
    """What was stored with the old hash of 64 bits is compared with nothing."""
    hashes = [f"{(1 << bits) - 1:064x}" for bits in (0, NEAR_BITS, NEAR_BITS + 1)]
    new = [{"source": {"phash": each}} for each in hashes]
    index(answers, [*new, {"source": {"dhash": "0" * 16}}, {}])
    hits = found(answers, max_hash_distance=NEAR_BITS)
    assert [(hit.image_id, hit.hash_distance) for hit in hits] == [("1", NEAR_BITS)]
    assert found(answers, image_id="3", max_hash_distance=HASH_BITS) == ()


def test_the_page_and_the_query_know_the_hash() -> None:
    """Neither can import it: the page is JavaScript, and messages stand beside images."""
    script = Path(__file__).parents[2] / "api" / "page" / "js" / "search.js"
    assert f"const NEAR_BITS = {NEAR_BITS};" in script.read_text()
    assert SearchQuery(image_id="0", max_hash_distance=HASH_BITS)
    with pytest.raises(ValidationError):
        SearchQuery(image_id="0", max_hash_distance=HASH_BITS + 1)
