"""The kind of source `dicomweb`: an archive, and which of its images.

Nothing here names a patient, since it lies in the ledger; credentials are the workers' own.
"""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from pipeline.base.errors import SourceError
from pipeline.dicom.describing import Policy
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.base import Opening, Source, SourceKind
from pipeline.sources.dicomweb.archive import Archive
from pipeline.sources.dicomweb.manners import HOURS, Manners
from pipeline.sources.dicomweb.planning import images
from pipeline.sources.dicomweb.reader import ArchiveReader
from pipeline.sources.folder.catalogue import Catalogue

Modality = Annotated[str, Field(pattern=r"^[A-Z0-9]{1,16}$")]


class DicomWebSource(Source):
    """The images of an archive that speaks DICOMweb, if KINDRED_SOURCES allows it."""

    kind: Literal["dicomweb"] = "dicomweb"
    url: str = Field(
        max_length=1000,
        pattern=r"^https?://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~/\-]*)?$",
        description="Where its DICOMweb is, as in https://archive.example/dicom-web",
    )
    modality: tuple[Modality, ...] = Field((), max_length=20, description="Only these")
    date: str | None = Field(
        None,
        pattern=r"^(\d{8}(-(\d{8})?)?|-\d{8})$",
        description="Dates of the studies, as 20250101, 20250101- or 20250101-20250630",
    )
    limit: int | None = Field(None, ge=1, description="Only the first N rows")
    rate: float = Field(10, gt=0, le=1000, description="Requests a second, of each worker")
    concurrency: int = Field(2, ge=1, le=32, description="Requests at once, of each worker")
    hours: str | None = Field(
        None, pattern=HOURS, description="Only within these hours of the workers' clock, as 20-06"
    )

    def check(self, allowed: AllowedSources) -> None:
        allowed.check_archive(urlsplit(self.url).netloc)


def _archive(source: DicomWebSource, opening: Opening) -> Archive:
    source.check(opening.allowed)
    manners = Manners(source.rate, source.concurrency, source.hours)
    return Archive(source.url, opening.archives, manners)


def _policy(opening: Opening) -> Policy:
    assert opening.dicom is not None  # noqa: S101 - a worker always has one
    return opening.dicom


def _plan(source: DicomWebSource, opening: Opening) -> ArchiveReader:
    archive, policy = _archive(source, opening), _policy(opening)
    found = images(archive, source.modality, source.date, policy.frames)
    catalogue = Catalogue.write(opening.blobs, opening.job, found, source.limit)
    if not catalogue.rows and not catalogue.skipped:
        raise SourceError("The archive has nothing that fits.", why="nothing in it fits")
    return ArchiveReader(archive, catalogue, policy)


def _open(source: DicomWebSource, opening: Opening) -> ArchiveReader:
    catalogue = Catalogue.read(opening.blobs, opening.job)
    if catalogue is None:
        return _plan(source, opening)
    return ArchiveReader(_archive(source, opening), catalogue, _policy(opening))


DICOMWEB = SourceKind(DicomWebSource, _open, plan=_plan)
