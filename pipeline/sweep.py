"""What processes that were killed left lying: nobody else would find it, and it is of patients."""

from dataclasses import dataclass

from pipeline.blobs import PARTS, Blobs, manifest_of
from pipeline.settings import Settings

SWEEP_SECONDS = 3600.0  # between two turns

# In seconds. More than any file takes to be written, and any upload to be received.
_PART_AGE, _UPLOAD_AGE = 3600.0, 86_400.0


@dataclass(frozen=True)
class Sweep:
    """Several at once do no harm."""

    blobs: Blobs
    settings: Settings

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
        """Those that were not received to their end: their list, which comes last, is missing."""
        for upload in self.blobs.names("uploads"):
            if not self.blobs.exists(manifest_of(upload)):
                for blob in self.blobs.names(upload):
                    self._delete_if_older(blob, blob, _UPLOAD_AGE)

    def _delete_if_older(self, what: str, blob: str, seconds: float) -> None:
        age = self.blobs.age(blob)
        if age is not None and age > seconds:
            self.blobs.delete(what)
