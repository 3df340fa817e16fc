"""Who may send by C-STORE, and what is taken from them."""

from datetime import date, timedelta

import pytest
from pynetdicom.presentation import build_context

from api.dimse.archive import Archive, ArchiveError
from api.dimse.contexts import VERIFICATION, contexts_for, image_classes, transfer_syntaxes
from api.dimse.move import address, days, hours_of, is_within
from pipeline.base.errors import ConfigurationError
from pipeline.base.peers import Peers
from pipeline.base.settings import load_settings

CT, REPORT, SLIDE = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.77.1.6",
)
EXPLICIT, DEFLATED, JPEG_2000 = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.90",
)


def test_titles_and_addresses_must_fit_together() -> None:
    peers = Peers.of(("ORTHANC@10.0.0.5", "*@10.1.0.0/16", "V6@fd00::/8"))
    assert peers.allow("ORTHANC", "10.0.0.5")
    assert peers.allow("ORTHANC", "::ffff:10.0.0.5")
    assert peers.allow("ANYBODY", "10.1.255.1")
    assert peers.allow("V6", "fd00::1")
    assert not peers.allow("OTHER", "10.0.0.5")
    assert not peers.allow("ORTHANC", "10.0.0.6")
    assert peers.cover("10.0.0.5")
    assert not peers.cover("10.2.0.1")
    assert not Peers.of(()).cover("127.0.0.1")


@pytest.mark.parametrize(
    "wrong", ["10.0.0.5", "A@host", "@10.0.0.5", "A@10.0.0.5/8", "X" * 17 + "@::1"]
)
def test_a_wrong_entry_is_named_and_not_quoted(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDRED_DICOM_PEERS", wrong)
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    assert str(error.value).startswith("KINDRED_DICOM_PEERS: ")
    assert wrong not in str(error.value)


def test_images_are_taken_and_nothing_else() -> None:
    proposed = [
        build_context(uid, [EXPLICIT]) for uid in (CT, REPORT, SLIDE, VERIFICATION, "1.2.3")
    ]
    assert [str(each.abstract_syntax) for each in contexts_for(proposed)] == [CT, VERIFICATION]
    assert len(image_classes()) > 60


def test_the_peers_first_syntax_that_can_be_decoded_is_taken() -> None:
    [context] = contexts_for([build_context(CT, [DEFLATED, JPEG_2000, EXPLICIT])])
    assert [*map(str, context.transfer_syntax)] == [JPEG_2000, EXPLICIT]
    assert DEFLATED not in transfer_syntaxes()
    assert {EXPLICIT, JPEG_2000} <= {*transfer_syntaxes()}


def test_arguments_of_a_retrieval() -> None:
    assert address("PACS@pacs.local:104") == ("PACS", "pacs.local", 104)
    assert address("PACS@[fd00::1]:104") == ("PACS", "fd00::1", 104)
    assert days("20250101-20251231") == (date(2025, 1, 1), date(2025, 12, 31))
    assert days("20250101")[1] == date(2025, 1, 1)
    assert days("20250101-")[1] == date.today()
    assert [hour for hour in range(24) if is_within(hour, hours_of("20-6"))] == [
        *range(6),
        *range(20, 24),
    ]
    assert [hour for hour in range(24) if is_within(hour, hours_of("8-10"))] == [8, 9]
    for wrong in ("25-3", "8", "8-", "a-b"):
        with pytest.raises(ValueError):
            hours_of(wrong)


def test_an_archive_that_lists_few_is_asked_for_fewer_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses more than a week; each day has a study."""
    asked: list[int] = []

    def find(_: Archive, query: object) -> list[object] | None:
        first, last = days(query.StudyDate)  # type: ignore[attr-defined]
        span = (last - first).days + 1
        asked.append(span)
        return None if span > 7 else [_study(first + timedelta(n)) for n in range(span)]

    monkeypatch.setattr(Archive, "_find", find)
    archive = Archive("PACS", "127.0.0.1", 1, "KINDRED")
    found = [*archive.studies(date(2025, 1, 1), date(2025, 3, 1), ())]
    assert found == [f"1.{date(2025, 1, 1) + timedelta(n):%Y%m%d}" for n in range(60)]
    assert max(asked) == 31
    monkeypatch.setattr(Archive, "_find", lambda *_: None)
    with pytest.raises(ArchiveError):
        list(archive.studies(date(2025, 1, 1), date(2025, 1, 1), ()))


def _study(day: date) -> dict[str, str]:
    return {"StudyInstanceUID": f"1.{day:%Y%m%d}"}
