"""What is left of a DICOM file that a search sends: it renders alike, and names nobody."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import data_store
import numpy as np
import pydicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence

from api.sent import read_dicom
from pipeline.base.errors import InvalidQuery
from pipeline.base.identity import sha256
from pipeline.dicom.describing import Policy
from pipeline.dicom.errors import Refused
from pipeline.dicom.pseudonyms import Pseudonyms
from pipeline.dicom.rendering import Rendered, render
from pipeline.dicom.stripping import stripped

FOLDERS = (
    Path(pydicom.__file__).parent / "data" / "test_files",
    Path(data_store.__file__).parent,
)
MARK = "PLANTED^NAME"
LARGEST = 3_000_000  # bytes; larger ones are of the same encodings


def files() -> Iterator[Path]:
    for folder in FOLDERS:
        for where, _, names in os.walk(folder):
            found = (Path(where) / name for name in names)
            yield from (path for path in found if path.stat().st_size < LARGEST)


def rendered(data: bytes) -> Rendered | str:
    try:
        return render(data, 0, 10**8)
    except Refused as refused:
        return refused.reason


@pytest.mark.filterwarnings("ignore")
def test_every_file_renders_as_before() -> None:
    compared = 0
    for path in sorted(files()):
        data = path.read_bytes()
        before = rendered(data)
        if isinstance(before, str):
            continue
        after = rendered(stripped(data))
        assert not isinstance(after, str), (path.name, after)
        assert after.rule == before.rule, path.name
        assert np.array_equal(after.pixels, before.pixels), path.name
        compared += 1
    assert compared > 100


def test_what_follows_the_pixels_goes_too() -> None:
    for name in ("emri_small.dcm", "emri_small_jpeg_ls_lossless.dcm"):
        data = Path(str(get_testdata_file(name, download=False))).read_bytes()
        longer = data + b"\xfc\xff\xfc\xffOB\x00\x00\x0c\x00\x00\x00" + MARK.encode()
        assert MARK.encode() not in stripped(longer), name


@pytest.mark.filterwarnings("ignore")  # of what is planted
def test_no_name_is_left_at_any_depth() -> None:
    scan = dcmread(str(get_testdata_file("emri_small.dcm", download=False)))
    scan.PatientName = scan.StudyDescription = scan.ImageComments = MARK
    scan.Modality = scan.WindowCenterWidthExplanation = MARK
    scan.private_block(0x0011, MARK, create=True).add_new(1, "UN", MARK.encode())
    group = Dataset()
    group.FrameComments = MARK
    group.FrameVOILUTSequence = Sequence([Dataset()])
    group.FrameVOILUTSequence[0].WindowCenter = 40
    group.FrameVOILUTSequence[0].WindowCenterWidthExplanation = MARK
    scan.SharedFunctionalGroupsSequence = Sequence([group])
    scan.add_new(0x60004000, "LT", MARK)
    out = io.BytesIO()
    scan.save_as(out)
    left = stripped(out.getvalue())
    assert MARK.encode() in out.getvalue()
    assert MARK.encode() not in left
    kept = dcmread(io.BytesIO(left))
    assert kept.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0].WindowCenter == 40


def test_a_file_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(Refused):
        stripped(bytes(128) + b"DICM" + b"\xff" * 40)


def test_the_door_keeps_what_renders_and_keys() -> None:
    scan = dcmread(str(get_testdata_file("emri_small.dcm", download=False)))
    scan.PatientName = scan.PatientID = MARK
    out = io.BytesIO()
    scan.save_as(out)
    policy = Policy(Pseudonyms((b"the newest secret", b"an old secret")))

    kept, sent = read_dicom(out.getvalue(), policy, None)

    assert MARK.encode() not in kept
    assert MARK not in sent.model_dump_json()
    assert str(scan.SeriesInstanceUID) not in sent.model_dump_json()
    assert sent.frames == (4,)
    assert len(sent.points) == 2  # of this frame, under each secret
    assert {len(sent.keys_of(name)) for name in ("patient_id", "study_id", "series_id")} == {2}
    assert sent.sha256 == sha256(out.getvalue())
    with pytest.raises(InvalidQuery) as refused:
        read_dicom(out.getvalue(), policy, 11)
    assert refused.value.path == ("frame",)
    assert len(read_dicom(out.getvalue(), policy, None, whole=True)[1].frames) == 10
