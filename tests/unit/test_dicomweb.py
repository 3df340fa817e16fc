"""An archive by DICOMweb: what it may answer, and what becomes of that; and our manners."""

import logging
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from cli.failure import UsageError
from cli.source import archive_of, dataset_source
from pipeline.base.blobs import Blobs
from pipeline.base.errors import ArchiveAway, ArchiveClosed, SourceError, SourceNotAllowed
from pipeline.dicom.describing import Policy
from pipeline.dicom.pseudonyms import Pseudonyms
from pipeline.images.decoding import Unusable
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.archives import Archives
from pipeline.sources.base import Opening, Reader
from pipeline.sources.dicomweb import archive as web
from pipeline.sources.dicomweb.archive import GONE, NOT_GIVEN, NOT_ONE, Archive
from pipeline.sources.dicomweb.manners import Manners, is_open
from pipeline.sources.dicomweb.planning import may_have_frames, skip_kind
from pipeline.sources.dicomweb.reader import MORE_FRAMES, OTHER
from pipeline.sources.dicomweb.source import DICOMWEB, DicomWebSource

URL = "http://archive.example:8042/dicom-web"
CT, ENHANCED_MR, SR = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.88.11",
)
Answer = httpx.Response | httpx.TransportError | Callable[[httpx.Request], httpx.Response]


def read(name: str) -> Dataset:
    return dcmread(str(get_testdata_file(name, download=False)))


def encoded(dataset: Dataset) -> bytes:
    out = BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def related(data: bytes) -> httpx.Response:
    head = b'--x\r\nContent-Type: application/dicom; transfer-syntax="1.2"\r\n\r\n'
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'}
    return httpx.Response(200, headers=kind, content=head + data + b"\r\n--x--")


def listed(*found: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json=list(found), headers={"Content-Type": web._JSON["Accept"]})


def said(**elements: Any) -> dict[str, Any]:
    return {tag.lstrip("t"): {"vr": "UI", "Value": [value]} for tag, value in elements.items()}


def instance(uid: str, sop_class: str = CT, **more: Any) -> dict[str, Any]:
    return said(t00080018=uid, t00080016=sop_class, **more)


class Peer:
    """Answers by path; what it does not know is 404. A query's second page is empty."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        path = request.url.path.removeprefix("/dicom-web")
        answer = self.answers.get(path, httpx.Response(404))
        if isinstance(answer, httpx.TransportError):
            raise answer
        if callable(answer):
            return answer(request)
        if int(request.url.params.get("offset", 0)) > 0 and answer.is_success:
            return httpx.Response(204)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def has(self, *instances: dict[str, Any], modality: str = "CT") -> None:
        """One series of one study."""
        self.answers["/studies"] = listed(said(t0020000D="1.1"))
        self.answers["/studies/1.1/series"] = listed(said(t0020000E="1.2", t00080060=modality))
        self.answers["/studies/1.1/series/1.2/instances"] = listed(*instances)


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Peer:
    made = Peer()
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, sent: made(sent))
    return made


def quick() -> Manners:
    return Manners(1e6, 4, None)


@pytest.fixture
def archive(peer: Peer) -> Archive:
    return Archive(URL, Archives(), quick())


POLICY = Policy(Pseudonyms((b"k" * 32,)))


def planned(tmp_path: Path, **more: Any) -> Reader:
    allowed = AllowedSources.of(("dicomweb:archive.example",))
    opening = Opening(Blobs(str(tmp_path)), allowed, job="job", dicom=POLICY)
    assert DICOMWEB.plan is not None
    return DICOMWEB.plan(DicomWebSource(url=URL, rate=1000, **more), opening)


# --- what an archive answers ---------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_an_archive_that_answers_nobody_is_away(peer: Peer, archive: Archive, status: int) -> None:
    peer.answers["/studies"] = httpx.Response(status)
    with pytest.raises(ArchiveAway):
        list(archive.search(("studies",)))


def test_an_archive_without_a_connection_is_away(peer: Peer, archive: Archive) -> None:
    peer.answers["/studies"] = httpx.ConnectError("to http://archive.example/studies/1.2.3")
    with pytest.raises(ArchiveAway) as raised:
        list(archive.search(("studies",)))
    assert "1.2.3" not in raised.value.logged


def test_a_connection_that_was_closed_meanwhile_is_made_anew(peer: Peer, archive: Archive) -> None:
    def once(_: httpx.Request) -> httpx.Response:
        if len(peer.asked) == 1:
            raise httpx.RemoteProtocolError("closed")
        return httpx.Response(204)

    peer.answers["/studies"] = once
    assert list(archive.search(("studies",))) == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(401), "KINDRED_DICOMWEB_AUTH"),
        (httpx.Response(403), "KINDRED_DICOMWEB_AUTH"),
        (httpx.Response(404), "look at the address"),
        (httpx.Response(302, headers={"Location": "http://elsewhere.example"}), "302"),
        (httpx.Response(200, text="<html>"), "no DICOMweb archive"),
        (httpx.Response(200, json={"a": 1}), "no DICOMweb archive"),
    ],
)
def test_a_refusal_says_what_to_do(
    peer: Peer, archive: Archive, answer: httpx.Response, words: str
) -> None:
    peer.answers["/studies"] = answer
    with pytest.raises(SourceError, match=words):
        list(archive.search(("studies",)))
    assert {request.url.host for request in peer.asked} == {"archive.example"}


def test_pages_are_asked_for_until_one_is_empty(peer: Peer, archive: Archive) -> None:
    uids = [f"1.{n}" for n in range(7)]

    def page(request: httpx.Request) -> httpx.Response:  # at most three, whatever is asked for
        start = int(request.url.params["offset"])
        return listed(*(said(t0020000D=uid) for uid in uids[start : start + 3]))

    peer.answers["/studies"] = page
    found = archive.search(("studies",), StudyDate="20250101-")
    assert [web.text_of(each, "0020000D") for each in found] == uids
    assert peer.asked[0].url.params["StudyDate"] == "20250101-"


def test_an_archive_that_ignores_the_offset_is_asked_no_longer(
    peer: Peer, archive: Archive
) -> None:
    peer.answers["/studies"] = lambda _: listed(said(t0020000D="1.1"))
    assert len(list(archive.search(("studies",)))) == 1
    assert len(peer.asked) == 2


def test_one_instance_that_cannot_be_had_is_no_fault_of_the_others(
    peer: Peer, archive: Archive
) -> None:
    path = "/studies/1/series/2/instances/3"
    peer.answers = {"/studies": listed(), path: httpx.Response(500)}
    assert archive.instance("1", "2", "3") is NOT_GIVEN
    assert archive.instance("1", "2", "4") is GONE
    peer.answers[path] = httpx.Response(200, text="no parts")
    assert archive.instance("1", "2", "3") is NOT_ONE
    peer.answers |= {"/studies": httpx.Response(500), path: httpx.Response(500)}
    with pytest.raises(ArchiveAway):
        archive.instance("1", "2", "3")


def test_a_file_comes_in_parts_or_as_it_is(peer: Peer, archive: Archive) -> None:
    path = "/studies/1/series/2/instances/3"
    peer.answers[path] = related(b"DICM")
    assert archive.instance("1", "2", "3") == b"DICM"
    assert "transfer-syntax=*" in peer.asked[0].headers["Accept"]
    peer.answers[path] = httpx.Response(
        200, content=b"DICM", headers={"Content-Type": "application/dicom"}
    )
    assert archive.instance("1", "2", "3") == b"DICM"


@pytest.mark.parametrize(
    ("known", "sent"),
    [
        ({"archive.example:8042": "anna:secret"}, "Basic YW5uYTpzZWNyZXQ="),
        ({"archive.example": "Bearer token"}, "Bearer token"),
        ({"other.example": "anna:secret"}, None),
    ],
)
def test_each_archive_gets_its_own_credentials(
    peer: Peer, known: dict[str, str], sent: str | None
) -> None:
    peer.answers["/studies"] = listed()
    list(Archive(URL, Archives(known), quick()).search(("studies",)))
    assert peer.asked[0].headers.get("Authorization") == sent
    assert "secret" not in repr(Archives(known))


def test_the_http_library_logs_no_address(
    peer: Peer, archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    peer.answers["/studies"] = listed()
    with caplog.at_level(logging.INFO):
        list(archive.search(("studies",)))
    assert "archive.example" not in caplog.text


# --- the plan, and its rows ----------------------------------------------------------------------


def test_what_is_no_image_is_skipped_by_kind(peer: Peer, tmp_path: Path) -> None:
    peer.has(instance("1.3"), instance("1.4", SR))
    reader = planned(tmp_path)
    assert (len(reader), dict(reader.skipped)) == (1, {"dicom sr": 1})
    assert skip_kind(CT) is None and skip_kind(ENHANCED_MR) is None


def test_frames_are_asked_for_only_where_there_can_be_some(peer: Peer, tmp_path: Path) -> None:
    of_frames = "/studies/1.1/series/1.2/instances/1.4/metadata"
    peer.has(instance("1.3"), instance("1.4", ENHANCED_MR), instance("1.5", CT, t00280008=3))
    peer.answers[of_frames] = listed(said(t00280008="10"))
    assert len(planned(tmp_path)) == 1 + 10 + 3
    assert sum(request.url.path.endswith("/metadata") for request in peer.asked) == 1
    assert may_have_frames("1.2.3.4"), "a private class"


def test_only_series_of_the_modality_are_taken(peer: Peer, tmp_path: Path) -> None:
    peer.has(instance("1.3"), modality="MR")
    with pytest.raises(SourceError, match="nothing that fits"):
        planned(tmp_path, modality=("CT",))


def test_a_row_has_the_hash_of_its_uid_and_what_may_be_kept(peer: Peer, tmp_path: Path) -> None:
    ct = read("CT_small.dcm")
    uid = str(ct.SOPInstanceUID)
    peer.has(instance(uid), instance("1.9"))
    peer.answers[f"/studies/1.1/series/1.2/instances/{uid}"] = related(encoded(ct))
    found, gone = planned(tmp_path).read(0, 2)
    assert found.image_id == POLICY.pseudonyms.of("SOPInstanceUID", uid)
    assert found.metadata["modality"] == "CT" and found.fault is None and found.name is None
    assert gone.fault is GONE
    assert gone.image_id == POLICY.pseudonyms.of("SOPInstanceUID", "1.9")


def test_a_file_that_is_not_as_the_archive_said_is_rejected(peer: Peer, tmp_path: Path) -> None:
    of_frames = read("emri_small.dcm")
    uid = str(of_frames.SOPInstanceUID)
    peer.has(instance(uid), instance("1.9"), instance("1.10"))
    path = "/studies/1.1/series/1.2/instances"
    peer.answers[f"{path}/{uid}"] = related(encoded(of_frames))
    peer.answers[f"{path}/1.9"] = related(encoded(read("CT_small.dcm")))
    peer.answers[f"{path}/1.10"] = related(b"no DICOM file")
    more, other, broken = planned(tmp_path).read(0, 3)
    assert more.fault is MORE_FRAMES
    assert other.fault is OTHER
    assert isinstance(broken.fault, Unusable)


def test_frames_of_a_file_cost_one_request(peer: Peer, tmp_path: Path) -> None:
    of_frames = read("emri_small.dcm")
    uid = str(of_frames.SOPInstanceUID)
    peer.has(instance(uid, ENHANCED_MR, t00280008=10))
    peer.answers[f"/studies/1.1/series/1.2/instances/{uid}"] = related(encoded(of_frames))
    rows = list(planned(tmp_path).read(0, 10))
    assert [row.frame for row in rows] == list(range(10))
    assert sum(request.url.path.endswith(uid) for request in peer.asked) == 1


# --- manners -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "within", "outside"),
    [("20-06", [20, 23, 0, 5], [6, 12, 19]), ("8-18", [8, 17], [7, 18]), ("0-24", [0, 23], [])],
)
def test_hours_can_go_over_midnight(hours: str, within: list[int], outside: list[int]) -> None:
    assert all(is_open(hours, hour) for hour in within)
    assert not any(is_open(hours, hour) for hour in outside)


def test_requests_keep_their_distance() -> None:
    now, slept = [0.0], []
    manners = Manners(4, 1, None, clock=lambda: now[0], sleep=slept.append)
    for _ in range(3):
        with manners.turn():
            pass
    assert slept == [0.25, 0.5]
    now[0] = 9
    with manners.turn():
        pass
    assert len(slept) == 2


def test_outside_of_its_hours_nothing_is_asked() -> None:
    with pytest.raises(ArchiveClosed), Manners(1, 1, "20-06", hour=lambda: 12).turn():
        pass


# --- who may be asked ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "url", "allowed"),
    [
        ("dicomweb:archive.example", URL, True),
        ("dicomweb:archive.example:8042", URL, True),
        ("dicomweb:*.example", URL, True),
        ("dicomweb:archive.example:8043", URL, False),
        ("dicomweb:other.example", URL, False),
        ("/,hub:*", URL, False),
        ("dicomweb:archive", "http://archive.elsewhere/dicom-web", False),
        ("dicomweb:[[]::1]", "http://[::1]:8042/dicom-web", True),
    ],
)
def test_an_archive_must_be_named(setting: str, url: str, allowed: bool) -> None:
    sources = AllowedSources.of(tuple(setting.split(",")))
    try:
        DicomWebSource(url=url).check(sources)
    except SourceNotAllowed:
        assert not allowed
    else:
        assert allowed


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@archive.example/dicom-web",
        "http://archive.example/dicom-web?a=b",
        "ftp://archive.example",
        "http://archive.example/a b",
    ],
)
def test_a_url_is_an_address_and_nothing_else(url: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        DicomWebSource(url=url)


def test_the_command_line_knows_an_archive() -> None:
    assert archive_of("dicomweb://a:8042/dicom-web") == "http://a:8042/dicom-web"
    assert archive_of("dicomwebs://a/dicom-web") == "https://a/dicom-web"
    assert archive_of("org/name") is None
    wanted = dataset_source(["https://a/dicom-web"], "127.0.0.1")
    assert wanted == {"kind": "dicomweb", "url": "https://a/dicom-web"}
    with pytest.raises(UsageError):
        dataset_source(["https://a/dicom-web", "https://b"], "127.0.0.1")
