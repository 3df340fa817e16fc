"""Models of images and text, made here and compared with transformers' own answers."""

import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoProcessor

from pipeline.base.errors import EncoderError, InvalidQuery
from pipeline.base.settings import Settings
from pipeline.encoding import checkpoint
from pipeline.encoding.encoder import Encoder
from pipeline.images.picture import Picture
from tests.towers import DIMENSIONS, READS, SENTENCES, write_clip, write_siglip

WRITERS = {"clip": write_clip, "siglip": write_siglip}

TEXTS = ["a mole", "two red naevi", "an ultrasound scan of a heart", "  Dark\nMOLE, uneven "]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    checkpoint.silence_logging()
    return {kind: write(tmp_path_factory.mktemp(kind)) for kind, write in WRITERS.items()}


@pytest.fixture(params=WRITERS)
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    """Of each kind of model in turn."""
    return folders[request.param]


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy of it to be changed."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


def settings(model: Path | str, **values: Any) -> Settings:
    return Settings(model=str(model), **({"device": "cpu", "dtype": "float32"} | values))


def pictures(count: int) -> list[Picture]:
    draw = np.random.default_rng(3)
    shapes = [(32 + 7 * number, 60, 3) for number in range(count)]
    return [Picture(Image.fromarray(draw.integers(0, 256, s, dtype=np.uint8))) for s in shapes]


def pixels(encoder: Encoder, count: int) -> np.ndarray:
    return np.stack([encoder.preprocess(picture) for picture in pictures(count)])


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / lengths


def reweigh(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


# --- vectors -------------------------------------------------------------------------------------


def test_images_are_transformers_image_features(folder: Path) -> None:
    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    inputs = processor(images=[picture.image for picture in pictures(5)], return_tensors="pt")
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(folder).get_image_features(**inputs).pooler_output
    encoder, by_pillow = Encoder.load(settings(folder).encoder).ways()
    for bulk in (True, False):
        vectors = by_pillow.embed(pixels(by_pillow, 5), bulk=bulk)
        assert vectors.dtype == np.float32
        assert np.abs(vectors - expected.numpy()).max() < 1e-5
        resized_by_torch = encoder.embed(pixels(encoder, 5), bulk=bulk)
        assert cosines(resized_by_torch, vectors).min() > 0.9999


@pytest.mark.parametrize("texts", [TEXTS, [" ".join(SENTENCES)]], ids=["short", "too long"])
def test_texts_are_transformers_text_features(folder: Path, texts: list[str]) -> None:
    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    inputs = processor(
        text=[text.lower() for text in texts],
        padding="max_length",
        truncation=True,
        return_tensors="pt",
    )
    assert inputs["input_ids"].shape == (len(texts), READS)
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(folder).get_text_features(**inputs).pooler_output
    vectors = Encoder.load(settings(folder).encoder).embed_text(texts)
    assert vectors.dtype == np.float32
    assert np.abs(vectors - expected.numpy()).max() < 1e-5


def test_images_and_texts_are_of_one_space(folders: dict[str, Path]) -> None:
    for kind, dimensions in (("clip", DIMENSIONS), ("siglip", 32)):
        encoder = Encoder.load(settings(folders[kind]).encoder)
        assert encoder.reads_text
        assert encoder.info.dimensions == dimensions
        assert encoder.embed(pixels(encoder, 2), bulk=True).shape == (2, dimensions)
        assert encoder.embed_text(["a", "b", "c"]).shape == (3, dimensions)
        assert encoder.embed_text([]).shape == (0, dimensions)


def test_what_else_is_asked_does_not_matter(folder: Path) -> None:
    encoder = Encoder.load(settings(folder, batch_size=3).encoder)
    together = encoder.embed_text(TEXTS)  # of different lengths, in two batches
    alone = np.concatenate([encoder.embed_text([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(together[0] - together[1]).max() > 0.1


def test_capitals_do_not_matter(folder: Path) -> None:
    encoder = Encoder.load(settings(folder).encoder)
    shouted, said = encoder.embed_text(["A Dark MOLE", "a dark mole"])
    assert np.abs(shouted - said).max() < 1e-5


def test_bfloat16_points_the_same_way(folder: Path) -> None:
    exact = Encoder.load(settings(folder).encoder)
    rounded = Encoder.load(settings(folder, dtype="bfloat16").encoder)
    rounded.warm_up()
    one, other = exact.embed_text(TEXTS), rounded.embed_text(TEXTS)
    assert other.dtype == np.float32
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    assert ((one * other).sum(axis=1) / lengths).min() > 0.99
    assert exact.info == rounded.info


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_processors_vectors(folder: Path) -> None:
    fast, slow = (
        Encoder.load(settings(folder, device="cuda").encoder),
        Encoder.load(settings(folder).encoder),
    )
    fast.warm_up()
    shown = pixels(slow, 3)
    for one, other in (
        (fast.embed_text(TEXTS), slow.embed_text(TEXTS)),
        (fast.embed(shown, bulk=True), slow.embed(shown, bulk=True)),
    ):
        assert np.abs(one - other).max() < 1e-2


def test_texts_are_computed_in_the_one_thread_of_searches(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.load(settings(folder).encoder)
    expected = encoder.embed_text(TEXTS)
    seen, features = [], encoder._model.get_text_features

    def spy(**tokens: torch.Tensor) -> Any:
        seen.append((threading.current_thread().name, torch.get_num_threads()))
        return features(**tokens)

    monkeypatch.setattr(encoder._model, "get_text_features", spy)
    with ThreadPoolExecutor(4) as askers:
        for vectors in askers.map(encoder.embed_text, [TEXTS] * 8):
            assert np.array_equal(vectors, expected)
    assert set(seen) == {("search_0", encoder._cores)}


# --- which space it is ---------------------------------------------------------------------------


def test_auto_is_the_joint_space_where_there_is_one(folder: Path, encoder: Path) -> None:
    assert Settings().pooling == "auto"
    assert Encoder.load(settings(folder).encoder).info.pooling == "projection"
    assert Encoder.load(settings(folder, pooling="projection").encoder).info.pooling == "projection"
    assert Encoder.load(settings(encoder).encoder).info.pooling == "mean"


def test_auto_does_not_change_what_a_collection_was_filled_by(encoder: Path) -> None:
    default, mean = (
        Encoder.load(settings(encoder).encoder),
        Encoder.load(settings(encoder, pooling="mean").encoder),
    )
    assert default.info == mean.info


def test_the_hash_of_weights_is_for_ever() -> None:
    """Collections are found by it."""
    fixed = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 2), "b": torch.nn.LayerNorm(2)})
    for number, parameter in enumerate(fixed.parameters()):
        parameter.data = torch.arange(parameter.numel()).reshape(parameter.shape) / 7 + number
    assert checkpoint.weights_sha256(fixed) == (
        "9bd04aeb356a044938ef42e31817409a06d646124476669a9d8cb9ba15b86bb9"
    )


def test_a_vision_tower_alone_reads_no_text_and_loads_none(folder: Path, own: Path) -> None:
    """Not even its weights or its tokenizer need be there."""
    for file in own.glob("tokenizer*"):
        file.unlink()

    def drop_text(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if name.startswith("text_")]:
            del weights[name]

    reweigh(own, drop_text)
    for pooling in ("mean", "cls") if "clip" in str(folder.parts[-1]) else ("mean",):
        tower, whole = (Encoder.load(settings(f, pooling=pooling).encoder) for f in (own, folder))
        assert not tower.reads_text
        assert tower.info.pooling == pooling
        assert tower.info.dimensions == 32
        assert not [name for name, _ in tower._model.named_parameters() if "text" in name]
        assert tower.info.weights_sha256 == whole.info.weights_sha256
        assert np.array_equal(
            tower.embed(pixels(tower, 2), bulk=True), whole.embed(pixels(tower, 2), bulk=True)
        )


def test_a_model_of_images_refuses_text(encoder: Path) -> None:
    vision = Encoder.load(settings(encoder).encoder)
    assert not vision.reads_text
    with pytest.raises(InvalidQuery, match="reads images only; it cannot search by text") as caught:
        vision.embed_text(["a mole"])
    assert (caught.value.status, caught.value.path) == (422, ("text",))


def test_a_model_of_images_has_no_projection(encoder: Path) -> None:
    with pytest.raises(EncoderError, match="set KINDRED_POOLING=mean"):
        Encoder.load(settings(encoder, pooling="projection").encoder)


# --- what must be there --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("clip", "text_model.encoder.layers.1.mlp.fc1.weight"),
        ("clip", "text_projection.weight"),
        ("clip", "visual_projection.weight"),
        ("siglip", "text_model.head.weight"),
        ("siglip", "vision_model.head.probe"),
    ],
)
def test_missing_weights_are_refused_by_name(
    kind: str, name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    own = Path(shutil.copytree(folders[kind], tmp_path / "own"))
    reweigh(own, lambda weights: weights.pop(name))
    with pytest.raises(EncoderError, match=f"missing: {name}$"):
        Encoder.load(settings(own).encoder)


def test_what_makes_probabilities_may_be_missing(folder: Path, own: Path) -> None:
    def drop(weights: dict[str, torch.Tensor]) -> None:
        del weights["logit_scale"]
        weights.pop("logit_bias", None)

    reweigh(own, drop)
    without, whole = Encoder.load(settings(own).encoder), Encoder.load(settings(folder).encoder)
    assert without.info.weights_sha256 == whole.info.weights_sha256


@pytest.mark.parametrize("tower", ["text_model", "vision_model"])
def test_another_weight_of_either_tower_is_another_hash(
    tower: str, folder: Path, own: Path
) -> None:
    def nudge(weights: dict[str, torch.Tensor]) -> None:
        weights[f"{tower}.encoder.layers.0.mlp.fc1.weight"][0, 0] += 1e-3

    reweigh(own, nudge)
    nudged, whole = Encoder.load(settings(own).encoder), Encoder.load(settings(folder).encoder)
    assert nudged.info.weights_sha256 != whole.info.weights_sha256


@pytest.mark.parametrize("lost", ["tokenizer.json", "tokenizer_config.json"])
def test_a_model_without_its_tokenizer_is_refused(lost: str, own: Path) -> None:
    (own / lost).unlink()
    with pytest.raises(EncoderError, match=r"without a tokenizer.*KINDRED_POOLING=mean"):
        Encoder.load(settings(own).encoder)


def test_a_tokenizer_that_cannot_pad_is_refused(own: Path) -> None:
    said = json.loads((own / "tokenizer_config.json").read_text())
    said |= {"tokenizer_class": "TokenizersBackend", "pad_token": None}
    (own / "tokenizer_config.json").write_text(json.dumps(said))
    with pytest.raises(EncoderError, match=r"tokenizer of .* cannot be used.* padding token"):
        Encoder.load(settings(own).encoder)


def test_a_damaged_tokenizer_is_an_error_not_a_traceback(own: Path) -> None:
    (own / "tokenizer.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"tokenizer of .* cannot be used"):
        Encoder.load(settings(own).encoder)


def test_warm_up_refuses_a_text_tower_that_does_not_compute(own: Path) -> None:
    def poison(weights: dict[str, torch.Tensor]) -> None:
        weights["text_model.final_layer_norm.bias"][3] = torch.nan

    reweigh(own, poison)
    with pytest.raises(EncoderError, match="finite"):
        Encoder.load(settings(own).encoder).warm_up()


def test_warm_up_refuses_a_tokenizer_that_makes_all_texts_alike(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """CLIP looks for the end of the text; where none is marked, it takes the first token."""
    own = Path(shutil.copytree(folders["clip"], tmp_path / "own"))
    written = json.loads((own / "tokenizer.json").read_text())
    config = json.loads((own / "config.json").read_text())
    config["text_config"]["eos_token_id"] = written["model"]["vocab"]["A"]  # all is made lower case
    (own / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="different texts one vector"):
        Encoder.load(settings(own).encoder).warm_up()


# --- the hub -------------------------------------------------------------------------------------


class Hub:
    """Stands in for `snapshot_download`: copies what is asked for to a cache, and keeps account."""

    def __init__(self, model: Path, cache: Path) -> None:
        self.model, self.snapshot, self.online = model, cache / ("c" * 40), True
        self.asked: list[str] = []
        self.revisions: list[str | None] = []

    def __call__(
        self,
        _: str,
        *,
        revision: str | None,
        allow_patterns: list[str],
        local_files_only: bool = False,
    ) -> str:
        self.revisions.append(revision)
        self.snapshot.mkdir(parents=True, exist_ok=True)
        if not local_files_only:
            if not self.online:
                raise ConnectionError("unreachable")
            for file in self.model.iterdir():
                if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                    self.asked.append(file.name)
                    shutil.copy(file, self.snapshot)
        return str(self.snapshot)


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(folder, tmp_path / "cache")
    monkeypatch.setattr(checkpoint, "snapshot_download", made)
    return made


def test_a_tokenizer_is_fetched_when_text_is_to_be_read(hub: Hub) -> None:
    assert not Encoder.load(settings("a/b", pooling="mean").encoder).reads_text
    assert not [name for name in hub.asked if "tokenizer" in name]

    # The weights are there by now, and stay those of the same commit.
    assert Encoder.load(settings("a/b", revision="main").encoder).embed_text(TEXTS).shape[0] == len(
        TEXTS
    )
    assert hub.asked[-2:] == ["tokenizer.json", "tokenizer_config.json"]
    assert hub.revisions[-2:] == [hub.snapshot.name] * 2

    hub.online = False
    assert Encoder.load(settings("a/b").encoder).reads_text


def test_a_tokenizer_that_cannot_be_fetched(hub: Hub) -> None:
    Encoder.load(settings("a/b", pooling="mean").encoder)
    hub.online = False
    with pytest.raises(EncoderError, match=r"tokenizer of a/b.*ConnectionError.*POOLING=mean"):
        Encoder.load(settings("a/b").encoder)


# --- SigLIP's own tokenizer ----------------------------------------------------------------------


@pytest.fixture
def sentencepieces(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A model with the tokenizer of SigLIP 1, of which this is the settings."""
    own = Path(shutil.copytree(folders["siglip"], tmp_path / "own"))
    (own / "tokenizer.json").unlink()
    (own / "spiece.model").touch()
    said = {"tokenizer_class": "SiglipTokenizer", "model_max_length": READS, "pad_token": "</s>"}
    said |= {"model_input_names": ["input_ids"]}  # type: ignore[dict-item]
    (own / "tokenizer_config.json").write_text(json.dumps(said))
    return own


def test_siglips_own_tokenizer_needs_sentencepiece(
    sentencepieces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(*_: object, **__: object) -> None:
        raise ImportError("SiglipTokenizer requires the SentencePiece library")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", without)
    with pytest.raises(EncoderError, match="Install sentencepiece"):
        Encoder.load(settings(sentencepieces).encoder)


def test_siglips_own_tokenizer(sentencepieces: Path) -> None:
    """It drops capitals and punctuation, and ends each text with the token it pads with."""
    training = pytest.importorskip("sentencepiece", reason="SigLIP 1 needs sentencepiece")
    with (sentencepieces / "spiece.model").open("wb") as file:
        training.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES * 20),
            model_writer=file,
            vocab_size=50,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    encoder = Encoder.load(settings(sentencepieces).encoder)
    encoder.warm_up()
    one, other = encoder.embed_text(["A dark, MOLE!", "a dark mole"])
    assert np.abs(one - other).max() < 1e-5
