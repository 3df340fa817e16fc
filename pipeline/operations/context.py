"""The context in which a worker runs operations: everything that it has opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.base.blobs import Blobs
    from pipeline.encoding.encoder import Encoder
    from pipeline.encoding.others import OtherEncoders
    from pipeline.evaluation.closeness import Calibrations
    from pipeline.ledger import Ledger
    from pipeline.lifecycle.audit_jobs import AuditJobs
    from pipeline.lifecycle.deletion import Deletions
    from pipeline.lifecycle.drift import DriftWatch
    from pipeline.lifecycle.ingest import Ingest
    from pipeline.lifecycle.sweep import Sweep
    from pipeline.retrieval.fields import Fields
    from pipeline.retrieval.search import Search
    from pipeline.sources.registry import SourceCache
    from pipeline.store import Store


@dataclass(frozen=True)
class Context:
    """Shared by all threads of a worker.

    `keep_names`: whether names of files stay when a job has ended.
    `stopping()` says whether the worker shuts down.
    """

    encoder: Encoder
    others: OtherEncoders
    store: Store
    blobs: Blobs
    ledger: Ledger
    fields: Fields
    search: Search
    calibrations: Calibrations
    ingest: Ingest
    deletions: Deletions
    sources: SourceCache
    sweep: Sweep
    audit_jobs: AuditJobs
    drift: DriftWatch
    keep_names: bool
    stopping: Callable[[], bool]
