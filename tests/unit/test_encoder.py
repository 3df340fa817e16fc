"""The encoder, with checkpoints made here: untrained, but loaded and run by the real code."""

import json
import logging
import math
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, ViTModel
from transformers.utils import logging as transformers_logging

from cli import sample
from pipeline.base.errors import Conflict, DeviceFull, EncoderError, TooLargeForDevice
from pipeline.base.settings import Settings
from pipeline.encoding import checkpoint
from pipeline.encoding.encoder import Encoder, Sizing
from pipeline.images.picture import Picture

TINY: dict[str, Any] = {
    "hidden": 32, "layers": 2, "heads": 2, "intermediate": 64, "image_size": 32, "patch": 8
}  # fmt: skip

POOLER = {"pooler.dense.weight", "pooler.dense.bias"}

# What ViT's parameters were called when DINO was published → what transformers 5 calls them. It
# writes the old names still, so the checkpoints made here have DINO's.
NEW_NAMES = {
    r"^encoder\.layer\.": "layers.",
    r"attention\.attention\.query": "attention.q_proj",
    r"attention\.attention\.key": "attention.k_proj",
    r"attention\.attention\.value": "attention.v_proj",
    r"attention\.output\.dense": "attention.o_proj",
    r"intermediate\.dense": "mlp.fc1",
    r"(\d)\.output\.dense": r"\1.mlp.fc2",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    sample.write_encoder(folder, **TINY)
    return folder


def settings(model: Path | str, **values: Any) -> Settings:
    return Settings(model=str(model), **({"device": "cpu", "dtype": "float32"} | values))


@pytest.fixture(scope="module")
def encoder(tiny: Path) -> Encoder:
    return Encoder.load(settings(tiny).encoder)


def pictures(count: int, size: int = 48) -> list[Picture]:
    """Of many kinds: flat, graded, coarse and fine noise, in all colours."""
    draw = np.random.default_rng(7)
    made = []
    for number in range(count):
        cells = 2 ** (number % 6)
        coarse = draw.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        made.append(Picture(Image.fromarray(coarse).resize((size + number, size))))
    return made


def pixels(encoder: Encoder, count: int) -> np.ndarray:
    return np.stack([encoder.preprocess(picture) for picture in pictures(count)])


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    products: np.ndarray = (one * other).sum(axis=1) / lengths
    return products


def rewrite(
    source: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> Path:
    """A copy of a checkpoint with other weights."""
    for file in source.glob("*.json"):
        (target / file.name).write_text(file.read_text())
    weights = change(load_file(source / "model.safetensors"))
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


# --- vectors -------------------------------------------------------------------------------------


def test_mean_pooling_is_the_notebooks(tiny: Path, encoder: Encoder) -> None:
    """`model(**processor(images)).last_hidden_state.mean(dim=1)`, computed with transformers."""
    shown = pictures(5)
    processor = AutoImageProcessor.from_pretrained(tiny, backend="pil")
    model = ViTModel.from_pretrained(tiny)
    inputs = processor(images=[picture.image for picture in shown], return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state.mean(dim=1).numpy()
    by_torch, by_pillow = encoder.ways()
    got = by_pillow.embed(pixels(by_pillow, 5), bulk=False)
    assert got.dtype == np.float32
    assert got.shape == (5, 32)
    assert np.abs(got - expected).max() < 1e-5
    assert cosines(by_torch.embed(pixels(by_torch, 5), bulk=False), got).min() > 0.9999


def test_cls_pooling_is_the_class_token(tiny: Path) -> None:
    *_, cls = Encoder.load(settings(tiny, pooling="cls").encoder).ways()  # by Pillow, to the bit
    shown = pixels(cls, 3)
    model = ViTModel.from_pretrained(tiny)
    processor = AutoImageProcessor.from_pretrained(tiny, backend="pil")
    inputs = processor(images=[picture.image for picture in pictures(3)], return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state[:, 0].numpy()
    assert np.abs(cls.embed(shown, bulk=True) - expected).max() < 1e-5


def test_weights_that_no_training_has_touched_are_told(tiny: Path, tmp_path: Path) -> None:
    assert Encoder.load(settings(tiny).encoder).untrained
    model = ViTModel.from_pretrained(tiny, add_pooling_layer=False)
    with torch.no_grad():
        model.layernorm.bias[0] = 1e-3
    model.save_pretrained(tmp_path)
    shutil.copy(tiny / "preprocessor_config.json", tmp_path)
    assert not Encoder.load(settings(tmp_path).encoder).untrained


def test_the_same_picture_twice_is_the_same_vector(encoder: Encoder) -> None:
    one = pixels(encoder, 1)
    assert np.array_equal(encoder.embed(one, bulk=True), encoder.embed(one.copy(), bulk=True))


def test_what_else_is_in_the_batch_does_not_matter(encoder: Encoder) -> None:
    shown = pixels(encoder, 21)  # more than two batches of 8
    together = encoder.embed(shown, bulk=True)
    alone = np.concatenate([encoder.embed(image[None], bulk=True) for image in shown])
    backwards = encoder.embed(shown[::-1], bulk=True)[::-1]
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(together - backwards).max() < 1e-5


def test_no_images_are_no_vectors(encoder: Encoder) -> None:
    assert encoder.embed(np.empty((0, 3, 32, 32), np.uint8), bulk=True).shape == (0, 32)


def test_pictures_are_stacked_into_one_batch(encoder: Encoder) -> None:
    shown = pixels(encoder, 3)
    assert np.array_equal(encoder.stack([*shown]), shown)


def test_read_only_pixels_will_do(encoder: Encoder) -> None:
    shown = pixels(encoder, 2)
    shown.setflags(write=False)
    assert encoder.embed(shown, bulk=True).shape == (2, 32)


def test_bfloat16_points_the_same_way(tmp_path: Path) -> None:
    """With the seed model's width, heads and depth; small images, for time."""
    sample.write_encoder(tmp_path, image_size=64)
    exact = Encoder.load(settings(tmp_path).encoder)
    rounded = Encoder.load(settings(tmp_path, dtype="bfloat16").encoder)
    shown = pixels(exact, 12)
    one, other = exact.embed(shown, bulk=False), rounded.embed(shown, bulk=False)
    assert rounded.dtype == torch.bfloat16
    assert other.dtype == np.float32
    assert cosines(one, other).min() > 0.9995
    # Two workers of different precision fill one collection.
    assert exact.info == rounded.info


def test_an_untrained_stand_in_still_tells_images_apart(encoder: Encoder) -> None:
    vectors = encoder.embed(pixels(encoder, 12), bulk=True)
    neighbours = cosines(vectors, np.roll(vectors, 1, axis=0))
    assert neighbours.max() < 0.999


# --- loading -------------------------------------------------------------------------------------


def test_what_is_known_of_an_encoder(tiny: Path, encoder: Encoder) -> None:
    info = encoder.info
    assert (info.model, info.revision, info.pooling) == (str(tiny), None, "mean")
    assert info.dimensions == 32
    assert encoder._model.config._attn_implementation == "sdpa"
    assert info.preprocessing.startswith("resize=32x32 resample=bicubic")
    assert re.fullmatch("[0-9a-f]{64}", info.weights_sha256)


def test_dinos_names_load_exactly_and_so_do_todays(
    tiny: Path, tmp_path: Path, encoder: Encoder
) -> None:
    """The notebook's result from the old names is the first test above; these are the new ones."""

    def rename(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        assert "encoder.layer.1.attention.attention.query.weight" in weights
        renamed = {}
        for name, weight in weights.items():
            for old, new in NEW_NAMES.items():
                name = re.sub(old, new, name)  # noqa: PLW2901
            renamed[name] = weight
        assert renamed.keys() == encoder._model.state_dict().keys() - POOLER
        return renamed

    today = Encoder.load(settings(rewrite(tiny, tmp_path, rename)).encoder)
    shown = pixels(today, 3)
    assert np.array_equal(today.embed(shown, bulk=True), encoder.embed(shown, bulk=True))
    assert today.info.weights_sha256 == encoder.info.weights_sha256


def test_missing_weights_are_refused_by_name(tiny: Path, tmp_path: Path) -> None:
    def without(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: weight for name, weight in weights.items() if "1.intermediate" not in name}

    with pytest.raises(EncoderError, match=r"missing: layers\.1\.mlp\.fc1\.bias, .*weight$"):
        Encoder.load(settings(rewrite(tiny, tmp_path, without)).encoder)


def test_weights_of_another_shape_are_refused_by_name(tiny: Path, tmp_path: Path) -> None:
    def cut(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights["embeddings.position_embeddings"] = torch.zeros(1, 5, 32)
        return weights

    with pytest.raises(EncoderError, match=r"another shape: embeddings\.position_embeddings"):
        Encoder.load(settings(rewrite(tiny, tmp_path, cut)).encoder)


def test_the_pooler_does_not_matter(tiny: Path, tmp_path: Path, encoder: Encoder) -> None:
    """DINO's page has none, so transformers draws one at random, another one each time."""

    def with_pooler(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return weights | {
            "pooler.dense.weight": torch.ones(32, 32),
            "pooler.dense.bias": torch.ones(32),
        }

    assert "pooler.dense.weight" not in load_file(tiny / "model.safetensors")
    pooled = Encoder.load(settings(rewrite(tiny, tmp_path, with_pooler)).encoder)
    assert pooled.info.weights_sha256 == encoder.info.weights_sha256
    assert Encoder.load(settings(tiny).encoder).info == encoder.info


def test_another_weight_is_another_hash(tiny: Path, tmp_path: Path, encoder: Encoder) -> None:
    def nudge(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights["encoder.layer.0.intermediate.dense.weight"][0, 0] += 1e-6
        return weights

    nudged = Encoder.load(settings(rewrite(tiny, tmp_path, nudge)).encoder)
    assert nudged.info.weights_sha256 != encoder.info.weights_sha256


def test_what_weights_are_called_and_their_order_is_not_hashed() -> None:
    one, two = torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)
    first = torch.nn.ModuleDict({"layer": one, "norm": two})
    renamed = torch.nn.ModuleDict({"a": two, "encoder": one, "pooler": torch.nn.Linear(1, 1)})
    other = torch.nn.ModuleDict({"layer": one, "norm": torch.nn.Linear(3, 2)})
    assert checkpoint.weights_sha256(first) == checkpoint.weights_sha256(renamed)
    assert checkpoint.weights_sha256(first) != checkpoint.weights_sha256(other)


def small(**more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return sizes | {"image_size": 32, "patch_size": 8} | more


def made_model(kind: str, folder: Path) -> Path:
    import transformers as hf

    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 16, "vocab_size": 50}
    seen = small(intermediate_size=64)
    makers: dict[str, Callable[[], Any]] = {
        "clip": lambda: hf.CLIPModel(hf.CLIPConfig(vision_config=seen, text_config=text)),
        "siglip": lambda: hf.SiglipModel(hf.SiglipConfig(vision_config=seen, text_config=text)),
        "dinov2": lambda: hf.Dinov2Model(hf.Dinov2Config(**small())),
        "registers": lambda: hf.Dinov2WithRegistersModel(
            hf.Dinov2WithRegistersConfig(**small(num_register_tokens=3))
        ),
        "deit": lambda: hf.DeiTModel(hf.DeiTConfig(**seen), add_pooling_layer=False),
        "swin": lambda: hf.SwinModel(
            hf.SwinConfig(
                image_size=32,
                patch_size=4,
                embed_dim=8,
                depths=[1, 1],
                num_heads=[2, 2],
                window_size=4,
            ),
            add_pooling_layer=False,
        ),
        "classifier": lambda: hf.ViTForImageClassification(hf.ViTConfig(**seen)),
        "mae": lambda: hf.ViTMAEModel(hf.ViTMAEConfig(**seen)),
        "convnext": lambda: hf.ConvNextModel(
            hf.ConvNextConfig(hidden_sizes=[8, 8], depths=[1, 1], num_stages=2)
        ),
    }
    checkpoint.silence_logging()
    makers[kind]().save_pretrained(folder)
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "classifier"])
def test_other_vision_transformers_load_by_their_name(kind: str, tmp_path: Path) -> None:
    loaded = Encoder.load(settings(made_model(kind, tmp_path), pooling="mean").encoder)
    loaded.warm_up()
    assert loaded.info.dimensions == 32
    assert loaded.embed(pixels(loaded, 2), bulk=True).shape == (2, 32)


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "registers", "deit", "classifier"])
def test_patch_tokens_are_of_places_in_the_picture(kind: str, tmp_path: Path) -> None:
    loaded = Encoder.load(settings(made_model(kind, tmp_path), pooling="mean").encoder)
    plain = np.full((1, 3, 32, 32), 120, np.uint8)
    marked = plain.copy()
    marked[:, :, 8:16, 24:32] = 255  # the patch in row 1 and column 3

    tokens = loaded.patches(np.concatenate((plain, marked)))

    assert tokens.shape == (2, 4, 4, 32)
    changed = np.linalg.norm(tokens[1] - tokens[0], axis=2)
    assert np.unravel_index(changed.argmax(), (4, 4)) == (1, 3)


def test_patch_tokens_of_a_vit_are_those_of_its_last_layer_after_the_norm(
    tiny: Path, encoder: Encoder
) -> None:
    given = pixels(encoder, 2)
    processor = AutoImageProcessor.from_pretrained(tiny, backend="pil")
    images = [picture.image for picture in pictures(2)]
    values = processor(images=images, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        tokens = ViTModel.from_pretrained(tiny, add_pooling_layer=False)(values).last_hidden_state
    found = encoder.patches(given)
    assert np.allclose(found.reshape(2, -1, 32), tokens[:, 1:].numpy(), atol=1e-4)


def test_a_model_that_merges_patches_has_no_patch_tokens(tmp_path: Path) -> None:
    loaded = Encoder.load(settings(made_model("swin", tmp_path)).encoder)
    with pytest.raises(Conflict, match="has no patch tokens"):
        loaded.patches(np.zeros((1, 3, 32, 32), np.uint8))


def test_a_model_that_drops_patches_at_random_is_refused(tmp_path: Path) -> None:
    loaded = Encoder.load(settings(made_model("mae", tmp_path)).encoder)
    with pytest.raises(EncoderError, match="different vectors"):
        loaded.warm_up()


def test_a_model_without_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="4 axes"):
        Encoder.load(settings(made_model("convnext", tmp_path)).encoder)


def test_cls_pooling_needs_a_class_token(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="KINDRED_POOLING=mean"):
        Encoder.load(settings(made_model("siglip", tmp_path), pooling="cls").encoder)


def test_a_processor_for_another_size_is_refused(tiny: Path, tmp_path: Path) -> None:
    rewrite(tiny, tmp_path, lambda weights: weights)
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 64, "width": 64}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.raises(EncoderError, match="64"):
        Encoder.load(settings(tmp_path).encoder)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("/nowhere/model", "no folder /nowhere/model.*KINDRED_MODEL"),
        ("./nowhere", r"no folder \./nowhere"),
        ("not a name!", "neither a folder nor a name"),
    ],
)
def test_a_model_that_is_nowhere(model: str, said: str) -> None:
    with pytest.raises(EncoderError, match=said):
        Encoder.load(settings(model).encoder)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=re.escape(str(tmp_path))):
        Encoder.load(settings(tmp_path).encoder)


def test_damaged_weights_are_an_error_not_a_traceback(tiny: Path, tmp_path: Path) -> None:
    rewrite(tiny, tmp_path, lambda weights: weights)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        Encoder.load(settings(tmp_path).encoder)


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_pointer_in_place_of_the_weights_is_called_that(
    tiny: Path, tmp_path: Path, weights: str
) -> None:
    """As in a clone that was made without Git LFS."""
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(tiny / name, tmp_path)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
    (tmp_path / weights).write_text(pointer)
    with pytest.raises(EncoderError, match=f"{weights} of .*: a Git LFS pointer.*git lfs pull"):
        Encoder.load(settings(tmp_path).encoder)


class Hub:
    """Stands in for `snapshot_download`: a cache, a hub behind it, and a count of who was asked."""

    def __init__(self, cached: Path | None, online: Path | Exception) -> None:
        self.cached, self.online, self.asked = cached, online, 0

    def __call__(self, *_: object, local_files_only: bool, **__: object) -> str:
        if local_files_only:
            if self.cached is None:
                raise LocalEntryNotFoundError("not in the cache")
            return str(self.cached)
        self.asked += 1
        if isinstance(self.online, Exception):
            raise self.online
        return str(self.online)


def unreachable() -> Exception:
    error = LocalEntryNotFoundError("cannot reach")
    error.__cause__ = ConnectionError("[Errno -2] Name or service not known")
    return error


def test_what_is_cached_is_not_asked_of_the_hub(
    tiny: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(cached=tiny, online=unreachable())
    monkeypatch.setattr(checkpoint, "snapshot_download", hub)
    named = Encoder.load(settings("facebook/dino-vits16", revision="main").encoder)
    assert hub.asked == 0
    assert named.info.model == "facebook/dino-vits16"
    assert named.info.revision == "main"
    assert named.info.weights_sha256 == encoder.info.weights_sha256


def test_a_download_that_was_cut_off_is_taken_up_again(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1-of-2.safetensors").touch()
    hub = Hub(cached=tmp_path, online=tiny)
    monkeypatch.setattr(checkpoint, "snapshot_download", hub)
    assert Encoder.load(settings("facebook/dino-vits16").encoder).info.dimensions == 32
    assert hub.asked == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (unreachable(), "hub cannot be reached.*folder that holds a model"),
        (RepositoryNotFoundError.__new__(RepositoryNotFoundError), "hub has no model a/b"),
    ],
)
def test_the_hub_says_no(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "snapshot_download", Hub(cached=None, online=error))
    with pytest.raises(EncoderError, match=said):
        Encoder.load(settings("a/b").encoder)


def test_loading_is_quiet(
    tiny: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transformers_logging.enable_progress_bar()
    transformers_logging.set_verbosity_warning()
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    Encoder.load(settings(tiny).encoder)  # without its pooler, which transformers reports at length
    said = capfd.readouterr()
    assert (said.out, said.err, caplog.text) == ("", "", "")


# --- the device ----------------------------------------------------------------------------------


def test_warm_up_refuses_a_model_that_does_not_compute(tiny: Path, tmp_path: Path) -> None:
    def poison(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights["layernorm.bias"][3] = math.nan
        return weights

    broken = Encoder.load(settings(rewrite(tiny, tmp_path, poison)).encoder)
    with pytest.raises(EncoderError, match="finite"):
        broken.warm_up()


class Cramped:
    """A model on a device that holds so many images at once."""

    def __init__(self, model: Callable[..., Any], room: int) -> None:
        self.model, self.room = model, room
        self.batches: list[int] = []

    def __call__(self, pixel_values: torch.Tensor) -> Any:
        if len(pixel_values) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.batches.append(len(pixel_values))
        return self.model(pixel_values=pixel_values)


def test_a_batch_that_does_not_fit_is_halved_until_it_does(
    tiny: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_one = Encoder.load(settings(tiny, batch_size=16).encoder)
    cramped = Cramped(small_one._model, room=3)
    monkeypatch.setattr(small_one, "_model", cramped)
    shown = pixels(encoder, 13)
    vectors = small_one.embed(shown, bulk=True)
    assert sum(cramped.batches) == 13
    assert max(cramped.batches) <= 3
    assert np.abs(vectors - encoder.embed(shown, bulk=True)).max() < 1e-5


def test_a_device_without_memory_for_any_image_is_away_and_blames_none(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Encoder.load(settings(tiny).encoder)
    monkeypatch.setattr(full, "_model", Cramped(full._model, room=0))
    with pytest.raises(DeviceFull):
        full.embed(pixels(full, 4), bulk=True)


def test_an_image_that_never_fits_where_others_do_is_to_blame(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picky = Encoder.load(settings(tiny).encoder)
    embed = picky._embed
    tried: list[int] = []

    def no_white(batch: torch.Tensor) -> torch.Tensor:
        if (batch == 255).all((1, 2, 3)).any():
            tried.append(len(batch))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(batch)

    monkeypatch.setattr(picky, "_embed", no_white)
    shown = pixels(picky, 4)
    shown[2] = 255
    with pytest.raises(TooLargeForDevice):
        picky.embed(shown, bulk=True)
    assert tried == [4, 2, 1, 1, 1]
    assert len(picky.embed(shown[:2], bulk=True)) == 2


def test_bulk_computes_on_one_core_while_a_search_computes_on_all(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both threads live at once, and neither changes the other's number."""
    shared = Encoder.load(settings(tiny).encoder)
    monkeypatch.setattr(shared, "_cores", shared.sizing.lanes)
    model, seen = shared._model, []
    both = threading.Barrier(2, timeout=20)

    def spy(pixel_values: torch.Tensor) -> Any:
        both.wait()  # each has set its number before either computes
        result = model(pixel_values=pixel_values)
        both.wait()
        name = threading.current_thread().name.partition("_")[0]  # a pool's are numbered
        seen.append((name, torch.get_num_threads()))
        return result

    monkeypatch.setattr(shared, "_model", spy)
    shown = pixels(shared, 1)
    threads = [
        threading.Thread(target=shared.embed, args=(shown,), kwargs={"bulk": bulk}, name=name)
        for name, bulk in (("bulk", True), ("search", False))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [("bulk", 1), ("search", shared.sizing.lanes)]


def test_what_auto_means_on_a_processor(tiny: Path, encoder: Encoder) -> None:
    plan = encoder.sizing
    assert (plan.batch_size, plan.shard_size) == (8, 64)
    assert plan.lanes >= 1
    chosen = Encoder.load(settings(tiny, batch_size=3, lanes=5, shard_size=7).encoder)
    assert chosen.sizing == Sizing(batch_size=3, lanes=5, shard_size=7)


@pytest.mark.parametrize(
    ("able", "dtype"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_f": True}, torch.float32),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_computes_in_it(
    able: dict[str, bool], dtype: torch.dtype, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert Encoder.load(settings(tiny, dtype="auto").encoder).dtype == dtype


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(tiny: Path) -> None:
    assert Encoder.load(settings(tiny, device="auto").encoder).device.type == "cpu"
    with pytest.raises(EncoderError, match="KINDRED_DEVICE"):
        Encoder.load(settings(tiny, device="cuda").encoder)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_processors_vectors(tiny: Path, encoder: Encoder) -> None:
    fast = Encoder.load(settings(tiny, device="cuda").encoder)
    fast.warm_up()
    shown = pixels(fast, 40)
    on_gpu = fast.embed(shown, bulk=True)
    assert np.array_equal(on_gpu, fast.embed(fast.stack([*shown]), bulk=True))
    assert cosines(on_gpu, encoder.embed(shown, bulk=True)).min() > 0.9999
    assert cosines(on_gpu, fast.embed(shown, bulk=False)).min() > 0.9999


@pytest.mark.parametrize(
    ("total", "size"), [(0, 8), (3, 8), (24, 8), (297, 40), (1487, 64), (1_000_000, 64)]
)
def test_every_lane_gets_some_of_a_small_job(total: int, size: int) -> None:
    assert Sizing(batch_size=8, lanes=2, shard_size=64).shard_size_for(total) == size
