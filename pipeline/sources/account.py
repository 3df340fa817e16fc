"""The names behind a job's totals: of the rows that it rejected, and of the files that it skipped.

They are in the blobs, not in the ledger, because a file's name can be a patient's.
"""

from collections.abc import Sequence
from itertools import islice

from pipeline.base.blobs import Blobs
from pipeline.messages import SkippedFile, UploadManifest
from pipeline.sources.base import Source
from pipeline.sources.dataset import DatasetSource
from pipeline.sources.folder.catalogue import Catalogue
from pipeline.sources.upload import UploadSource


def names_of_rows(blobs: Blobs, job: str, source: Source, rows: Sequence[int]) -> dict[int, str]:
    """Row → the path of its file, or its place in a data set; without rows whose name is gone."""
    if isinstance(source, UploadSource):
        files = dict(enumerate(_manifest(blobs, source).files))
        named = {row: files[row].place or files[row].name for row in rows if row in files}
        return {row: name for row, name in named.items() if name is not None}
    catalogue = Catalogue.read(blobs, job)
    if catalogue is not None and not catalogue.tabular:  # rows of an archive have no names
        return {row: name for row, name in catalogue.names(rows).items() if name}
    if isinstance(source, DatasetSource):
        return {row: f"{source.dataset}, row {row}" for row in rows}
    return {}


def files_of_rows(blobs: Blobs, job: str, source: Source, rows: Sequence[int]) -> dict[int, int]:
    """Row → the place of its file among those that were sent, or asked for, if they were."""
    if isinstance(source, UploadSource):
        files = dict(enumerate(_manifest(blobs, source).files))
        placed = {row: files[row].number for row in rows if row in files}
        return {row: number for row, number in placed.items() if number is not None}
    catalogue = Catalogue.read(blobs, job)
    return catalogue.files(rows) if catalogue else {}


def skipped_files(
    blobs: Blobs, job: str, source: Source, start: int, limit: int
) -> tuple[list[SkippedFile], int | None]:
    """A page of them, and where the next one starts."""
    if isinstance(source, UploadSource):
        found = list(islice(_manifest(blobs, source).skipped, start, start + limit + 1))
    else:
        catalogue = Catalogue.read(blobs, job)
        names = catalogue.skipped_names(start, start + limit + 1) if catalogue else ()
        found = [SkippedFile(name=name, kind=kind) for name, kind in names]
    return found[:limit], start + limit if len(found) > limit else None


def _manifest(blobs: Blobs, source: UploadSource) -> UploadManifest:
    try:
        return UploadManifest.model_validate_json(blobs.read(source.manifest))
    except FileNotFoundError:
        return UploadManifest(files=())
