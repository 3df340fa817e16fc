"""The totals of one job, or of the several that an upload was cut into."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cli.documents import INGESTED, Document, Job, Work, counts_of, problem_line
from pipeline.base.states import FINAL_STATES


@dataclass(frozen=True)
class Totals:
    """`total` is None while a source is counted; `notice` says what a job waits for, if it does.

    `counts` is outcome → number, in the order in which the api names them. `skipped` is kind →
    number of files that are no images. A `dry_run` stored nothing.
    """

    state: str
    total: int | None
    counts: Mapping[str, int]
    operation: str = "ingest"
    images_per_second: float | None = None
    eta_seconds: float | None = None
    notice: str | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    dry_run: bool = False

    @property
    def done(self) -> int:
        return sum(self.counts.values())

    @property
    def rejected(self) -> int:
        return self.counts.get("rejected", 0)

    @property
    def reconciled(self) -> bool:
        """Whether each image of the source has an outcome."""
        return self.total == self.done

    def document(self, jobs: Sequence[Job]) -> Document:
        """What `ingest --upload --json` prints: the sum as if it were one job, and the jobs."""
        counts = dict(self.counts)
        total = {"state": self.state, "total": self.total}
        skipped = dict(self.skipped)
        return {**total, **counts, "counts": counts, "skipped": skipped, "jobs": list(jobs)}


def totals_of(jobs: Sequence[Work]) -> Totals:
    """The sum."""
    totals = [job.get("total") for job in jobs]
    known = [total for total in totals if total is not None]
    counts = _sum_of(counts_of(job) for job in jobs) if jobs else dict.fromkeys(INGESTED, 0)
    return Totals(
        state=_state([job["state"] for job in jobs], counts.get("rejected", 0)),
        total=sum(known) if len(known) == len(totals) else None,
        counts=counts,
        operation=jobs[0].get("operation", "ingest") if jobs else "ingest",
        images_per_second=sum(job.get("images_per_second") or 0 for job in jobs) or None,
        eta_seconds=max((job.get("eta_seconds") or 0 for job in jobs), default=0) or None,
        notice=next((notice for job in jobs if (notice := job.get("notice"))), None),
        skipped=_sum_of(job.get("skipped") or {} for job in jobs),
        dry_run=any(job.get("dry_run") for job in jobs),
    )


def _sum_of(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)


def _state(states: Iterable[str], rejected: int) -> str:
    """The one state that says most: what still goes on, then what was lost, then what was not."""
    present = set(states)
    going_on = sorted(present - FINAL_STATES)
    for state in ("running", "planning", "paused", *going_on, "failed", "cancelled"):
        if state in present:
            return state
    return "completed_with_rejections" if rejected else "succeeded"


def failure_of(jobs: Sequence[Work], what: str = "job") -> str | None:
    """Why the totals are incomplete, for the first job that has failed or was cancelled."""
    for job in jobs:
        if job["state"] == "failed":
            reason = problem_line(job.get("error"), "no reason given")
            return f"{what} {job['id']} has failed: {reason}"
    for job in jobs:
        if job["state"] == "cancelled":
            return f"{what} {job['id']} was cancelled"
    return None
