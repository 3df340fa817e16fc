"""Reads the files of an upload, which the api has stored as blobs."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Literal

from pipeline.base.blobs import Blobs
from pipeline.base.identity import ID_COLUMNS
from pipeline.base.sealing import unseal
from pipeline.images.decoding import Unusable
from pipeline.messages import UploadedFile, UploadManifest
from pipeline.sources.base import Opening, Row, Source, SourceKind, own_id
from pipeline.sources.metadata import clean


class UploadSource(Source):
    """`manifest` is the blob that lists the files."""

    kind: Literal["upload"] = "upload"
    manifest: str


class UploadReader:
    version = ""  # an upload does not change

    def __init__(self, source: UploadSource, blobs: Blobs, keys: Sequence[bytes] = ()) -> None:
        """`keys` open DICOM files, which are sealed until their job has ended."""
        self._blobs, self._keys = blobs, keys
        manifest = UploadManifest.model_validate_json(blobs.read(source.manifest))
        self._files = manifest.files
        self.skipped = Counter(file.kind for file in manifest.skipped)

    def __len__(self) -> int:
        return len(self._files)

    def read(self, start: int, stop: int) -> Iterator[Row]:
        for number in range(start, stop):
            yield self._row(number, self._files[number])

    def _row(self, number: int, file: UploadedFile) -> Row:
        image_id, fault = _id_of(file)
        metadata = clean(dict(file.metadata))
        name = PurePosixPath(file.name).name if file.name else None
        if file.fault is not None:
            fault = Unusable(file.fault)
        if fault is not None:
            image_id = image_id or file.sha256 or f"#{number}"
        data = self._data(file.blob) if file.blob else b""
        if file.frame is None:
            return Row(number, image_id, data, metadata, file.blob, fault, file.sha256, name)
        # No image keeps the file that it was made from: it goes with the end of the job.
        return Row(
            number,
            image_id,
            data,
            metadata,
            fault=fault,
            sha256=file.sha256,
            frame=file.frame,
            hold=file.hold,
            former=file.former,
            original=file.original,
        )

    def _data(self, blob: str) -> bytes:
        try:
            return unseal(self._blobs.read(blob), self._keys)
        except FileNotFoundError:  # the image was deleted or unchanged, and the job runs again
            return b""


def _id_of(file: UploadedFile) -> tuple[str | None, Unusable | None]:
    return own_id(file.metadata.get(column) for column in ID_COLUMNS)


def uploaded_image_id(file: UploadedFile) -> str | None:
    """The id that the file's image has, or would have if it were ingested; None if it has none."""
    return _id_of(file)[0] or file.sha256


def forget_files(blobs: Blobs, source: UploadSource) -> None:
    """Deletes the files, and keeps of them their names and faults. Safe to repeat."""
    try:
        manifest = UploadManifest.model_validate_json(blobs.read(source.manifest))
    except FileNotFoundError:  # as on a machine that was restored without it
        return
    for file in manifest.files:
        if file.blob is not None:
            blobs.delete(file.blob)
    names = tuple(
        UploadedFile(name=file.name, place=file.place, fault=file.fault) for file in manifest.files
    )
    left = manifest.model_copy(update={"files": names})
    blobs.write(source.manifest, left.model_dump_json(exclude_none=True).encode())


def _open(source: UploadSource, opening: Opening) -> UploadReader:
    keys = opening.dicom.pseudonyms.keys if opening.dicom is not None else ()
    return UploadReader(source, opening.blobs, keys)


UPLOAD = SourceKind(UploadSource, _open, public=False)
