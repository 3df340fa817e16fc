"""What lies in the blobs, is of patients, and would not be found by anybody else.

That is what processes that were killed left behind, and what uploads say of images that are deleted
now: of one that was uploaded twice, or rejected, the store does not know where else it is named.
"""

from dataclasses import dataclass

from pipeline.base.blobs import PARTS, Blobs, manifest_of
from pipeline.base.settings import Settings
from pipeline.lifecycle.deletion import Deletions, tombstone_keys
from pipeline.messages import UploadedFile, UploadManifest
from pipeline.sources.metadata import clean
from pipeline.sources.upload import upload_key

SWEEP_SECONDS = 3600.0  # between two turns

# In seconds. More than any file takes to be written, and any upload to be received.
_PART_AGE, _UPLOAD_AGE = 3600.0, 86_400.0


@dataclass(frozen=True)
class Sweep:
    """Several at once do no harm."""

    blobs: Blobs
    settings: Settings
    deletions: Deletions

    def __call__(self) -> None:
        self._half_written()
        self._asks()
        self._uploads()

    def _half_written(self) -> None:
        for part in self.blobs.names(PARTS):
            self._delete_if_older(part, part, _PART_AGE)

    def _asks(self) -> None:
        """Searches, and pictures sent along, that the ledger never knew or knows no more."""
        forgotten = 2 * (self.settings.search_ttl + self.settings.result_ttl)
        for ask in self.blobs.names("asks"):
            for blob in self.blobs.names(ask):
                self._delete_if_older(ask, blob, forgotten)

    def _uploads(self) -> None:
        for upload in self.blobs.names("uploads"):
            try:
                manifest = UploadManifest.model_validate_json(self.blobs.read(manifest_of(upload)))
            except FileNotFoundError:  # it comes last: this upload was not received to its end
                for blob in self.blobs.names(upload):
                    self._delete_if_older(blob, blob, _UPLOAD_AGE)
            else:
                self._forget_deleted(upload, manifest)

    def _forget_deleted(self, upload: str, manifest: UploadManifest) -> None:
        """The list is kept, for a retry, but of what has a tombstone it gives the id alone."""
        marks = [tombstone_keys(upload_key(f), clean(dict(f.metadata))) for f in manifest.files]
        buried = self.deletions.are_deleted(marks)
        for file, deleted in zip(manifest.files, buried, strict=True):
            if deleted:
                self.blobs.delete(file.blob)
        left = UploadManifest(
            files=tuple(
                _forgotten(file) if deleted else file
                for file, deleted in zip(manifest.files, buried, strict=True)
            )
        )
        if left != manifest:
            self.blobs.write(manifest_of(upload), left.model_dump_json().encode())

    def _delete_if_older(self, what: str, blob: str, seconds: float) -> None:
        age = self.blobs.age(blob)
        if age is not None and age > seconds:
            self.blobs.delete(what)


def _forgotten(file: UploadedFile) -> UploadedFile:
    return file.model_copy(update={"metadata": {"image_id": upload_key(file)}})
