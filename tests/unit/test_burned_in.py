"""Which DICOM images are suspected of names in their pixels, and where those may stand."""

import io
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydicom import Dataset

from pipeline.dicom.burned_in import SAYS_SO, proposed, suspicion
from pipeline.images import text_detector
from pipeline.images.text_detector import NoDetector, Tesseract, detector, lines_in
from tests import burned_in
from tests.burned_in import CT, DERMOSCOPY, SECONDARY, ULTRASOUND


def header(storage: str = CT, modality: str = "CT", **said: Any) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality = storage, modality
    for keyword, value in said.items():
        setattr(dataset, keyword, value)
    return dataset


CLEAN = [
    header(),
    header(BurnedInAnnotation="NO"),
    header(DERMOSCOPY, "XC"),
    header(ImageType=["DERIVED", "SECONDARY", "MPR"]),
    header("1.2.840.10008.5.1.4.1.1.77.1.6", "SM"),
    Dataset(),
]
SUSPECT: list[tuple[Dataset, str]] = [
    (header(ULTRASOUND, "US"), "ultrasound"),
    (header("1.2.840.10008.5.1.4.1.1.3.1", "US"), "ultrasound"),
    (header("1.2.840.10008.5.1.4.1.1.6.2", "US"), "ultrasound"),
    (header(CT, "IVUS"), "ultrasound"),  # a maker's own class
    (header(ULTRASOUND, "US", BurnedInAnnotation="NO"), "ultrasound"),
    (header(SECONDARY, "CT"), "secondary-capture"),
    (header(f"{SECONDARY}.4", "MR"), "secondary-capture"),
    (header(CT, "OT"), "secondary-capture"),
    (header("1.2.840.10008.5.1.4.1.1.77.1.1", "ES"), "endoscopy"),
    (header(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]), "screen-shot"),
    (header(ImageType=["DERIVED", "SECONDARY", "OTHER", "CT_DOSE_REPORT"]), "screen-shot"),
    (header(DERMOSCOPY, "XC", ConversionType="DF"), "screen-shot"),
]


@pytest.mark.parametrize("dataset", CLEAN)
def test_what_is_not_suspect(dataset: Dataset) -> None:
    assert suspicion(dataset) is None


@pytest.mark.parametrize(("dataset", "kind"), SUSPECT)
def test_what_is_suspect_and_can_be_trusted(dataset: Dataset, kind: str) -> None:
    assert suspicion(dataset)
    assert suspicion(dataset, frozenset({kind})) is None
    others = {"ultrasound", "secondary-capture", "endoscopy", "screen-shot"} - {kind}
    assert suspicion(dataset, frozenset(others)) == suspicion(dataset)


def test_a_file_that_says_so_itself_is_never_trusted() -> None:
    everything = frozenset(
        {"ultrasound", "secondary-capture", "endoscopy", "screen-shot", "marked-clean"}
    )
    for value in ("YES", "YES "):
        assert suspicion(header(BurnedInAnnotation=value), everything) == SAYS_SO


def test_its_no_counts_only_where_the_department_says_so() -> None:
    said_clean = header(ULTRASOUND, "US", BurnedInAnnotation="NO")
    assert suspicion(said_clean)
    assert suspicion(said_clean, frozenset({"marked-clean"})) is None
    assert suspicion(header(ULTRASOUND, "US"), frozenset({"marked-clean"}))


def test_two_reasons_are_two_reasons() -> None:
    both = header(SECONDARY, "US")
    assert suspicion(both, frozenset({"ultrasound"}))
    assert suspicion(both, frozenset({"ultrasound", "secondary-capture"})) is None


def test_a_known_machine_has_its_rectangles() -> None:
    said = {"Manufacturer": "Philips Medical Systems", "ManufacturerModelName": "iU22"}
    philips = header(ULTRASOUND, "US", Rows=600, Columns=800, **said)
    assert proposed(philips, 800, 600) == [(0, 0, 800, 59)]
    # Shown in half the size, and with square pixels.
    assert proposed(philips, 400, 600) == [(0, 0, 400, 59)]
    assert proposed(header(ULTRASOUND, "US", Rows=601, Columns=800, **said), 800, 601) == []
    other = {**said, "Manufacturer": "Other"}
    assert proposed(header(ULTRASOUND, "US", Rows=600, Columns=800, **other), 800, 600) == []


def region(*corners: int) -> Dataset:
    each = Dataset()
    each.RegionLocationMinX0, each.RegionLocationMinY0 = corners[:2]
    each.RegionLocationMaxX1, each.RegionLocationMaxY1 = corners[2:]
    return each


def test_around_the_regions_of_ultrasound() -> None:
    us = header(ULTRASOUND, "US", Rows=480, Columns=640)
    us.SequenceOfUltrasoundRegions = [region(50, 60, 300, 400), region(320, 80, 600, 380)]
    assert proposed(us, 640, 480) == [
        (0, 0, 640, 60),
        (0, 400, 640, 80),
        (0, 60, 50, 340),
        (600, 60, 40, 340),
    ]
    us.SequenceOfUltrasoundRegions = [region(0, 0, 640, 480)]
    assert proposed(us, 640, 480) == []


def test_a_header_that_makes_no_sense_proposes_nothing() -> None:
    us = header(ULTRASOUND, "US", Rows=480, Columns=640)
    us.SequenceOfUltrasoundRegions = [region(600, 400, 10, 20), region(0, 0, 10**6, 10**6)]
    assert all(0 <= x < 640 and 0 <= y < 480 for x, y, _, _ in proposed(us, 640, 480))
    us.SequenceOfUltrasoundRegions = [Dataset()]
    assert proposed(us, 640, 480) == []


# --- the detector ---------------------------------------------------------------------------------


def png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def test_tesseract_finds_planted_words_and_none_in_noise() -> None:
    burned_in.need_tesseract()
    found = detector(1).find(png(burned_in.scan(1, "MUSTERMANN ERIKA 12.08.1964")))
    assert found
    for left, top, width, height in found:
        assert top + height <= burned_in.BAND + 8
        assert left >= 0 and top >= 0 and left + width <= burned_in.WIDTH
    covered = {x for left, _, width, _ in found for x in range(left, left + width)}
    assert covered.issuperset(range(20, 220, 10))
    assert detector(1).find(png(burned_in.scan(1))) == []


HEAD = (
    "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext"
)


def word(line: int, left: int, text: str, sure: float = 90, top: int = 10) -> str:
    cells = (5, 1, 1, 1, line, 1, left, top, 40, 12, sure, text)
    return "\t".join(map(str, cells))


def test_words_of_a_line_make_one_rectangle_and_specks_none() -> None:
    rows = [word(1, 10, "ERIKA"), word(1, 60, "1964"), word(2, 10, "..,"), word(3, 5, "NAME", 20)]
    assert lines_in("\n".join([HEAD, "1\t1\t0\t0\t0\t0\t0\t0\t9\t9\t-1\t", *rows])) == [
        (10, 10, 90, 12)
    ]
    assert lines_in("") == []


@pytest.mark.parametrize("script", ["import time; time.sleep(60)", "raise SystemExit(1)"])
def test_a_program_that_fails_or_hangs_finds_nothing(
    tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "tesseract"
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(text_detector, "SECONDS", 0.2)

    assert Tesseract(str(program), 1).find(png(burned_in.scan(1))) == []


def test_without_tesseract_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert isinstance(detector(4), NoDetector)
