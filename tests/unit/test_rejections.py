"""Rejected rows lie in the blobs, and each is listed once, whoever dies in between."""

import json
from pathlib import Path

import pytest

from pipeline.base.blobs import Blobs
from pipeline.ledger import Ledger, Progress, WorkItem
from pipeline.lifecycle.rejections import PART, RejectedRows, Rejections
from pipeline.messages import Rejection
from tests.ledger_steps import OTHER, US, begin_all, planned, work
from tests.unit.conftest import Backend

ROWS = 2000


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(str(tmp_path))


@pytest.fixture
def rejections(blobs: Blobs, ledger: Ledger) -> Rejections:
    return Rejections(blobs, ledger.jobs)


def rejected(*rows: int) -> list[Rejection]:
    return [Rejection(image_id=f"image {row}", row=row, reason="broken") for row in rows]


def begun(ledger: Ledger, owner: str = US) -> WorkItem:
    [item] = begin_all(ledger, owner)
    return item


def checkpoint(ledger: Ledger, item: WorkItem, cursor: int, count: int, part: str) -> bool:
    counts = {"rejected": count, "embedded": cursor - count}
    return ledger.jobs.checkpoint(item.lease, Progress(cursor, cursor, counts), part)


def listed(rejections: Rejections, limit: int = 100) -> list[int]:
    rows: list[int] = []
    cursor: int | None = 0
    while cursor is not None:
        page, cursor = rejections.page("job", cursor, limit)
        rows += [each.row for each in page]
    return rows


def test_all_are_listed_in_their_order_and_their_number_is_that_of_the_totals(
    ledger: Ledger, blobs: Blobs, rejections: Rejections
) -> None:
    planned(ledger, "job", total=ROWS, shard_size=ROWS)
    item = begun(ledger)
    writer, rows = RejectedRows(blobs, item.lease), [r for r in range(ROWS) if r % 3]
    for start in range(0, ROWS, 8):
        batch = rejected(*reversed([r for r in rows if start <= r < start + 8]))
        count = len([r for r in rows if r < start + 8])
        checkpoint(ledger, item, start + 8, count, writer.write(batch))

    assert listed(rejections, limit=7) == listed(rejections) == [*rejections.rows("job")] == rows
    assert ledger.jobs.get("job").counts["rejected"] == len(rows)
    assert rejections.page("job", 1001, 1)[0] == rejected(1001)
    parts = ledger.jobs.rejected_parts("job", 0, 1000)
    assert len(parts) <= len(rows) / PART + 1, "the ledger holds a few names"


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "rejected again"])
def test_a_row_that_a_worker_rejected_before_it_died_counts_as_the_next_one_says(
    ledger: Ledger, blobs: Blobs, rejections: Rejections, accepted: bool
) -> None:
    planned(ledger, "job", total=16, shard_size=16)
    first = begun(ledger)
    writer = RejectedRows(blobs, first.lease)
    checkpoint(ledger, first, 4, 1, writer.write(rejected(2)))
    writer.write(rejected(5, 6))  # into the same part; then it is killed
    assert listed(rejections) == [2]

    ledger.jobs.reclaim(alone=OTHER)
    second = begun(ledger, OTHER)
    assert second.progress.cursor == 4
    for row in range(4, 16):
        again = rejected(row) if row in (5, 6) and not accepted else []
        count = 1 + (0 if accepted else len([r for r in (5, 6) if r <= row]))
        part = RejectedRows(blobs, second.lease).write(again)
        assert checkpoint(ledger, second, row + 1, count, part)
        assert listed(rejections) == [2, 5, 6][:count]
    assert ledger.jobs.get("job").counts["rejected"] == len(listed(rejections))


def test_a_worker_that_lost_its_lease_adds_nothing(
    ledger: Ledger, blobs: Blobs, rejections: Rejections
) -> None:
    planned(ledger, "job", total=16, shard_size=16)
    stale = begun(ledger)
    ledger.jobs.reclaim(alone=OTHER)
    item = begun(ledger, OTHER)
    assert checkpoint(ledger, item, 8, 1, RejectedRows(blobs, item.lease).write(rejected(3)))

    part = RejectedRows(blobs, stale.lease).write(rejected(3, 5))

    assert not checkpoint(ledger, stale, 8, 2, part)
    assert listed(rejections) == [3]


def test_a_job_that_begins_anew_has_none_and_its_plan_deletes_them(
    ledger: Ledger, blobs: Blobs, rejections: Rejections
) -> None:
    planned(ledger, "job", total=8, shard_size=8)
    item = begun(ledger)
    checkpoint(ledger, item, 8, 2, RejectedRows(blobs, item.lease).write(rejected(1, 2)))
    rejections.tidy("job")
    assert len([*blobs.walk("jobs/job")]) == 1, "it counts"
    ledger.jobs.finish(item.lease)

    ledger.jobs.transition("job", "retry")
    assert listed(rejections) == []

    rejections.tidy("job")
    assert [*blobs.walk("jobs/job")] == []


def test_what_an_older_worker_wrote_is_listed_among_the_others(
    backend: Backend, ledger: Ledger, blobs: Blobs, rejections: Rejections
) -> None:
    """As while a fleet is upgraded: one worker writes into Redis, and one into the blobs."""
    planned(ledger, "job", total=8, shard_size=8)
    item = begun(ledger)
    checkpoint(ledger, item, 8, 4, RejectedRows(blobs, item.lease).write(rejected(1, 6)))
    for each in rejected(0, 5):
        json_ = json.dumps(each.model_dump())
        backend.redis.hset(f"{ledger.namespace}:job:job:rejections", str(each.row), json_)

    assert listed(rejections, limit=1) == listed(rejections, limit=3) == [0, 1, 5, 6]
    assert [*rejections.rows("job")] == [0, 1, 5, 6]

    ledger.jobs.finish(item.lease)
    ledger.jobs.transition("job", "retry")
    assert listed(rejections) == []


def test_a_part_whose_blob_is_gone_hides_no_other(
    ledger: Ledger, blobs: Blobs, rejections: Rejections
) -> None:
    planned(ledger, "job", total=16, shard_size=8)
    for item in work(ledger):
        part = RejectedRows(blobs, item.lease).write(rejected(item.start))
        checkpoint(ledger, item, item.stop, 1, part)
        ledger.jobs.finish(item.lease)

    [first, _] = sorted(blobs.names("jobs/job/rejections"))
    blobs.delete(first)

    assert listed(rejections) == [8]
