"""Made images and an untrained encoder, for when the hub cannot be reached.

They have the shape of the real ones, of the data set `marmal88/skin_cancer` and of the model
`facebook/dino-vits16`, and none of their worth: the pictures are drawn, the weights are random.
Every `image_id` begins with DRAWN, and the model's folder holds a README that says what it is.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line must start at once; these take half a second and more
    import numpy as np
    from PIL import Image

Colour = tuple[int, int, int]

# (width, height) of the photographs, the first being the real data set's only one.
_SIZES = ((600, 450), (450, 600), (480, 480), (800, 600), (320, 240))
_SITES = ("back", "lower extremity", "face", "upper extremity", "trunk", "abdomen", "chest")
_SKINS: tuple[Colour, ...] = ((236, 199, 178), (222, 176, 148), (196, 144, 112), (150, 104, 78))

# What is drawn is this many times smaller than the photograph, which saves most of the time.
_REDUCED = 2


@dataclass(frozen=True)
class Look:
    """How the lesions of one diagnosis are drawn. Lengths are parts of the shorter side."""

    dx: str
    share: float  # of all lesions, about as in the real data set
    rim: Colour
    core: Colour
    radius: float
    ragged: float  # 0 round, 0.5 with bays and spurs
    soft: float  # width of the border
    blotches: float  # 0 even, 1 patches of rim and core


_LOOKS = (
    Look("melanocytic_Nevi", 0.40, (150, 98, 66), (104, 62, 40), 0.20, 0.05, 0.06, 0.2),
    Look("melanoma", 0.15, (92, 58, 48), (34, 26, 34), 0.33, 0.35, 0.03, 1.0),
    Look(
        "benign_keratosis-like_lesions", 0.14, (170, 126, 84), (128, 92, 58), 0.28, 0.12, 0.01, 0.7
    ),
    Look("basal_cell_carcinoma", 0.12, (226, 150, 142), (198, 104, 106), 0.24, 0.18, 0.08, 0.5),
    Look("actinic_keratoses", 0.08, (218, 132, 116), (236, 204, 188), 0.36, 0.30, 0.16, 0.9),
    Look("vascular_lesions", 0.06, (188, 44, 62), (112, 16, 52), 0.16, 0.10, 0.02, 0.4),
    Look("dermatofibroma", 0.05, (158, 104, 86), (238, 206, 192), 0.17, 0.06, 0.10, 0.1),
)


def write_dataset(folder: Path, rows: int, seed: int = 0) -> None:
    """One parquet file that `datasets.load_dataset(folder)` reads, with the real columns.

    Every fifth row shows the lesion of the row before once more. The same arguments give the same
    bytes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features, Image, Value

    text = Value("string")
    features = Features(
        {"image": Image(), "image_id": text, "lesion_id": text, "dx": text, "dx_type": text}
        | {"age": Value("float64"), "sex": text, "localization": text}
    )
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([drawn_row(seed, n) for n in range(rows)], features.arrow_schema)
    pq.write_table(table, folder / "train-00000-of-00001.parquet")


def write_encoder(
    folder: Path,
    *,
    hidden: int = 384,
    layers: int = 12,
    heads: int = 6,
    intermediate: int = 1536,
    image_size: int = 224,
    patch: int = 16,
    seed: int = 0,
) -> None:
    """A ViT with random weights and without a pooler, in the files of the model's hub page."""
    import torch
    from transformers import ViTConfig, ViTModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    config = ViTConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        image_size=image_size,
        patch_size=patch,
        # Not the usual 0.02: of 48 drawn images' neighbours 79 % show the same dx then, not 60 %.
        initializer_range=0.1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ViTModel(config, add_pooling_layer=False)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_processor(image_size), indent=2))
    (folder / "README.md").write_text("Untrained: random weights, made by Kindred.\n")


def _processor(size: int) -> dict[str, Any]:
    """As the file of facebook/dino-vits16, which is older than today's spelling."""
    return {
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "ViTFeatureExtractor",
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
        "size": size,
    }


def drawn_row(seed: int, number: int) -> dict[str, Any]:
    """One drawn image (JPEG bytes) with its metadata; the same numbers give the same bytes."""
    import numpy as np

    lesion = number - number // 5  # so rows 4 and 5, 9 and 10, … share one
    patient = np.random.default_rng((seed, lesion))
    look = _LOOKS[patient.choice(len(_LOOKS), p=[look.share for look in _LOOKS])]
    age = float(patient.integers(1, 18) * 5)
    return {
        "dx": look.dx,
        "lesion_id": f"DRAWN_L{lesion:06d}",
        "dx_type": str(patient.choice(["histo", "follow_up", "consensus", "confocal"])),
        "age": age if patient.random() > 0.05 else None,
        "sex": str(patient.choice(["male", "female", "unknown"], p=[0.5, 0.45, 0.05])),
        "localization": str(patient.choice(_SITES)),
        "image_id": f"DRAWN_{number:06d}",
        "image": {
            "bytes": _photograph(look, patient, np.random.default_rng((seed, lesion, number))),
            "path": f"DRAWN_{number:06d}.jpg",
        },
    }


def _photograph(look: Look, patient: "np.random.Generator", view: "np.random.Generator") -> bytes:
    """JPEG bytes. `patient` decides what is there to be seen, `view` how it is taken."""
    from PIL import Image

    width, height = _SIZES[view.choice(len(_SIZES), p=[0.6, 0.1, 0.1, 0.1, 0.1])]
    drawn = _draw(look, patient, view, (width // _REDUCED, height // _REDUCED))
    out = io.BytesIO()
    photograph = drawn.resize((width, height), Image.Resampling.BICUBIC)
    photograph.save(out, "JPEG", quality=int(view.integers(75, 96)))
    return out.getvalue()


def _draw(
    look: Look, patient: "np.random.Generator", view: "np.random.Generator", size: tuple[int, int]
) -> "Image.Image":
    import numpy as np
    from PIL import Image, ImageDraw

    width, height = size
    skin = np.array(_SKINS[patient.integers(len(_SKINS))]) + patient.normal(0, 8, 3)
    rim, core = (np.array(colour) + patient.normal(0, 10, 3) for colour in (look.rim, look.core))
    radius = look.radius * patient.uniform(0.75, 1.25) * view.uniform(0.9, 1.1)
    lobes, phases = patient.normal(0, look.ragged / 2, 5), patient.uniform(0, 2 * np.pi, 5)

    y, x = np.mgrid[:height, :width] / min(width, height)
    y, x = y - y.mean() + view.normal(0, 0.05), x - x.mean() + view.normal(0, 0.05)
    angle, distance = np.arctan2(y, x) + view.uniform(0, 2 * np.pi), np.hypot(x, y)
    waves = np.cos(np.multiply.outer(np.arange(2, 7), angle) + phases[:, None, None])
    border = radius * (1 + np.tensordot(lobes, waves, 1))

    inside = np.clip((border - distance) / look.soft + 0.5, 0, 1)[..., None]
    depth = np.clip(1 - distance / border.clip(0.01), 0, 1)
    depth = np.clip(depth + look.blotches * _clouds(patient, width, height, 9), 0, 1)[..., None]
    shading = 1 + 0.05 * _clouds(view, width, height, 3)[..., None] - 0.15 * distance[..., None]
    colours = (skin * (1 - inside) + (rim * (1 - depth) + core * depth) * inside) * shading
    colours += 14 * _clouds(patient, width, height, 40)[..., None] + view.normal(
        0, 3, colours.shape
    )

    image = Image.fromarray(colours.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(patient.poisson(4)):  # hairs
        start, end = view.uniform(0, 1, 2), view.uniform(0, 1, 2)
        line = [tuple((point * size).tolist()) for point in (start, end)]
        pen.line(line, fill=(52, 38, 32), width=1)
    return image


def _clouds(draw: "np.random.Generator", width: int, height: int, cells: int) -> "np.ndarray":
    """Smooth noise (height, width) with about `cells` bright and dark patches across, -1 to 1."""
    import numpy as np
    from PIL import Image

    coarse = Image.fromarray(draw.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
