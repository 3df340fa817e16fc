"""Our pixels are the model's own processor's pixels."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from pipeline.base.errors import EncoderError
from pipeline.encoding.preprocessing import Preprocessing
from pipeline.images import pixels
from pipeline.images.picture import Picture

REAL = Path(__file__).parents[2] / "../shared/data/skin_cancer_dev/train-00000-of-00001.parquet"

# As facebook/dino-vits16 has it on the hub, in the spelling of transformers 4.
DINO = """{
  "do_normalize": true, "do_resize": true, "feature_extractor_type": "ViTFeatureExtractor",
  "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
  "resample": 3, "size": 224
}"""
DINOV2 = """{
  "crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "do_convert_rgb": true,
  "do_normalize": true, "do_rescale": true, "do_resize": true,
  "image_mean": [0.485, 0.456, 0.406], "image_processor_type": "BitImageProcessor",
  "image_std": [0.229, 0.224, 0.225], "resample": 3, "rescale_factor": 0.00392156862745098,
  "size": {"shortest_edge": 256}
}"""

PROCESSORS = {
    "vit": ViTImageProcessorPil,
    "vit, oblong": lambda: ViTImageProcessorPil(size={"height": 96, "width": 160}, resample=3),
    "vit, raw": lambda: ViTImageProcessorPil(do_rescale=False),
    "vit, only rescaled": lambda: ViTImageProcessorPil(do_normalize=False),
    "vit, lanczos, one mean": lambda: ViTImageProcessorPil(
        resample=1, image_mean=0.4, image_std=0.3
    ),
    "clip": CLIPImageProcessorPil,
    "clip, crop beyond the image": lambda: CLIPImageProcessorPil(size={"shortest_edge": 199}),
    "clip, crop alone": lambda: CLIPImageProcessorPil(do_resize=False),
    "siglip": SiglipImageProcessorPil,
    "deit": DeiTImageProcessorPil,
}
SIZES = [(1, 1), (1, 300), (300, 1), (3, 224), (223, 225), (224, 224), (450, 600), (600, 450)]
SIZES += [(37, 1000), (900, 41), (1023, 767)]


def noise(height: int, width: int) -> Image.Image:
    draw = np.random.default_rng(height * 10_000 + width)
    return Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))


def difference(processor: Any, ours: Preprocessing, image: Image.Image) -> float:
    """Largest, over all values of the tensor that goes into the model."""
    theirs = processor(images=image, return_tensors="np")["pixel_values"][0]
    pixels = ours.pixels(image)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, *ours.size)
    values = ours.normalize(torch.from_numpy(pixels[None]))
    assert values.dtype == torch.float32
    return float(np.abs(values[0].numpy() - theirs).max())


@pytest.mark.parametrize("name", PROCESSORS)
def test_every_value_is_the_processors_own(name: str) -> None:
    processor = PROCESSORS[name]()
    ours = Preprocessing.reproducing(processor)
    assert max(difference(processor, ours, noise(*size)) for size in SIZES) == 0


@pytest.mark.parametrize("configuration", [DINO, DINOV2])
def test_from_the_file_that_lies_with_the_model(configuration: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(configuration)
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    ours = Preprocessing.load(tmp_path)
    assert max(difference(processor, ours, noise(*size)) for size in SIZES) == 0


def test_real_photographs(tmp_path: Path) -> None:
    if not REAL.is_file():
        pytest.skip("the real images, ../shared/data/skin_cancer_dev, are not on this machine")
    import pyarrow.parquet as pq

    (tmp_path / "preprocessor_config.json").write_text(DINO)
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    ours = Preprocessing.load(tmp_path)
    rows = pq.read_table(REAL, columns=["image"]).slice(0, 20)["image"].to_pylist()
    photographs = [Image.open(io.BytesIO(row["bytes"])).convert("RGB") for row in rows]
    larger = [photograph.resize((600, 450)) for photograph in photographs]
    assert max(difference(processor, ours, image) for image in photographs + larger) == 0


# --- by torch ------------------------------------------------------------------------------------

RESIZED_BY_TORCH = [name for name in PROCESSORS if "lanczos" not in name and "alone" not in name]


@pytest.mark.parametrize("name", RESIZED_BY_TORCH)
@pytest.mark.parametrize("channels", [3, 4])
def test_torch_makes_pillows_pixels_but_for_rounding(name: str, channels: int) -> None:
    steps = Preprocessing.reproducing(PROCESSORS[name]())
    assert steps.resizers == ("torch", "pillow")
    for height, width in SIZES:
        picture = Picture(noise(height, width))
        if channels == 4:
            picture = Picture.of(np.array(picture.image.convert("RGBX")))
        made = steps.by("torch").steps.pixels_of(picture)
        assert (made.dtype, made.flags.c_contiguous) == (np.uint8, True)
        apart = abs(made.astype(int) - steps.pixels_of(picture))
        # In what is many times higher than wide, Pillow resizes the height first, torch never.
        most, share = (12, 0.3) if height > 20 * width else (2, 0.01)
        assert apart.max() <= most
        assert (apart > 0).mean() < share


@pytest.mark.parametrize("name", sorted(PROCESSORS.keys() - RESIZED_BY_TORCH))
def test_what_torch_has_not_is_pillows(name: str) -> None:
    assert Preprocessing.reproducing(PROCESSORS[name]()).resizers == ("pillow",)


def test_a_torch_that_computes_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    resized = pixels.resized
    monkeypatch.setattr(pixels, "resized", lambda *given: np.minimum(resized(*given), 253) + 2)
    assert Preprocessing.reproducing(ViTImageProcessorPil()).resizers == ("pillow",)


def test_who_resizes_is_in_the_spec_but_for_pillow() -> None:
    steps = Preprocessing.reproducing(ViTImageProcessorPil())
    assert steps.by("torch").spec == steps.spec + " resizer=torch"
    assert "resizer" not in steps.spec


@pytest.mark.parametrize("size", [(30, 900), (900, 30)])
def test_torch_leaves_what_would_be_blown_up_to_pillow(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, picture = Preprocessing.reproducing(CLIPImageProcessorPil()), Picture(noise(*size))
    monkeypatch.setattr(pixels, "_LARGEST", 0)
    assert np.array_equal(steps.by("torch").pixels_of(picture), steps.pixels_of(picture))


def test_a_whole_batch_is_normalised_as_its_images_are() -> None:
    ours = Preprocessing.reproducing(CLIPImageProcessorPil())
    batch = torch.from_numpy(np.stack([ours.pixels(noise(50, 60)), ours.pixels(noise(70, 40))]))
    values = ours.normalize(batch)
    assert torch.equal(values[1], ours.normalize(batch[1:])[0])
    assert batch.dtype == torch.uint8


def test_a_thread_of_an_image_is_not_blown_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 by 65,535 with its shorter edge at 224 would be 13 GB; the crop keeps 224 by 224 of it."""
    ours = Preprocessing.reproducing(CLIPImageProcessorPil())
    resize, made = Image.Image.resize, []

    def spy(image: Image.Image, size: tuple[int, int], *rest: Any, **more: Any) -> Image.Image:
        made.append(size)
        assert size[0] * size[1] < 20_000_000
        return resize(image, size, *rest, **more)

    monkeypatch.setattr(Image.Image, "resize", spy)
    for size in ((65_535, 1), (1, 65_535)):
        assert ours.pixels(noise(*size)).shape == (3, 224, 224)
    assert made == [(224, 224)] * 2


@pytest.mark.parametrize("size", [(30, 900), (900, 30), (37, 1000)])
def test_its_middle_is_about_what_the_whole_would_have_been(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Preprocessing.reproducing(CLIPImageProcessorPil())
    whole = ours.pixels(noise(*size)).astype(int)
    monkeypatch.setattr(pixels, "_LARGEST", 0)
    middle = ours.pixels(noise(*size)).astype(int)
    assert np.abs(whole - middle).mean() < 0.5


@pytest.mark.parametrize(
    ("processor", "named"),
    [
        (ConvNextImageProcessorPil, "resize"),
        (lambda: CLIPImageProcessorPil(do_center_crop=False), "different sizes"),
        (lambda: ViTImageProcessorPil(do_resize=False), "different sizes"),
        (lambda: ViTImageProcessorPil(do_pad=True), "do_pad"),
        (
            lambda: ViTImageProcessorPil(size={"shortest_edge": 8, "longest_edge": 9}),
            "longest_edge",
        ),
        (lambda: ViTImageProcessorPil(image_mean=[0.5], image_std=[0.5]), "three channels"),
        (object, "Pillow backend"),
    ],
)
def test_what_cannot_be_reproduced_is_refused_by_name(processor: Any, named: str) -> None:
    with pytest.raises(EncoderError, match=named):
        Preprocessing.reproducing(processor())


def test_a_processor_that_computes_otherwise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later transformers could change its arithmetic under the same names."""
    black = {"pixel_values": np.zeros((1, 3, 224, 224), np.float32)}
    monkeypatch.setattr(ViTImageProcessorPil, "__call__", lambda *_, **__: black)
    with pytest.raises(EncoderError, match="other pixels"):
        Preprocessing.reproducing(ViTImageProcessorPil())


def test_a_folder_without_a_processor_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=str(tmp_path)):
        Preprocessing.load(tmp_path)


def test_equal_specs_mean_equal_pixels() -> None:
    clip = Preprocessing.reproducing(CLIPImageProcessorPil())
    assert clip.spec == Preprocessing.reproducing(CLIPImageProcessorPil()).spec
    assert clip.spec == (
        "resize=shortest=224 resample=bicubic crop=224x224 scale=0.00392156862745098 "
        "mean=(0.48145466,0.4578275,0.40821073) std=(0.26862954,0.26130258,0.27577711)"
    )
    specs = {Preprocessing.reproducing(make()).spec for make in PROCESSORS.values()}
    assert len(specs) == len(PROCESSORS)
