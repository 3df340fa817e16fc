"""Ingest: makes a source searchable. It is a job whose totals reconcile.

total = embedded + updated + unchanged + rejected + quarantined; beside it, skipped files by kind
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, SerializeAsAny

from pipeline.base.blobs import dicom_folder, incoming_folder, upload_folder
from pipeline.base.errors import SourceChanged, SourceError
from pipeline.lifecycle.drift_reports import forget_drift
from pipeline.lifecycle.rejections import Rejections
from pipeline.messages import IngestOptions
from pipeline.messages.base import read
from pipeline.operations.base import JobRun, Operation, Plan
from pipeline.operations.job import JobView
from pipeline.sources.base import Source
from pipeline.sources.dataset import forget_only
from pipeline.sources.folder.catalogue import Catalogue
from pipeline.sources.quarantine import QuarantineSource
from pipeline.sources.registry import parse_source
from pipeline.sources.upload import UploadSource, forget_files

if TYPE_CHECKING:
    from pipeline.ledger import JobRecord, WorkItem
    from pipeline.operations.context import Context

logger = logging.getLogger("kindred.ingest")

# How many workers may end while they open a source to count it. That can take an hour, so some may
# end for another reason; and for others such a plan is no suspect.
TRIES = 5
# How often a job is planned again because its source has changed. Workers that see different files
# would plan it again for ever.
REPLANS = 5

POISON = "Five workers ended while they opened this source; it was given up."
CHANGING = "It changes, or not all workers see the same files. Retry when it no longer changes."


class IngestRequest(IngestOptions):
    """`granted` is the folder that KINDRED_SOURCES allowed when the api accepted the job."""

    granted: str | None = None
    source: Annotated[SerializeAsAny[Source], BeforeValidator(parse_source)]


def _plan(context: Context, item: WorkItem) -> Plan:
    if item.deaths >= TRIES:
        raise SourceError(POISON, why=POISON)
    Rejections(context.blobs, context.ledger.jobs).tidy(item.lease.job)
    forget_drift(context.blobs, item.lease.job)
    request = _request(item)
    reader = context.sources.plan(item.lease.job, request.source, request.granted)
    shard_size = context.encoder.sizing.shard_size_for(len(reader))
    return Plan(len(reader), shard_size, reader.version, reader.skipped)


def _work(context: Context, item: WorkItem) -> bool:
    request = _request(item)
    reader = context.sources.get(item.lease.job, request.source, item.version, request.granted)
    if reader.version == item.version:
        with suppress(SourceChanged):
            return context.ingest.run(item, request.source, reader, request)
    _replan(context, item)
    return True


def _replan(context: Context, item: WorkItem) -> None:
    """Plans the job again. Its source has changed, so the old plan would silently miss rows.

    Raises SourceError, which fails the job, if that has happened too often.
    """
    times = context.ledger.jobs.replan(item.lease)  # 0 if another lane has done it already
    if times:
        logger.warning("source changed, job planned again", extra={"job": item.lease.job})
    if times > REPLANS:
        raise SourceError(CHANGING, why=CHANGING)


def _request(item: WorkItem) -> IngestRequest:
    return read(IngestRequest, item.request)


def put_away(context: Context, job: JobRecord) -> None:
    """Of a job that has ended, keeps the account of its files. Safe to repeat.

    The rows of a folder go, since they say what is known of patients, and so does what was sent for
    a dry run.
    """
    rejections = Rejections(context.blobs, context.ledger.jobs)
    catalogue = Catalogue.read(context.blobs, job.id)
    if catalogue is None:  # its plan was not finished, and has names in it all the same
        Catalogue.discard(context.blobs, job.id)
    else:
        catalogue.conclude(rejections.rows(job.id) if context.keep_names else None)
    request = read(IngestRequest, job.request)
    forget_only(context.blobs, job.id)
    if isinstance(request.source, UploadSource):
        if job.state == "succeeded":  # of any other, the sweep gives a retry a day
            context.blobs.delete(dicom_folder(job.id))
            context.blobs.delete(incoming_folder(job.id))
        if request.dry_run:
            forget_files(context.blobs, request.source)
        context.sweep.uploads.add(upload_folder(job.id))
    if isinstance(request.source, QuarantineSource):
        context.deletions.released(request.source.images)


INGEST = Operation("ingest", IngestRequest, JobView, "ingest", "job", JobRun(_plan, _work))
