"""`kindred explain`: what is asked, and the picture of the answer."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console

from cli.client import Client
from cli.documents import Document
from cli.failure import CommandError, UsageError
from cli.render import print_rows

HEIGHT = 512  # pixels of each picture
GAP = 24
LINES = 8  # matches that are drawn: more hide what they point at

# How dark a part is that does not match at all, as on the page.
_VEIL = 0.8
_COLOURS = ("#ffd60a", "#64d2ff", "#30d158", "#ff9f0a", "#ff6482", "#bf5af2", "#66d4cf", "#ac8e68")


def make_query(
    files: Sequence[Path], ids: Sequence[str], frame: int | None, crop: Document | None, limit: int
) -> Document:
    """Two pictures: the files, then the images by their ids. Raises UsageError for any others."""
    if len(files) + len(ids) != 2:
        raise UsageError("name two pictures: image files, or --id of indexed images")
    sides: list[Document] = [*({} for _ in files), *({"image_id": each} for each in ids)]
    if frame is not None:
        if not files:
            raise UsageError("--frame is of a DICOM file")
        sides[0]["frame"] = frame
    if crop is not None:
        sides[0]["crop"] = crop
    return {"first": sides[0], "second": sides[1], "limit": limit}


def print_matches(console: Console, found: Document) -> None:
    """Each with the middle of both patches, in percent of the pictures."""
    rows = [
        {
            "similarity": f"{match['similarity']:.4f}",
            "first": _middle(match["first"]),
            "second": _middle(match["second"]),
            "mutual": "yes" if match["mutual"] else "",
        }
        for match in found["matches"]
    ]
    print_rows(console, rows, "no part of one is more like a part of the other", {"similarity"})


def _middle(patch: Document) -> str:
    across, down = (patch[a] + patch[b] / 2 for a, b in (("left", "width"), ("top", "height")))
    return f"{across:.0%} from the left, {down:.0%} from the top"


def save_picture(
    client: Client, query: Document, files: Sequence[Path], found: Document, to: Path
) -> None:
    """Both pictures side by side, bright where they match, the best matches joined by lines."""
    left = list(files)
    shown = []
    for name in ("first", "second"):
        side = query[name]
        known = "image_id" in side
        data = (
            client.preview(side["image_id"])
            if known
            else client.rendering(left.pop(0), side.get("frame"))
        )
        shown.append(_scaled(data))
    drawn = _beside([_veiled(*each) for each in zip(shown, _brightness(found), strict=True)])
    _join(drawn, shown[0].width + GAP, [each.size for each in shown], found["matches"])
    try:
        drawn.save(to)
    except (OSError, ValueError) as error:
        raise CommandError(f"{to} cannot be written: name a .png or .jpg that can be") from error


def _scaled(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return image.resize((max(1, round(image.width * HEIGHT / image.height)), HEIGHT))


def _brightness(found: Document) -> list[Document]:
    """The sides, with weights (rows, columns) of which the greatest of both is 1."""
    sides = [found["first"], found["second"]]
    most = max(max(side["weights"]) for side in sides) or 1
    return [
        {**side, "weights": np.reshape(side["weights"], (side["rows"], side["columns"])) / most}
        for side in sides
    ]


def _veiled(image: Image.Image, side: Document) -> Image.Image:
    """The picture, dark where nothing matches."""
    light = Image.new("L", image.size, round(255 * (1 - _VEIL)))
    left, top, right, bottom = _pixels(side["seen"], image.size)
    brightness = 255 * (1 - _VEIL * (1 - side["weights"]))
    patches = Image.fromarray(brightness.round().astype(np.uint8))
    light.paste(patches.resize((right - left, bottom - top), Image.Resampling.NEAREST), (left, top))
    return Image.composite(image, Image.new("RGB", image.size), light)


def _pixels(patch: Document, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a patch; at least a pixel."""
    left, top = round(patch["left"] * size[0]), round(patch["top"] * size[1])
    right = round((patch["left"] + patch["width"]) * size[0])
    bottom = round((patch["top"] + patch["height"]) * size[1])
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _beside(images: Sequence[Image.Image]) -> Image.Image:
    both = Image.new("RGB", (sum(each.width for each in images) + GAP, HEIGHT), "white")
    both.paste(images[0], (0, 0))
    both.paste(images[1], (images[0].width + GAP, 0))
    return both


def _join(
    drawn: Image.Image, offset: int, sizes: Sequence[tuple[int, int]], matches: Sequence[Document]
) -> None:
    pen = ImageDraw.Draw(drawn)
    for match, colour in zip(matches[:LINES], _COLOURS, strict=False):
        first, second = _pixels(match["first"], sizes[0]), _pixels(match["second"], sizes[1])
        second = second[0] + offset, second[1], second[2] + offset, second[3]
        for box in (first, second):
            pen.rectangle(box, outline=colour, width=2)
        ends = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (first, second)]
        pen.line([point for end in ends for point in end], fill=colour, width=1)
