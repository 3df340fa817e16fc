"""A DICOMweb archive as its client sees it: QIDO-RS and WADO-RS (PS3.18 10.6, 10.4).

Addresses hold UIDs, so none of them is in a message. What goes wrong is one of three: the archive
is away, and the job waits; it refuses us, and the job fails; or it lacks the one instance.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from pipeline.base.addresses import is_loopback
from pipeline.base.errors import ArchiveAway, SourceError
from pipeline.base.related import MediaType, NotInParts, Part, Parts
from pipeline.images.decoding import Unusable
from pipeline.sources.archives import Archives
from pipeline.sources.dicomweb.manners import Manners
from pipeline.sources.local import MAX_FILE

for _name in ("httpx", "httpcore"):  # they log addresses
    logging.getLogger(_name).setLevel(logging.WARNING)

PAGE = 500  # results of one query
_TIMEOUT = httpx.Timeout(120, connect=5)
_AWAY = frozenset({408, 425, 429, 502, 503, 504})
_TRIES = 2  # a connection that was kept can have been closed by the other side

_DICOM = "application/dicom"
_ONE = {"Accept": f'multipart/related; type="{_DICOM}"; transfer-syntax=*'}
_JSON = {"Accept": "application/dicom+json"}

GONE = Unusable("the archive does not have it any more")
NOT_GIVEN = Unusable("the archive cannot give it: it answers with an error of its own")
TOO_LARGE = Unusable(f"it is larger than {MAX_FILE // 1_000_000:,} MB")
NOT_ONE = Unusable("the archive's answer has no DICOM file")


class Archive:
    """Threads share it."""

    def __init__(self, url: str, known: Archives, manners: Manners) -> None:
        self._manners = manners
        self._http = httpx.Client(
            base_url=url.rstrip("/"),
            headers=known.headers_for(url),
            timeout=_TIMEOUT,
            verify=known.trust() if url.startswith("https:") else True,
            trust_env=not is_loopback(urlsplit(url).hostname or ""),
        )

    def search(self, path: tuple[str, ...], **conditions: str) -> Iterator[dict[str, Any]]:
        """All that fits, page by page. Raises ArchiveAway and SourceError."""
        seen: set[str] = set()
        while True:
            page = self._page(path, {**conditions, "limit": PAGE, "offset": len(seen)})
            new = [each for each in page if (found := _key(each)) and found not in seen]
            yield from new
            seen |= {_key(each) for each in new}
            if not new:  # an archive may give fewer than asked for, or ignore the offset
                return

    def instance(self, study: str, series: str, uid: str) -> bytes | Unusable:
        """A DICOM file (PS3.10), as it is stored. Raises ArchiveAway and SourceError."""
        path = ("studies", study, "series", series, "instances", uid)
        answer = self._get(_joined(path), {}, _ONE)
        if isinstance(answer, _Refusal):
            return self._why_not(answer)
        return _file_in(answer.parts)

    def metadata(self, study: str, series: str, uid: str) -> dict[str, Any]:
        """Of one instance, in the DICOM JSON model; empty if it has none."""
        found = self._page(("studies", study, "series", series, "instances", uid, "metadata"), {})
        return found[0] if found else {}

    def close(self) -> None:
        self._http.close()

    def _page(self, path: tuple[str, ...], conditions: Mapping[str, Any]) -> list[dict[str, Any]]:
        answer = self._get(_joined(path), conditions, _JSON)
        if isinstance(answer, _Refusal):
            raise SourceError(
                f"The archive answers {answer.status} where DICOMweb should list its images: look "
                "at the address.",
                why=f"the archive answers {answer.status} to a query",
            )
        if answer.status == 204:
            return []
        return answer.documents()

    def _why_not(self, refusal: "_Refusal") -> Unusable:
        """An error about one instance, if the archive answers other questions."""
        if refusal.status in (404, 410):
            return GONE
        try:
            self._page(("studies",), {"limit": 1})
        except SourceError:
            raise ArchiveAway(f"It answers {refusal.status}.") from None
        return NOT_GIVEN

    def _get(
        self, path: str, conditions: Mapping[str, Any], headers: Mapping[str, str]
    ) -> "_Answer | _Refusal":
        for left in reversed(range(_TRIES)):
            try:
                with self._manners.turn():
                    return self._asked(path, conditions, headers)
            except httpx.TransportError as error:
                if not left:
                    raise ArchiveAway(_why(error)) from None
        raise AssertionError  # the last try has raised

    def _asked(
        self, path: str, conditions: Mapping[str, Any], headers: Mapping[str, str]
    ) -> "_Answer | _Refusal":
        with self._http.stream("GET", path, params=conditions, headers=headers) as answer:
            status = answer.status_code
            if status in (401, 403):
                raise SourceError(
                    f"The archive answers {status}: it does not let the workers in. Name its user "
                    "and password in KINDRED_DICOMWEB_AUTH.",
                    why=f"the archive answers {status}",
                )
            if status in _AWAY:
                raise ArchiveAway(f"It answers {status}.")
            if not answer.is_success:
                return _Refusal(status)
            return _Answer.read(answer)


@dataclass(frozen=True)
class _Refusal:
    status: int


@dataclass(frozen=True)
class _Answer:
    """Read to its end. A part that is too large has no data."""

    status: int
    parts: list[Part]

    @classmethod
    def read(cls, answer: httpx.Response) -> "_Answer":
        kind = MediaType.of(answer.headers.get("Content-Type", ""))
        if kind.name == "multipart/related":
            return cls(answer.status_code, _parts(answer, kind.parameters.get("boundary", "")))
        data: bytearray | None = bytearray()
        for chunk in answer.iter_bytes():
            data = None if data is None or len(data) + len(chunk) > MAX_FILE else data + chunk
        return cls(answer.status_code, [Part(kind.name, None if data is None else bytes(data))])

    def documents(self) -> list[dict[str, Any]]:
        """Raises SourceError if this is no list of the DICOM JSON model."""
        try:
            found = json.loads(self.parts[0].data or b"")
        except (ValueError, IndexError, RecursionError):
            found = None
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise SourceError(
                "What answers at this address is no DICOMweb archive.",
                why="its answer is no DICOM JSON",
            )
        return found


def _parts(answer: httpx.Response, boundary: str) -> list[Part]:
    try:
        reading = Parts(boundary, MAX_FILE)
        found = [part for chunk in answer.iter_bytes() for part in reading.feed(chunk)]
        reading.close()
    except NotInParts:
        return []
    return found


def _file_in(parts: list[Part]) -> bytes | Unusable:
    for part in parts:
        if part.kind in (_DICOM, ""):
            return TOO_LARGE if part.data is None else part.data
    return NOT_ONE


def text_of(found: Mapping[str, Any], tag: str) -> str:
    """The first value of an element of the DICOM JSON model (PS3.18 F.2); "" without one."""
    values = found.get(tag, {}).get("Value") or [""]
    return str(values[0]) if isinstance(values[0], str | int | float) else ""


def _key(found: Mapping[str, Any]) -> str:
    """The UID of what a query has found: of the instance, of the series, or of the study."""
    return next((t for tag in _UIDS if (t := text_of(found, tag))), "")


_UIDS = ("00080018", "0020000E", "0020000D")


def _joined(path: tuple[str, ...]) -> str:
    return "/" + "/".join(quote(part, safe="") for part in path)


def _why(error: httpx.TransportError) -> str:
    """httpx's own words can hold an address."""
    if isinstance(error, httpx.TimeoutException):
        return "It does not answer in time."
    return "No connection to it can be made, or it broke."
