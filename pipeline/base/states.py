"""The states of jobs and requests, and which of them are final. They are listed only here."""

from typing import Literal

JobState = Literal[
    "planning", "running", "paused", "succeeded", "completed_with_rejections", "failed", "cancelled"
]
RequestState = Literal["queued", "running", "succeeded", "failed"]

# A final state stays, unless an operator retries the job. Requests have two of these states.
FINAL_STATES = frozenset({"succeeded", "completed_with_rejections", "failed", "cancelled"})
