"""Deletes patients' data from the blobs that nothing else would find.

Killed processes leave files behind. Uploads still describe images that were deleted since: if an
image was uploaded twice, or rejected, the store does not know the other uploads that name it.
"""

import time
from dataclasses import dataclass, field

from pipeline.base.blobs import PARTS, Blobs, manifest_of
from pipeline.lifecycle.deletion import Deletions
from pipeline.lifecycle.tombstone_keys import tombstone_keys
from pipeline.messages import UploadedFile, UploadManifest
from pipeline.sources.metadata import clean
from pipeline.sources.upload import uploaded_image_id

SWEEP_SECONDS = 3600.0  # between two sweeps

# A purge rewrites the store's files: minutes and a new index where it is large, so once a day.
_LARGE, _LARGE_SECONDS = 200_000, 86_400.0

# In seconds: longer than writing any file takes, and longer than receiving any upload.
_PART_AGE, _UPLOAD_AGE = 3600.0, 86_400.0


@dataclass(frozen=True)
class Sweep:
    """Several sweeps at once do no harm.

    `forgotten`: seconds after which the ledger has forgotten any request.
    """

    blobs: Blobs
    deletions: Deletions
    forgotten: float
    _purged: list[float] = field(default_factory=lambda: [-_LARGE_SECONDS], init=False)

    def __call__(self) -> None:
        self._half_written()
        self._requests()
        self.forget_deleted_uploads()
        self._purge()

    def forget_deleted_uploads(self) -> None:
        """Deletes the files of deleted images, and their metadata from the uploads' manifests."""
        for upload in self.blobs.names("uploads"):
            try:
                body = self.blobs.read(manifest_of(upload))
            except FileNotFoundError:  # the manifest comes last: this upload is incomplete
                for blob in self.blobs.names(upload):
                    self._delete_if_older(blob, blob, _UPLOAD_AGE)
            else:
                self._forget_deleted(upload, UploadManifest.model_validate_json(body))

    def _purge(self) -> None:
        store, now = self.deletions.store, time.monotonic()
        if store.purge_due and (store.count() < _LARGE or now - self._purged[0] > _LARGE_SECONDS):
            self._purged[0] = now
            store.purge()

    def _half_written(self) -> None:
        for part in self.blobs.names(PARTS):
            self._delete_if_older(part, part, _PART_AGE)

    def _requests(self) -> None:
        """Deletes searches, with their pictures, that the ledger has forgotten or never knew."""
        for request in self.blobs.names("requests"):
            for blob in self.blobs.names(request):
                self._delete_if_older(request, blob, 2 * self.forgotten)

    def _forget_deleted(self, upload: str, manifest: UploadManifest) -> None:
        """Reduces each file of a deleted image to its image id. The rest stays, for a retry."""
        keys = [
            tombstone_keys(uploaded_image_id(f) or "", clean(dict(f.metadata)))
            for f in manifest.files
        ]
        deleted = self.deletions.are_deleted(keys)
        pairs = list(zip(manifest.files, deleted, strict=True))
        for file, was_deleted in pairs:
            if was_deleted and file.blob is not None:
                self.blobs.delete(file.blob)
        files = tuple(_forgotten(f) if was_deleted else f for f, was_deleted in pairs)
        left = manifest.model_copy(update={"files": files})
        if left != manifest:
            self.blobs.write(manifest_of(upload), left.model_dump_json().encode())

    def _delete_if_older(self, path: str, blob: str, seconds: float) -> None:
        """Deletes `path`, a blob or a folder of blobs, if `blob` is old enough."""
        age = self.blobs.age(blob)
        if age is not None and age > seconds:
            self.blobs.delete(path)


def _forgotten(file: UploadedFile) -> UploadedFile:
    left = {"metadata": {"image_id": uploaded_image_id(file)}, "name": None}
    return file.model_copy(update=left)
