"""The record of what is owed and what was done: jobs, their units, asks, and the workers alive.

Beside it, since all processes of the api share them: who has signed in, and who calls how often.
"""

from pipeline.ledger.asks import RequestLedger, RequestRecord
from pipeline.ledger.jobs import JobLedger, JobRecord, JobState, Lease, Progress, Unit
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.sessions import CallLedger, SessionLedger
from pipeline.ledger.tombstones import Tombstones
from pipeline.ledger.workers import WorkerInfo, WorkerLedger

__all__ = [
    "CallLedger",
    "JobLedger",
    "JobRecord",
    "JobState",
    "Lease",
    "Ledger",
    "Progress",
    "RequestLedger",
    "RequestRecord",
    "SessionLedger",
    "Tombstones",
    "Unit",
    "WorkerInfo",
    "WorkerLedger",
]
