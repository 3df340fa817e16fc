"""The states of jobs and requests, and which of them are final: the one place where they stand."""

from typing import Literal

JobState = Literal[
    "planning", "running", "paused", "succeeded", "completed_with_rejections", "failed", "cancelled"
]
RequestState = Literal["queued", "running", "succeeded", "failed"]

# Nothing changes in these any more, unless an operator retries a job. Requests know two of them.
FINAL_STATES = frozenset({"succeeded", "completed_with_rejections", "failed", "cancelled"})
