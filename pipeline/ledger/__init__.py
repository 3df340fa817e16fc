"""The record of what is owed and what was done, by collection: jobs, requests, tombstones, workers.

Beside it, since all processes of the api share them: who has signed in, and who calls how often.
"""

from pipeline.base.schema import SCHEMA_VERSION
from pipeline.base.settings import Timing
from pipeline.base.states import FINAL_STATES, JobState, RequestState
from pipeline.ledger.jobs import Action, JobLedger
from pipeline.ledger.ledger import Ledger, Ledgers, namespace_of
from pipeline.ledger.records import PLAN, JobRecord, Lease, Progress, WorkItem
from pipeline.ledger.requests import Claim, RequestLedger, RequestRecord
from pipeline.ledger.sessions import CallLedger, SessionLedger
from pipeline.ledger.tombstones import Tombstones
from pipeline.ledger.workers import WorkerInfo, WorkerLedger

__all__ = [
    "FINAL_STATES",
    "PLAN",
    "SCHEMA_VERSION",
    "Action",
    "CallLedger",
    "Claim",
    "JobLedger",
    "JobRecord",
    "JobState",
    "Lease",
    "Ledger",
    "Ledgers",
    "Progress",
    "RequestLedger",
    "RequestRecord",
    "RequestState",
    "SessionLedger",
    "Timing",
    "Tombstones",
    "WorkItem",
    "WorkerInfo",
    "WorkerLedger",
    "namespace_of",
]
