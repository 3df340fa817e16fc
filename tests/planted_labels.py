"""A collection of vectors with planted wrong labels and copies, in a real embedded store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.identity import point_id
from pipeline.store import Points
from pipeline.store.edge import EdgeStore
from tests.encoders import DIMENSIONS, ENCODER

INDEXES = {"dx": "keyword", "lesion_id": "keyword", "patient_id": "keyword"}
CLASSES = ("nevus", "melanoma", "keratosis")


def open_store(folder: Path) -> EdgeStore:
    return EdgeStore(folder / "store", "kindred", ENCODER, INDEXES, 0)


def vectors(rng: np.random.Generator, classes: np.ndarray, spread: float = 0.3) -> np.ndarray:
    """float32 (n, DIMENSIONS), of length 1, around one centre for each class."""
    centres = np.random.default_rng(5).normal(size=(len(CLASSES), DIMENSIONS))
    found = centres[classes] + spread * rng.normal(size=(len(classes), DIMENSIONS))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def payload(number: int, **said: Any) -> dict[str, Any]:
    """Of an image with a picture of its own."""
    rng = np.random.default_rng([7, number])
    source = {"job": "first", "sha256": f"{number:064x}", "phash": rng.bytes(32).hex()}
    return {"image_id": f"I{number:04}", "source": source | said.pop("source", {}), **said}


def fill(store: EdgeStore, payloads: list[dict[str, Any]], found: np.ndarray) -> None:
    points = [point_id(str(each["image_id"])) for each in payloads]
    store.upsert(Points(points, found, payloads))


def planted(store: EdgeStore, count: int = 300, seed: int = 0) -> dict[str, str]:
    """Image id → true label of those whose label is wrong. `C0` is I0000's copy, as a melanoma or a
    nevus; `C1` is I0001 again with its own label; `C2` has I0002's hash and almost its vector."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, len(CLASSES), count)
    found = vectors(rng, classes)
    wrong = {number: CLASSES[classes[number]] for number in range(10, 16)}
    rows = []
    for number in range(count):
        label = CLASSES[(classes[number] + (number in wrong)) % 3]
        rows.append(payload(number, dx=label, lesion_id=f"L{number // 2}"))
    fill(store, rows, found)
    copies = [{**rows[n], "image_id": f"C{n}", "lesion_id": f"C{n}"} for n in range(3)]
    copies[0]["dx"] = next(label for label in CLASSES if label != rows[0]["dx"])
    near = rows[2]["source"]["phash"]
    copies[2]["source"] = copies[2]["source"] | {"sha256": "f" * 64, "phash": f"ff{near[2:]}"}
    fill(store, copies, found[:3])
    return {f"I{number:04}": label for number, label in wrong.items()}


def others_of(finding: Mapping[str, Any]) -> set[str]:
    return {image["image_id"] for image in finding["images"]}
