"""The blob in which a worker says how a job's images lie to the rest, and which the api reads.

jobs/{job}/drift.json     numbers, with devices and sites; it goes with the job
"""

import json
from datetime import UTC, datetime

from pipeline.base.blobs import Blobs, job_folder
from pipeline.ledger import JobRecord
from pipeline.messages.base import read
from pipeline.messages.drift import LEAST, DriftReport


def is_compared(job: JobRecord) -> bool:
    """Whether a job that has ended brought enough."""
    done = job.state in ("succeeded", "completed_with_rejections")
    if not done or job.counts.get("embedded", 0) < LEAST:
        return False
    return not json.loads(job.request).get("dry_run")


def read_drift(blobs: Blobs, job: str) -> DriftReport | None:
    """None while it is not known, or if it could not be found out. Raises BlobsUnavailable."""
    try:
        return read(DriftReport, blobs.read(_blob(job)))
    except FileNotFoundError:
        return None


def write_drift(blobs: Blobs, job: str, report: DriftReport) -> None:
    blobs.write(_blob(job), report.model_dump_json().encode())


def forget_drift(blobs: Blobs, job: str) -> None:
    """The job begins anew."""
    blobs.delete(_blob(job))


def now() -> datetime:
    return datetime.now(UTC)


def _blob(job: str) -> str:
    return f"{job_folder(job)}/drift.json"
