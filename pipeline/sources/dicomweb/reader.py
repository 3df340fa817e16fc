"""Reads the rows of an archive's plan: fetches an instance, and describes it."""

import io
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from uuid import uuid4

from pipeline.base.blobs import original_name
from pipeline.base.errors import SourceError
from pipeline.base.identity import frame_digest, sha256
from pipeline.dicom.account import Account
from pipeline.dicom.describing import Described, Policy, describe
from pipeline.dicom.errors import NO_FRAME, Refused
from pipeline.dicom.reading import read_header, refusing
from pipeline.images.decoding import Unusable
from pipeline.sources.base import Row
from pipeline.sources.deidentification import write_part
from pipeline.sources.dicomweb.archive import Archive
from pipeline.sources.folder.catalogue import PAGE, Catalogue, CatalogueRow
from pipeline.sources.folder.tree import Place
from pipeline.sources.metadata import clean

MORE_FRAMES = Unusable("it has more frames than the archive has said")
OTHER = Unusable("the archive gave another instance than was asked for")
NO_IMAGE = Unusable("it is a DICOM file of another kind than an image")

Fetched = tuple[bytes, Described]


class ArchiveReader:
    """Threads can share it."""

    def __init__(self, archive: Archive, catalogue: Catalogue, policy: Policy) -> None:
        self._archive, self._catalogue, self._policy = archive, catalogue, policy
        self._account, self._part, self._counting = Account(), uuid4().hex, threading.Lock()
        self._pages = lru_cache(maxsize=4)(catalogue.page)
        # The frames of an instance are neighbours; more than a few of them may not fit.
        self._fetched = lru_cache(maxsize=2)(self._fetch)

    @property
    def version(self) -> str:
        return self._catalogue.version

    @property
    def skipped(self) -> Mapping[str, int]:
        return self._catalogue.skipped

    def __len__(self) -> int:
        return self._catalogue.rows

    def read(self, start: int, stop: int) -> Iterator[Row]:
        """Raises ArchiveAway, and SourceError."""
        for number in range(start, stop):
            yield self._row(number, self._page(number // PAGE)[number % PAGE])
        with self._counting:
            write_part(self._catalogue.blobs, self._catalogue.job, self._part, self._account)

    def _page(self, number: int) -> list[CatalogueRow]:
        try:
            return self._pages(number)
        except FileNotFoundError:
            raise SourceError(
                "The list of its images is gone. Retry the job, which lists them anew.",
                why="the list of its images is gone",
            ) from None

    def _row(self, number: int, row: CatalogueRow) -> Row:
        frame, image_id = row.frame or 0, self._id_of(row)
        found = self._fetched(row.place)
        if isinstance(found, Unusable):
            return Row(number, image_id, b"", {}, fault=found)
        data, described = found
        fault = _fault(described, row)
        if fault is not None:
            return Row(number, image_id, b"", {}, fault=fault)
        digest = sha256(data)
        return Row(
            number,
            image_id,
            data,
            clean(described.said_of(frame)),
            sha256=frame_digest(digest, frame),
            frame=frame,
            hold=described.hold,
            former=described.former_of(frame),
            original=original_name(digest) if self._policy.keep else None,
        )

    def _id_of(self, row: CatalogueRow) -> str:
        _, _, uid, frames = row.place
        own = self._policy.pseudonyms.of("SOPInstanceUID", uid)
        return own if frames == "1" else f"{own}#{(row.frame or 0) + 1}"

    def _fetch(self, place: Place) -> Fetched | Unusable:
        study, series, uid, _ = place
        data = self._archive.instance(study, series, uid)
        if isinstance(data, Unusable):
            return data
        try:
            header = read_header(io.BytesIO(data))
            with self._counting, refusing():
                described = describe(header, replace(self._policy, account=self._account))
        except Refused as refused:
            self._account.refused += 1
            return Unusable(refused.reason)
        other = described.image_id != self._policy.pseudonyms.of("SOPInstanceUID", uid)
        return OTHER if other and described.skip is None else (data, described)


def _fault(described: Described, row: CatalogueRow) -> Unusable | None:
    """Why a row is rejected whose plan, made of what the archive said, does not hold."""
    planned = int(row.place[3])
    if described.skip is not None:
        return NO_IMAGE
    if described.of > planned:
        return MORE_FRAMES
    return Unusable(NO_FRAME) if described.of < planned else None
