"""`kindred export`: the collection as files, a page in memory at a time."""

import json
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from cli.client import Client
from cli.documents import Document, StoredImage
from cli.failure import CommandError
from pipeline.backup.manifest import PAYLOADS, VECTORS


def export_images(client: Client, folder: Path, filter_: Document | None) -> int:
    """How many rows: `vectors.npy` is float32 of shape (rows, dimensions), each of length 1.

    Row n of it is line n of `payloads.jsonl`: `{"image_id", "point_id", "payload"}`.
    """
    make_empty(folder)
    return write_images(client, folder, filter_)


def make_empty(folder: Path) -> None:
    """Raises CommandError for a folder that has something in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise CommandError(f"{folder} is not empty: name a new folder")


def write_images(client: Client, folder: Path, filter_: Document | None) -> int:
    """As `export_images`, into a folder that can have other files in it."""
    rows = dimensions = 0
    with (folder / VECTORS).open("w+b") as vectors, (folder / PAYLOADS).open("w") as payloads:
        for image in client.all_images(filter_):
            if not rows:
                dimensions = len(image["vector"])
                _header(vectors, 0, dimensions)
            _row(vectors, payloads, image)
            rows += 1
        vectors.seek(0)
        _header(vectors, rows, dimensions)
    return rows


def _row(vectors: BinaryIO, payloads: TextIO, image: StoredImage) -> None:
    vectors.write(np.asarray(image["vector"], "<f4").tobytes())
    line = {name: image[name] for name in ("image_id", "point_id", "payload")}
    payloads.write(json.dumps(line, ensure_ascii=False) + "\n")


def _header(file: BinaryIO, rows: int, dimensions: int) -> None:
    """NumPy leaves room for the first axis to grow, so the final header fits over the first one.

    (https://numpy.org/neps/nep-0001-npy-format.html)
    """
    layout = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimensions)}
    np.lib.format.write_array_header_1_0(file, layout)
