"""Finds text in pictures, so that a person who looks for names sees where to look.

What finds none proves nothing: letters can be small, faint or in a script that is not installed.
"""

import io
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Semaphore
from typing import Protocol

from PIL import Image, ImageOps, ImageStat
from PIL.Image import Resampling

Rectangle = tuple[int, int, int, int]  # left, top, width, height in pixels

# Tesseract reads capitals best from 20 pixels on, and machines write them with ten. Longer sides
# cost time and find nothing more.
_LONGEST, _MOST_TIMES = 2000, 2.5
# 11: text anywhere, in no order. Thresholds by tiles: white letters beside a grey picture are lost
# with one threshold for all. (Version 4 does not know that, says so and goes on.)
_HOW = ("--psm", "11", "-c", "thresholding_method=1")
SECONDS = 30.0  # for one picture; it takes one, and of mere noise eight
_SURE = 60.0  # of 100: words of less are mostly specks
_LETTERS = 4  # fewer letters and digits in a line are mostly scales and marks
_MOST = 100  # rectangles
_MARGIN = 0.35  # of a line's height, on each side


class TextDetector(Protocol):
    def find(self, picture: bytes) -> list[Rectangle]:
        """Rectangles around the lines of text in a picture of ours, a PNG."""
        ...


class NoDetector:
    """Where none is wanted, or none is installed."""

    def find(self, picture: bytes) -> list[Rectangle]:
        return []


@dataclass(frozen=True)
class Tesseract:
    """Runs the program for each picture, and at most `at_once` of them. It writes no file."""

    program: str
    at_once: int
    _turns: Semaphore = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_turns", Semaphore(self.at_once))  # as frozen data classes want

    def find(self, picture: bytes) -> list[Rectangle]:
        """Empty as well if the program fails or takes too long: a person looks in any case."""
        made, times = _readable(picture)
        with self._turns:
            try:
                # The picture comes through a pipe, so none of it reaches a disk.
                told = subprocess.run(
                    [self.program, "stdin", "stdout", *_HOW, "tsv"],
                    input=made,
                    capture_output=True,
                    timeout=SECONDS,
                    env={"OMP_THREAD_LIMIT": "1"},
                    check=True,
                )
            except (OSError, subprocess.SubprocessError):
                return []
        width, height = Image.open(io.BytesIO(picture), formats=["PNG"]).size
        lines = lines_in(told.stdout.decode("utf-8", "replace"))
        return [_scaled(each, times, width, height) for each in lines][:_MOST]


def detector(cores: int) -> TextDetector:
    """Tesseract if it is on the PATH."""
    program = shutil.which("tesseract")
    return Tesseract(program, max(1, cores)) if program else NoDetector()


def _readable(picture: bytes) -> tuple[bytes, float]:
    """Dark letters on light ground, and large, as a PGM; how many times as large it is."""
    with Image.open(io.BytesIO(picture), formats=["PNG"]) as opened:
        grey = opened.convert("L")
    times = min(_MOST_TIMES, _LONGEST / max(grey.size))
    size = tuple(max(1, round(side * times)) for side in grey.size)
    grey = grey.resize((size[0], size[1]), Resampling.BICUBIC)
    if ImageStat.Stat(grey).mean[0] < 128:
        grey = ImageOps.invert(grey)
    out = io.BytesIO()
    grey.save(out, "PPM")
    return out.getvalue(), times


def lines_in(table: str) -> list[Rectangle]:
    """Rectangles around the lines of a table as `tesseract … tsv` prints it."""
    lines: dict[tuple[str, ...], list[Sequence[str]]] = defaultdict(list)
    for row in table.splitlines()[1:]:
        cells = row.split("\t")
        if len(cells) == 12 and cells[0] == "5" and float(cells[10]) >= _SURE:  # 5: a word
            lines[tuple(cells[1:5])].append(cells)
    return [
        _around([[int(cell) for cell in word[6:10]] for word in words])
        for words in lines.values()
        if sum(letter.isalnum() for word in words for letter in word[11]) >= _LETTERS
    ]


def _around(boxes: Sequence[Sequence[int]]) -> Rectangle:
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return left, top, right - left, bottom - top


def _scaled(line: Rectangle, times: float, width: int, height: int) -> Rectangle:
    """In the picture's own pixels, with a margin, within it."""
    margin = line[3] * _MARGIN
    left, top = max(0, int((line[0] - margin) / times)), max(0, int((line[1] - margin) / times))
    right = min(width, round((line[0] + line[2] + margin) / times))
    bottom = min(height, round((line[1] + line[3] + margin) / times))
    return left, top, max(1, right - left), max(1, bottom - top)
