"""What uploads say of images that were deleted: their lists, and the files that nobody needs.

If an image was uploaded twice, or rejected, the store does not know the other uploads that name it.
So the ledger keeps digests of what each list mentions. A deletion reads the lists that mention what
it has deleted and those of jobs that are not put away yet, and no other, however many there are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.base.blobs import Blobs, manifest_of, upload_folder
from pipeline.base.identity import point_id
from pipeline.ledger import Ledger
from pipeline.lifecycle.deletion import Deletions
from pipeline.lifecycle.tombstone_keys import tombstone_keys
from pipeline.messages import RESERVED, UploadedFile, UploadManifest
from pipeline.messages.base import read
from pipeline.sources.metadata import clean
from pipeline.sources.upload import uploaded_image_id

# In seconds: longer than receiving any upload.
_UPLOAD_AGE = 86_400.0
_PAGE = 500


@dataclass(frozen=True)
class Uploads:
    """Every method raises LedgerUnavailable or BlobsUnavailable, and is safe to repeat."""

    blobs: Blobs
    deletions: Deletions
    ledger: Ledger
    _seen: set[str] = field(default_factory=set, init=False)

    def forget_deleted(self) -> None:
        """Deletes the files of deleted images, and their metadata from the lists."""
        running = [upload_folder(job) for job in self.ledger.jobs.unfinished()]
        for upload in self.ledger.uploads.unknown(running):
            self.add(upload)
        fresh = self.ledger.uploads.fresh_tombstones()
        if fresh:
            for upload in self.ledger.uploads.mentioning(fresh):
                self.add(upload)
            self.ledger.uploads.compared(fresh)

    def add(self, upload: str) -> bool:
        """Compares its list with all tombstones, and remembers what it mentions.

        Whether it has one. The list comes last: without it, an upload is incomplete.
        """
        manifest = self._manifest(upload)
        if manifest is None:
            return False
        if manifest.files:  # else its job is forgotten
            keys = [_keys_of(file) for file in manifest.files]
            flat = [key for each in keys for key in each]
            self.ledger.uploads.add(upload, flat, compared=False)
            self._forget_deleted(upload, manifest, keys)
            self.ledger.uploads.add(upload, flat, compared=True)
        return True

    def find_others(self) -> None:
        """Adds uploads that came in another way, as before this was remembered or by a restore, and
        deletes incomplete ones, and those of which no job came about because Redis was away. A
        process reads each list once, if at all."""
        found = self.blobs.names("uploads")
        self._seen.intersection_update(found)
        others = [upload for upload in found if upload not in self._seen]
        unknown = set(self.ledger.uploads.unknown(others))
        jobs = {upload.rpartition("/")[2]: upload for upload in others}
        without_job = {jobs[job] for job in self.ledger.jobs.unknown([*jobs])}
        for upload in others:
            age = self.blobs.age(manifest_of(upload)) if upload in without_job else None
            if age is not None and age > _UPLOAD_AGE:
                self._forget_left_over(upload)
            if upload not in unknown or self.add(upload):
                if age is None or age > _UPLOAD_AGE:  # else its job can still come
                    self._seen.add(upload)
                continue
            for blob in self.blobs.names(upload):
                age = self.blobs.age(blob)
                if age is not None and age > _UPLOAD_AGE:
                    self.blobs.delete(blob)

    def _forget_left_over(self, upload: str) -> None:
        """Unless it is one of a forgotten job already."""
        manifest = self._manifest(upload)
        if manifest is not None and manifest.files:
            self.forget(upload)

    def forget(self, upload: str) -> None:
        """Its job is forgotten: only the files from which indexed images are made stay.

        Raises StoreUnavailable.
        """
        manifest = self._manifest(upload)
        if manifest is not None:
            needed = [self._needed(page) for page in _pages(manifest.files)]
            if any(needed):  # an empty list says that the files are no incomplete upload
                self.blobs.write(manifest_of(upload), b'{"files": []}')
            else:
                self.blobs.delete(upload)
        self.ledger.uploads.remove(upload)

    def _needed(self, files: Sequence[UploadedFile]) -> bool:
        """Deletes those of the files that no indexed image names. Whether one is left."""
        points = {f.blob: point_id(uploaded_image_id(f) or "") for f in files if f.blob is not None}
        stored = self.deletions.store.retrieve([*points.values()]) if points else {}
        named = {record.payload.get(RESERVED, {}).get("blob") for record in stored.values()}
        for blob in points.keys() - named:
            self.blobs.delete(blob)
        return not named.isdisjoint(points)

    def _forget_deleted(
        self, upload: str, manifest: UploadManifest, keys: Sequence[Sequence[str]]
    ) -> None:
        """Reduces each file of a deleted image to its image id. The rest stays, for a retry."""
        pairs = list(zip(manifest.files, self.deletions.are_deleted(keys), strict=True))
        for file, was_deleted in pairs:
            if was_deleted and file.blob is not None:
                self.blobs.delete(file.blob)
        files = tuple(_forgotten(f) if was_deleted else f for f, was_deleted in pairs)
        left = manifest.model_copy(update={"files": files})
        if left != manifest:
            self.blobs.write(manifest_of(upload), left.model_dump_json().encode())

    def _manifest(self, upload: str) -> UploadManifest | None:
        try:
            return read(UploadManifest, self.blobs.read(manifest_of(upload)))
        except FileNotFoundError:
            return None


def _keys_of(file: UploadedFile) -> list[str]:
    keys = tombstone_keys(uploaded_image_id(file) or "", clean(dict(file.metadata)))
    former = (tombstone_keys(each["image_id"], each) for each in file.former)
    return [*keys, *(key for each in former for key in each)]


def _forgotten(file: UploadedFile) -> UploadedFile:
    left = {"metadata": {"image_id": uploaded_image_id(file)}, "name": None}
    return file.model_copy(update=left)


def _pages(files: Sequence[UploadedFile]) -> Iterator[Sequence[UploadedFile]]:
    return (files[start : start + _PAGE] for start in range(0, len(files), _PAGE))
