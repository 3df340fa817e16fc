"""What becomes of rows before they are decoded: which is its image's first, and what is kept."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from pipeline.base.identity import point_id
from pipeline.images.decoding import Unusable
from pipeline.ledger import Lease, Progress, WorkItem
from pipeline.lifecycle.rows import Batch, claim, described, identify, recognise
from pipeline.messages import RESERVED
from pipeline.sources.base import Row


class Claims:
    """The ledger's claims, in memory."""

    def __init__(self) -> None:
        self.scopes: dict[str, dict[str, str]] = {}

    def claim_ids(self, scope: str, claims: Mapping[str, str]) -> list[str]:
        known = self.scopes.setdefault(scope, {})
        return [known.setdefault(image, row) for image, row in claims.items()]


def item(job: str = "job") -> WorkItem:
    return WorkItem(Lease(job, 1, "t"), "ingest", "{}", 0, 9, Progress(0, 0), 0, 0)


def row(number: int, data: bytes = b"a", image_id: str | None = "X", **metadata: Any) -> Row:
    return Row(number, image_id, data, metadata)


def judged(jobs: Any, *rows: Row, job: str = "job", upload: str | None = None) -> list[str | None]:
    return claim(jobs, item(job), upload, [identify(each) for each in rows])


def test_the_second_row_of_an_image_is_rejected_and_names_the_first() -> None:
    first, other, says_otherwise, same = judged(
        Claims(), row(0, dx="nv"), row(1, b"b", dx="nv"), row(2, dx="mel"), row(3, dx="nv")
    )
    assert first == ""
    assert other == "Row 0 of this job has the same id and another picture."
    assert says_otherwise is not None
    assert "Row 0 of this job is the same picture" in says_otherwise
    assert same is None


def test_rows_of_other_batches_count_and_a_row_that_comes_again_is_itself() -> None:
    jobs = Claims()
    assert judged(jobs, row(0)) == [""]
    assert judged(jobs, row(0)) == [""]
    assert judged(jobs, row(0, b"changed meanwhile")) == [""]
    assert judged(jobs, row(5)) == [None]
    assert judged(jobs, row(0, b"b"), job="another") == [""]


def test_the_jobs_of_one_upload_share_their_claims() -> None:
    jobs = Claims()
    assert judged(jobs, row(3), job="one", upload="u") == [""]
    [said] = judged(jobs, row(3, b"b"), job="two", upload="u")
    assert said is not None
    assert "Row 3 of job one" in said


def test_a_row_that_is_rejected_for_its_own_sake_claims_nothing() -> None:
    broken = Row(0, "X", b"", {}, fault=Unusable("empty"))
    assert judged(Claims(), broken, row(1)) == ["", ""]


KNOWN = {"image_id": "X", "dx": "nv", "meta": {"a": 1, "b": 2}, RESERVED: {"job": "old", "row": 1}}


@pytest.mark.parametrize(
    ("said", "known", "kept"),
    [
        ({}, KNOWN, {"dx": "nv", "meta": {"a": 1, "b": 2}}),
        ({"dx": "mel", "meta": {"b": 3}}, KNOWN, {"dx": "mel", "meta": {"a": 1, "b": 3}}),
        ({"dx": "mel"}, None, {"dx": "mel"}),
        ({"image_id": "another"}, None, {"image_id_": "another"}),
        (
            {"image_id": "another", "image_id_": "x"},
            None,
            {"image_id_": "x", "image_id__": "another"},
        ),
    ],
)
def test_what_a_row_does_not_mention_stays(said: Any, known: Any, kept: Any) -> None:
    assert described(Row(0, "X", b"a", said), "X", known) == {**kept, "image_id": "X"}


def recognised(number: int, metadata: dict[str, Any], source: dict[str, Any]) -> Batch:
    batch = Batch(0, 1)
    stored = {"image_id": "X", "dx": "nv", RESERVED: source}
    recognise(batch, item(), identify(row(number)), {"image_id": "X", **metadata}, stored)
    return batch


@pytest.mark.parametrize(
    ("metadata", "source", "kind"),
    [
        ({"dx": "nv"}, {"job": "old", "row": 0}, "unchanged"),
        ({"dx": "mel"}, {"job": "old", "row": 0}, "updated"),
        ({"dx": "nv"}, {"job": "job", "row": 0}, "embedded"),  # before this worker took over
        ({"dx": "nv"}, {"job": "old", "row": 0, "updated": "job#0"}, "updated"),  # the same
        ({"dx": "nv"}, {"job": "old", "row": 0, "updated": "old#0"}, "unchanged"),
    ],
)
def test_a_row_counts_as_what_its_job_made_of_it(metadata: Any, source: Any, kind: str) -> None:
    batch = recognised(0, metadata, source)
    assert [outcome.kind for outcome in batch.outcomes] == [kind]
    changed = {UUID(int=point_id("X").int)} if metadata != {"dx": "nv"} else set()
    assert batch.payloads.keys() == changed
