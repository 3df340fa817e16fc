"""The record of what is owed and what was done: jobs, their units, asks, and the workers alive."""

from pipeline.ledger.asks import AskLedger, AskRecord
from pipeline.ledger.jobs import JobLedger, JobRecord, JobState, Lease, Progress, Unit
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.tombstones import Tombstones
from pipeline.ledger.workers import WorkerInfo, WorkerLedger

__all__ = [
    "AskLedger",
    "AskRecord",
    "JobLedger",
    "JobRecord",
    "JobState",
    "Lease",
    "Ledger",
    "Progress",
    "Tombstones",
    "Unit",
    "WorkerInfo",
    "WorkerLedger",
]
