"""Takes what is complete in a folder, has it ingested, and puts it away.

Each step is written down before the next one (`state`), and each can be repeated: to submit a batch
again starts no second job, and a file that was moved is not there to be moved again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli.client import Client
from cli.documents import Job, is_final
from cli.failure import BadSource, CommandError, Missing, Unreachable
from cli.render import totals_line
from cli.totals import totals_of
from cli.watch.choosing import batches, is_described_by, tables_of
from cli.watch.looking import Settling, Stamp, is_being_written, look, stamp_at
from cli.watch.moving import DONE, FAILED, move
from cli.watch.sending import Sending
from cli.watch.state import Batch, State

# Batches on their way at once: one is embedded while the next one is counted.
MOST_OPEN = 4

JOB_FAILED = "its job has failed"
JOB_CANCELLED = "its job was cancelled"
NOT_READ = "it could not be read, or a table beside it could not"

Say = Callable[[str], None]


@dataclass
class Watcher:
    """`moves`: files are moved when they are done; else they are left, and remembered.

    `want` says of a path whether it is to be taken. `failed` counts files.
    """

    client: Client
    folder: Path
    state: State
    send: Sending
    settling: Settling
    want: Callable[[str], bool]
    say: Say
    moves: bool = True
    failed: int = 0
    _there: dict[str, Stamp] = field(default_factory=dict)
    _away: str | None = None

    def look(self) -> int:
        """Looks once, and begins batches of what is complete. Says how many files it took.

        Raises CommandError if the folder is away.
        """
        aside = frozenset((DONE, FAILED)) if self.moves else frozenset[str]()
        try:
            self._there = dict(look(self.folder, aside, tidy=self.moves))
        except OSError as error:
            self._there = {}
            raise Unreachable(f"{self.folder} cannot be read: {error.strerror}") from error
        new = ((p, s) for p, s in self._there.items() if not self.state.knows(p, s))
        settled = dict(self.settling.settled(new))
        if not settled:
            return 0
        taken = 0
        for chosen in batches(settled, self._there, self.want):
            if len(self.state.batches) >= MOST_OPEN:
                break
            files = [seen for seen in chosen.files if not is_being_written(self.folder / seen[0])]
            if files:
                self.state.begin(files, tabular=chosen.tabular)
                taken += len(files)
        return taken

    @property
    def waiting(self) -> int:
        """How many files are not complete, by the last look, or not taken. Tables stay."""
        there = (seen for seen in self._there.items() if not is_described_by(seen[0]))
        return sum(not self.state.knows(path, stamp) for path, stamp in there)

    def advance(self) -> None:
        """Brings each batch as far as it comes now. Raises CommandError."""
        for batch in list(self.state.batches):
            if not batch.sent:
                self._submit(batch)
            if not batch.judged and (ended := self._ended(batch)) is not None:
                self._judge(batch, ended)
            if batch.judged:
                self._put_away(batch)

    def _submit(self, batch: Batch) -> None:
        try:
            tables = () if batch.tabular else tables_of(batch.files, self._there)
            self.send(batch, tables, lambda job, places: self._started(batch, job, places))
        except BadSource as error:
            self.say(str(error))
            self.state.judged(batch, dict.fromkeys(batch.files, NOT_READ))
        self.state.sent(batch)

    def _started(self, batch: Batch, job: Job, places: Sequence[str]) -> None:
        if job["id"] not in batch.jobs:
            self.state.started(batch, job["id"], places)
            self.say(f"{len(set(places)):,} files: job {job['id']}")

    def _ended(self, batch: Batch) -> list[Job] | None:
        """Its jobs, if all have; we ask no more than it takes to know."""
        found = []
        try:
            for job in map(self.client.job, batch.jobs):
                if not is_final(job):
                    return None
                found.append(job)
        except Missing:  # as of a system that was set up anew
            self.say("its jobs are not known any more: they are submitted again")
            self.state.unsent(batch)
            return None
        return found

    def _judge(self, batch: Batch, jobs: list[Job]) -> None:
        reasons: dict[str, str] = {}
        for job in jobs:
            self.say(f"job {job['id']}: {totals_line(totals_of([job]))}")
            for path, why in self._failures(job, batch.jobs[job["id"]]):
                reasons.setdefault(path, f"{why} (job {job['id']})")
        for path in batch.files:
            if refused := self.send.refused(path):
                reasons[path] = refused
        self.state.judged(batch, {p: why for p, why in reasons.items() if p in batch.files})

    def _failures(self, job: Job, places: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        if job["state"] in ("failed", "cancelled"):
            why = JOB_FAILED if job["state"] == "failed" else JOB_CANCELLED
            yield from ((path, why) for path in places)
        elif job.get("rejected"):
            for each in self.client.rejections(job["id"]):
                number = each.get("file")
                if number is not None and number < len(places):
                    yield places[number], each["reason"]
                elif len(set(places)) == 1:  # a data set
                    yield places[0], each["reason"]

    def _put_away(self, batch: Batch) -> None:
        """A file that has changed meanwhile is another one, and is taken in its turn."""
        left, moved = [], 0
        for path, stamp in batch.files.items():
            if stamp_at(self.folder / path) != stamp:
                continue
            if not self.moves:
                left.append(path)
                continue
            try:
                move(self.folder, path, batch.reasons.get(path))
                moved += 1
            except OSError as error:  # remembered, or it would be taken for ever
                self.say(f"a file cannot be moved: {error.strerror}")
                left.append(path)
        self.failed += len(batch.reasons)
        self.state.settled(batch, left=left)
        what = f"moved {moved:,}" if self.moves else f"left {len(left):,} where they are"
        self.say(f"{what}, {len(batch.reasons):,} of them failed")

    def patiently(self, step: Callable[[], object]) -> None:
        """A step that may meet a system or a folder that is away: says so once, and goes on."""
        try:
            step()
            if self._away is not None:
                self.say("it answers again")
            self._away = None
        except Unreachable as error:
            if self._away != str(error):
                self.say(f"waiting: {error}")
            self._away = str(error)


def run_once(watcher: Watcher, stopping: Callable[[], None], tick: float = 0.5) -> None:
    """Takes all that is complete, and ends when it is done. Raises CommandError."""
    watcher.look()
    settled = time.monotonic() + watcher.settling.seconds
    while (wait := settled - time.monotonic()) > 0:
        stopping()
        watcher.advance()
        time.sleep(min(tick, wait))
    while watcher.look() or watcher.state.batches:
        stopping()
        watcher.advance()
        time.sleep(tick)
    if watcher.waiting:
        watcher.say(f"{watcher.waiting:,} files wait: they are not complete, or not to be taken")


def run(watcher: Watcher, stopping: Callable[[], None], every: float, tick: float = 0.5) -> None:
    """Until `stopping` raises. `every`: seconds between two looks."""
    due = 0.0
    while True:
        stopping()
        if time.monotonic() >= due:
            watcher.patiently(watcher.look)
            due = time.monotonic() + every
        watcher.patiently(watcher.advance)
        time.sleep(tick)


def check(folder: Path, *, moves: bool) -> None:
    """Raises CommandError for what could never work."""
    if not folder.is_dir():
        raise CommandError(f"no such folder: {folder}")
    if not moves:
        return
    try:
        for name in (DONE, FAILED):
            (folder / name).mkdir(exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"{folder} cannot be written: {error.strerror}. With --after leave, files stay there."
        ) from error
