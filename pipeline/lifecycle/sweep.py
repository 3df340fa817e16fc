"""Deletes what nothing else would find: leftovers of killed processes, and jobs of long ago.

Both can contain patients' data. One worker of a collection sweeps, once in `SWEEP_SECONDS`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

from pipeline.base.blobs import (
    PARTS,
    Blobs,
    deletion_folder,
    dicom_folder,
    evaluation_folder,
    incoming_folder,
    job_folder,
    label_audit_folder,
    upload_folder,
)
from pipeline.ledger import JobRecord, Ledger
from pipeline.lifecycle.audit_reports import LabelAudits
from pipeline.lifecycle.deletion import Deletions
from pipeline.lifecycle.uploads import Uploads

SWEEP_SECONDS = 3600.0  # between two sweeps
# Between two tries of a worker to sweep. Whoever comes first after the hour does it, so a worker
# that is killed meanwhile delays the next sweep by no more than that.
TURN_SECONDS = 300.0

# A purge rewrites the store's files: minutes and a new index where it is large, so once a day.
_LARGE, _LARGE_SECONDS = 200_000, 86_400.0

_PART_AGE = 3600.0  # seconds: longer than writing any file takes

# How long a retry of an upload that failed or was cancelled finds its DICOM files.
DICOM_SECONDS = 86_400.0

_JOBS = 100  # forgotten in one step


@dataclass(frozen=True)
class Sweep:
    """Several sweeps at once would do no harm, but cost the same several times.

    `forgotten`: seconds after which the ledger has forgotten any request. `job_seconds`: after
    which a job that has ended is forgotten; 0: never.
    """

    blobs: Blobs
    deletions: Deletions
    ledger: Ledger
    forgotten: float
    job_seconds: float = 0
    _purged: list[float] = field(default_factory=lambda: [-_LARGE_SECONDS], init=False)
    uploads: Uploads = field(init=False)
    label_audits: LabelAudits = field(init=False)

    def __post_init__(self) -> None:
        uploads = Uploads(self.blobs, self.deletions, self.ledger)
        object.__setattr__(self, "uploads", uploads)  # as frozen data classes want it
        audits = LabelAudits(self.blobs, self.ledger, self.deletions.pseudonyms)
        object.__setattr__(self, "label_audits", audits)

    def __call__(self) -> None:
        turn = uuid4().hex
        steps: tuple[Callable[[], None], ...] = (
            self._half_written,
            self._requests,
            self.ledger.retention.index_jobs,
            self._jobs,
            self._pending_deletions,
            self.uploads.forget_deleted,
            self.uploads.find_others,
            self.label_audits.forget_deleted,
            self._dicom_files,
            self.deletions.quarantine.sweep,
            self._purge,
        )
        for step in steps:
            if not self.ledger.retention.claim_sweep(turn, SWEEP_SECONDS - TURN_SECONDS):
                return
            step()

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

    def _jobs(self) -> None:
        """Forgets jobs that ended long ago, some at a time; first what a kill has left of that."""
        self._forget_blobs()
        while self.job_seconds and self.ledger.retention.forget_jobs(self.job_seconds, _JOBS):
            self._forget_blobs()

    def _forget_blobs(self) -> None:
        for job in self.ledger.retention.forgotten():
            if self.blobs.names(deletion_folder(job.id)):
                self._conclude(job)
            self.uploads.forget(upload_folder(job.id))
            self.blobs.delete(dicom_folder(job.id))
            self.blobs.delete(incoming_folder(job.id))
            self.blobs.delete(label_audit_folder(job.id))
            self.blobs.delete(evaluation_folder(job.id))
            self.blobs.delete(job_folder(job.id))
            self.ledger.retention.forgot(job.id)

    def _conclude(self, deletion: JobRecord) -> None:
        """Its receipt outlives it, since somebody may have to prove it or to lift it."""
        receipts = self.deletions.receipts
        receipts.forget_request(deletion.id)
        receipts.write_end(deletion)

    def _pending_deletions(self) -> None:
        """A job that runs for weeks need not be told of deletions whose request is forgotten."""
        for deletion in self.ledger.tombstones.all_pending_deletions():
            if not self.deletions.receipts.has_request(deletion):
                self.ledger.tombstones.forget_deletion(deletion)

    def _dicom_files(self) -> None:
        """Of uploads that failed, were cancelled, or never became a job. Until then a retry has
        them; they name patients, so that is a day and not as long as the job is known."""
        received = {_job_of(folder): folder for folder in self.blobs.names(incoming_folder())}
        for batch in self.ledger.jobs.unknown([*received]):
            del received[batch]  # it becomes a job yet (`api.incoming.adopt`)
        found = {_job_of(folder): folder for folder in self.blobs.names("dicom")}
        running = set(self.ledger.jobs.unfinished())
        for job, folder in [*found.items(), *received.items()]:
            if job not in running:
                for blob in self.blobs.names(folder)[:1]:
                    self._delete_if_older(folder, blob, DICOM_SECONDS)

    def _delete_if_older(self, path: str, blob: str, seconds: float) -> None:
        """Deletes `path`, a blob or a folder of blobs, if `blob` is old enough."""
        age = self.blobs.age(blob)
        if age is not None and age > seconds:
            self.blobs.delete(path)


def _job_of(folder: str) -> str:
    return folder.rpartition("/")[2]
