"""The rejected rows of a job: JSON lines in the blobs, and in the ledger only which of them count.

jobs/{job}/rejections/{first row}-{token}.jsonl     a part: rows that one worker rejected in a row

A worker writes a part whole before each checkpoint that has rejections, and that checkpoint says
in the same step that the part counts for all rows below the cursor. So rows that a worker wrote
and did not checkpoint count never: they lie behind the cursor, and whoever takes over has another
token, hence parts of its own. A part is closed at `PART` rows, so rewriting it stays cheap.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from operator import attrgetter

from pipeline.base.blobs import Blobs, job_folder
from pipeline.ledger import JobLedger, Lease
from pipeline.messages import Rejection
from pipeline.messages.base import read

PART = 256  # rejections: a batch rewrites at most so many lines of about 120 bytes

_PARTS = 100  # looked up at once


@dataclass
class RejectedRows:
    """What one worker rejects of one shard, in the order of its rows."""

    blobs: Blobs
    lease: Lease
    _open: list[str] = field(default_factory=list, init=False)
    _name: str = field(default="", init=False)

    def write(self, rejections: Sequence[Rejection]) -> str:
        """The part that a checkpoint behind these rows is to name; empty if there are none.

        Raises BlobsUnavailable.
        """
        if not rejections:
            return ""
        if not self._open or len(self._open) >= PART:
            first = min(each.row for each in rejections)
            self._name, self._open = f"{first:012}-{self.lease.token}", []
        ordered = sorted(rejections, key=attrgetter("row"))
        self._open += [each.model_dump_json() for each in ordered]
        self.blobs.write(_blob(self.lease.job, self._name), "\n".join(self._open).encode())
        return self._name


@dataclass(frozen=True)
class Rejections:
    """Reads them. Every method raises LedgerUnavailable or BlobsUnavailable."""

    blobs: Blobs
    jobs: JobLedger

    def page(self, job: str, row: int, limit: int) -> tuple[list[Rejection], int | None]:
        """Up to `limit` from this row on, in order, and the row of the next page.

        Raises NotFound for an unknown job.
        """
        self.jobs.get(job)
        found = list(islice(self._from(job, row), limit + 1))
        return found[:limit], found[limit].row if len(found) > limit else None

    def rows(self, job: str) -> Iterator[int]:
        """The numbers of all rejected rows, in order."""
        return (each.row for each in self._from(job, 0))

    def tidy(self, job: str) -> None:
        """Deletes parts that do not count: when a job is planned, those of its earlier run."""
        counting = {_blob(job, name) for name, _ in self._parts(job, 0)}
        for blob in self.blobs.names(_folder(job)):
            if blob not in counting:
                self.blobs.delete(blob)

    def _from(self, job: str, row: int) -> Iterator[Rejection]:
        return merge(self._of_parts(job, row), self._of_hash(job, row), key=attrgetter("row"))

    def _of_parts(self, job: str, row: int) -> Iterator[Rejection]:
        for name, stop in self._parts(job, row):
            try:
                lines = self.blobs.read(_blob(job, name)).splitlines()
            except FileNotFoundError:  # the job was retried or forgotten meanwhile
                continue
            found = (read(Rejection, line) for line in lines)
            yield from (each for each in found if row <= each.row < stop)
            row = stop  # the part can have grown by the time that it is looked up again

    def _parts(self, job: str, row: int) -> Iterator[tuple[str, int]]:
        """Name, and the row before which it counts, of the parts that reach beyond `row`."""
        while found := self.jobs.rejected_parts(job, row, _PARTS):
            yield from found
            row = found[-1][1]

    def _of_hash(self, job: str, row: int) -> Iterator[Rejection]:
        """What workers of 0.1 and before wrote into Redis. It may go when no job of theirs is left.

        There, rows have no order, so each page reads all of them.
        """
        found = (Rejection(**json.loads(line)) for line in self.jobs.rejections_in_redis(job))
        return iter(sorted((r for r in found if r.row >= row), key=attrgetter("row")))


def _folder(job: str) -> str:
    return f"{job_folder(job)}/rejections"


def _blob(job: str, part: str) -> str:
    return f"{_folder(job)}/{part}.jsonl"
