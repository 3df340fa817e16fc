"""Every kind of file that departments send, through all that is done to a file: docs/formats.md."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.images import decoding
from pipeline.images.bombs import MOST_SCANS, too_many_scans
from pipeline.images.hashes import perceptual_hash
from pipeline.images.picture import Picture, Unusable, decode, inspect
from pipeline.images.previews import preview
from tests import made_bytes as made
from tests.bad_files import SECRET, Kind, catalogue
from tests.made_bytes import drawing, encoded

CAP = 100_000_000

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")  # of odd metadata

KINDS = pytest.mark.parametrize("kind", catalogue(), ids=lambda kind: kind.name)


def test_there_are_many_kinds_and_no_two_alike() -> None:
    assert len({kind.name for kind in catalogue()}) == len({kind.data for kind in catalogue()})
    assert len(catalogue()) >= 140


@KINDS
def test_a_file_is_the_picture_it_shows_or_the_reason_it_is_not(kind: Kind) -> None:
    result = decode(kind.data, CAP)
    if isinstance(kind.becomes, Unusable):
        assert result == kind.becomes
        return
    assert isinstance(result, Picture), result
    assert (result.image.mode, result.image.size) == ("RGB", kind.becomes.size)
    apart = np.asarray(result.image).astype(float) - np.asarray(kind.becomes).astype(float)
    assert np.abs(apart).mean() <= kind.tolerance


@KINDS
def test_a_header_tells_nothing_that_decoding_does_not(kind: Kind) -> None:
    """What a search refuses at once is what an ingest would refuse."""
    told = inspect(kind.data, CAP)
    assert told is None or told == kind.becomes


@KINDS
def test_whatever_is_taken_can_be_shown_and_compared(kind: Kind) -> None:
    result = decode(kind.data, CAP)
    if isinstance(result, Unusable):
        return
    data = preview(result, 512)
    shown = Image.open(io.BytesIO(data))
    assert shown.format == "JPEG"
    assert max(shown.size) == min(512, max(result.image.size))
    assert SECRET.encode() not in data
    assert not shown.getexif()
    assert not {"icc_profile", "comment", "exif", "xmp", "photoshop"} & shown.info.keys()
    assert len(perceptual_hash(result)) == 64


def test_reasons_say_nothing_of_the_file() -> None:
    reasons = {kind.becomes.reason for kind in catalogue() if isinstance(kind.becomes, Unusable)}
    assert len(reasons) >= 8
    assert not [reason for reason in reasons if SECRET in reason]


def test_bombs_are_refused_without_the_memory_that_they_would_take() -> None:
    """In a process of its own, since a peak of memory is the whole process's."""
    told = subprocess.run(
        [sys.executable, "-c", _MEASURE],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    megabytes = {line.split("\t")[1]: int(line.split("\t")[0]) for line in told.splitlines()}
    assert len(megabytes) == sum(not kind.taken for kind in catalogue())
    assert not {name: more for name, more in megabytes.items() if more > 60}


# The peak is of the process's whole life, so each kind is charged with what it adds to it.
_MEASURE = f"""
from pipeline.images.decoding import decode
from tests.bad_files import catalogue

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024

for kind in catalogue():
    if not kind.taken:
        open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from what is held
        before = peak()
        decode(kind.data, {CAP})
        print(peak() - before, kind.name, sep="\\t")
"""


def test_a_tile_within_the_cap_is_read() -> None:
    data = made.tiff_with_a_tile(160)
    assert isinstance(decode(data, 160 * 160), Picture)
    assert decode(data, 160 * 160 - 1) == decoding.TOO_MANY_PIXELS


def test_scans_are_counted_in_the_picture_alone() -> None:
    progressive = encoded(drawing(), "JPEG", progressive=True)
    pixels = 48 * 32
    many = made.with_last_scan_repeated(progressive, MOST_SCANS)
    assert not too_many_scans(progressive, pixels, pixels)
    assert too_many_scans(many, pixels, pixels)
    assert not too_many_scans(many, pixels, 2 * pixels)
    # A phone's film behind its photograph, and a thumbnail in front, hold such bytes by chance.
    film = progressive + b"\xff\xda\x00\x02" * 1000
    thumbnail = made.with_segments(progressive, 0xE1, b"\xff\xda\xff\xd9" * 1000)
    for innocent in (film, thumbnail):
        assert not too_many_scans(innocent, pixels, pixels)


def test_no_memory_to_turn_an_image_is_no_reason_to_leave_it_lying(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decoding.ImageOps, "exif_transpose", no_memory)
    assert decode(encoded(drawing()), CAP) == decoding.NO_MEMORY
