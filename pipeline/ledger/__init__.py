"""The record of what is owed and what was done: jobs, their units, asks, and the workers alive.

Beside it, since all processes of the api share them: who has signed in, and who calls how often.
"""

from pipeline.ledger.asks import AskLedger, AskRecord
from pipeline.ledger.jobs import JobLedger, JobRecord, JobState, Lease, Progress, Unit
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.sessions import CallLedger, SessionLedger
from pipeline.ledger.tombstones import Tombstones
from pipeline.ledger.workers import WorkerInfo, WorkerLedger

__all__ = [
    "AskLedger",
    "AskRecord",
    "CallLedger",
    "JobLedger",
    "JobRecord",
    "JobState",
    "Lease",
    "Ledger",
    "Progress",
    "SessionLedger",
    "Tombstones",
    "Unit",
    "WorkerInfo",
    "WorkerLedger",
]
