"""An archive without DICOMweb: what it has (C-FIND), and have it sent to us (C-MOVE).

Study root query and retrieve, at the levels of study and series (PS3.4 C.6.2).
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.association import Association

_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"

# Statuses (PS3.4 C.4.1.1.4 and C.4.2.1.5).
_PENDING = (0xFF00, 0xFF01)
_TOO_MANY = (0xA700, 0xA701)
_UNKNOWN_DESTINATION = 0xA801
_SOME_FAILED = 0xB000

_ADD = (
    "add a peer with this AE title there, with the address of the host on which `kindred dicom` "
    "runs, and its port"
)

SECONDS = 60.0  # that an archive may take for its next answer; a tape is not waited for


class ArchiveError(Exception):
    """Its text says what to do. It names no patient and no study."""


@dataclass(frozen=True)
class Series:
    """`study` and `uid` are UIDs. `count`: its objects; None if the archive does not say."""

    study: str
    uid: str
    modality: str
    count: int | None


@dataclass(frozen=True)
class Moved:
    completed: int
    failed: int


@dataclass(frozen=True)
class Archive:
    """`title` is the archive's AE title, `own` ours, at which it must be able to reach `port`."""

    title: str
    host: str
    port: int
    own: str
    tls: ssl.SSLContext | None = None

    def studies(self, first: date, last: date, modalities: tuple[str, ...]) -> Iterator[str]:
        """UIDs of studies from these days. A month at a time, and less if that is too much."""
        start = first
        while start <= last:
            end = min(last, start + timedelta(days=30))
            yield from self._studies(start, end, modalities)
            start = end + timedelta(days=1)

    def _studies(self, first: date, last: date, modalities: tuple[str, ...]) -> Iterator[str]:
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        query.StudyInstanceUID = ""
        query.StudyDate = f"{first:%Y%m%d}-{last:%Y%m%d}"
        found: dict[str, None] = {}
        for modality in modalities or ("",):
            query.ModalitiesInStudy = modality
            answers = self._find(query)
            if answers is None:
                if first == last:
                    raise ArchiveError("The archive refuses to list one day: it is too much for it")
                middle = first + (last - first) // 2
                yield from self._studies(first, middle, modalities)
                yield from self._studies(middle + timedelta(days=1), last, modalities)
                return
            found |= dict.fromkeys(str(each.get("StudyInstanceUID") or "") for each in answers)
        yield from filter(None, found)

    def series(self, study: str) -> list[Series]:
        query = Dataset()
        query.QueryRetrieveLevel = "SERIES"
        query.StudyInstanceUID = study
        query.SeriesInstanceUID = ""
        query.Modality = ""
        query.NumberOfSeriesRelatedInstances = ""
        answers = self._find(query) or []
        return [
            Series(
                study, str(each.SeriesInstanceUID), str(each.get("Modality") or ""), _count(each)
            )
            for each in answers
            if each.get("SeriesInstanceUID")
        ]

    def move(self, series: Series) -> Moved:
        """Has a series sent to our own AE, and waits until it has been. Raises ArchiveError."""
        query = Dataset()
        query.QueryRetrieveLevel = "SERIES"
        query.StudyInstanceUID = series.study
        query.SeriesInstanceUID = series.uid
        last = Dataset()
        with self._association(_MOVE) as association:
            for status, _ in association.send_c_move(query, self.own, _MOVE):
                last = status
        code = last.get("Status")
        if code is None:
            raise ArchiveError("The archive ended the connection, or did not answer in time")
        if code == _UNKNOWN_DESTINATION:
            raise ArchiveError(f"The archive does not know {self.own} as a destination: {_ADD}")
        completed = int(last.get("NumberOfCompletedSuboperations") or 0)
        failed = int(last.get("NumberOfFailedSuboperations") or 0)
        if code not in (0x0000, _SOME_FAILED) and not completed + failed:
            raise ArchiveError(
                f"The archive does not send (status 0x{code:04X}). If it does not know {self.own} "
                f"as a destination, {_ADD}"  # Orthanc says 0xC000 then
            )
        warned = int(last.get("NumberOfWarningSuboperations") or 0)
        return Moved(completed + warned, failed)

    def _find(self, query: Dataset) -> list[Dataset] | None:
        """None if the archive has more than it wants to list."""
        found: list[Dataset] = []
        code: int | None = None
        with self._association(_FIND) as association:
            for status, answer in association.send_c_find(query, _FIND):
                code = status.get("Status")
                if code in _PENDING and answer is not None:
                    found.append(answer)
        if code in _TOO_MANY:
            return None
        if code is None:
            raise ArchiveError("The archive ended the connection, or did not answer in time")
        if code != 0x0000:
            raise ArchiveError(f"The archive refuses the query (status 0x{code:04X})")
        return found

    @contextmanager
    def _association(self, context: str) -> Iterator[Association]:
        ae = AE(self.own)
        ae.add_requested_context(context)
        ae.connection_timeout = ae.acse_timeout = SECONDS
        ae.dimse_timeout = ae.network_timeout = SECONDS
        secured: dict[str, Any] = {"tls_args": (self.tls, self.host)} if self.tls else {}
        association = ae.associate(self.host, self.port, ae_title=self.title, **secured)
        if not association.is_established:
            raise ArchiveError(self._why(association))
        try:
            yield association
        finally:
            association.release()

    def _why(self, association: Association) -> str:
        answer = association.acceptor.primitive
        if not association.is_rejected or answer is None:
            return f"There is no answer from {self.host}:{self.port}, or it does not offer this"
        if answer.result_source == 1 and answer.diagnostic == 3:
            return f"The archive does not know {self.own}: add this AE title to its peers"
        if answer.result_source == 1 and answer.diagnostic == 7:
            return f"At {self.host}:{self.port} nobody is called {self.title}"
        return "The archive rejects the association for now; try again later"


def _count(answer: Dataset) -> int | None:
    try:
        return int(answer.NumberOfSeriesRelatedInstances)
    except (AttributeError, TypeError, ValueError):
        return None
