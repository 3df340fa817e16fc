"""The account of one job, or of the several that an upload was cut into."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cli.documents import FINAL, Document, Job, problem_line


@dataclass(frozen=True)
class Account:
    """`total` is None while a source is counted; `notice` says what a job waits for, if it does."""

    state: str
    total: int | None
    embedded: int
    unchanged: int
    rejected: int
    images_per_second: float | None = None
    eta_seconds: float | None = None
    notice: str | None = None

    @property
    def done(self) -> int:
        return self.embedded + self.unchanged + self.rejected

    @property
    def closed(self) -> bool:
        return self.total == self.done

    def document(self, jobs: Sequence[Job]) -> Document:
        """What `ingest --upload --json` prints."""
        counts = {
            name: getattr(self, name) for name in ("total", "embedded", "unchanged", "rejected")
        }
        return {"state": self.state, **counts, "jobs": list(jobs)}


def account_of(jobs: Sequence[Job], refused: int = 0) -> Account:
    """The sum. `refused` files never became part of a job, and are rejected all the same."""
    totals = [job["total"] for job in jobs]
    known = [total for total in totals if total is not None]
    rejected = sum(job["rejected"] for job in jobs) + refused
    return Account(
        state=_state([job["state"] for job in jobs], rejected),
        total=sum(known) + refused if len(known) == len(totals) else None,
        embedded=sum(job["embedded"] for job in jobs),
        unchanged=sum(job["unchanged"] for job in jobs),
        rejected=rejected,
        images_per_second=sum(job.get("images_per_second") or 0 for job in jobs) or None,
        eta_seconds=max((job.get("eta_seconds") or 0 for job in jobs), default=0) or None,
        notice=next((job["notice"] for job in jobs if job.get("notice")), None),
    )


def _state(states: Iterable[str], rejected: int) -> str:
    """The one state that says most: what still goes on, then what was lost, then what was not."""
    present = set(states)
    for state in ("running", "planning", "paused", *sorted(present - FINAL), "failed", "cancelled"):
        if state in present:
            return state
    return "completed_with_rejections" if rejected else "succeeded"


def failure_of(jobs: Sequence[Job]) -> str | None:
    """Why the account is not whole, for the first job that has failed or was cancelled."""
    for job in jobs:
        if job["state"] == "failed":
            return (
                f"job {job['id']} has failed: {problem_line(job.get('error'), 'no reason given')}"
            )
    for job in jobs:
        if job["state"] == "cancelled":
            return f"job {job['id']} was cancelled"
    return None
