"""A shard's run with the ledger, the store and the model played: which rows it takes and blames."""

import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.errors import (
    BlobsUnavailable,
    DecodersUnavailable,
    TooLargeForDevice,
    Unavailable,
)
from pipeline.base.identity import point_id
from pipeline.encoding.encoder import Sizing
from pipeline.images.decoding import Unusable
from pipeline.images.pixels import PixelSteps
from pipeline.images.text_detector import NoDetector
from pipeline.ledger import Lease, Progress, WorkItem
from pipeline.lifecycle.deletion import DELETED
from pipeline.lifecycle.ingest import POISON, TOO_LARGE, WRITERS, Ingest, Limits
from pipeline.lifecycle.quarantine import REFUSED, Quarantine
from pipeline.lifecycle.rejections import Rejections
from pipeline.lifecycle.tombstone_keys import tombstone_key
from pipeline.lifecycle.withholding import Withholding
from pipeline.messages import IngestOptions, Rejection
from pipeline.sources.base import Row
from pipeline.sources.dataset import DatasetSource
from tests.decoders import InlineDecoders
from tests.ledger_steps import US, begin_all, planned, worker
from tests.memory_ledger import memory_ledgers


class Jobs:
    """Keeps what is checkpointed."""

    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self.parts: dict[str, int] = {}
        self.claims: dict[str, str] = {}
        self.finished = False
        self.lost = False

    def holds(self, lease: Lease) -> bool:
        return not self.lost

    def checkpoint(self, lease: Lease, progress: Progress, part: str = "") -> bool:
        self.progress.append(progress)
        if part:
            self.parts[part] = progress.cursor
        return True

    def rejected_parts(self, job: str, row: int, limit: int) -> list[tuple[str, int]]:
        return [(name, stop) for name, stop in self.parts.items() if stop > row][:limit]

    def rejections_in_redis(self, job: str) -> list[str]:
        return []

    def get(self, job: str) -> None: ...

    def claim_ids(self, scope: str, claims: Mapping[str, str]) -> list[str]:
        return [self.claims.setdefault(image, row) for image, row in claims.items()]

    def finish(self, lease: Lease) -> None:
        self.finished = True


class Store:
    def __init__(self) -> None:
        self.stored: dict[UUID, Mapping[str, Any]] = {}

    def retrieve(self, ids: Sequence[UUID]) -> dict[UUID, Any]:
        return {i: SimpleNamespace(payload=self.stored[i]) for i in ids if i in self.stored}

    def upsert(self, points: Any) -> None:
        self.stored.update(zip(points.ids, points.payloads, strict=True))

    def set_payloads(self, payloads: Mapping[UUID, Any]) -> None:
        self.stored.update(payloads)

    def flush(self) -> None: ...


class Deletions:
    """Nothing was deleted, but for `before` and `meanwhile`."""

    def __init__(self) -> None:
        self.before: set[int] = set()
        self.meanwhile: set[UUID] = set()
        self.discarded: list[UUID] = []

    def are_deleted(self, rows: Sequence[Sequence[str]]) -> list[bool]:
        marks = {tombstone_key("image_id", f"row {row}") for row in self.before}
        return [not marks.isdisjoint(row) for row in rows]

    def reasons(self, rows: Sequence[Sequence[str]]) -> list[str]:
        return [DELETED] * len(rows)

    def matches_pending_deletion(self, job: str, batch: Mapping[UUID, Sequence[str]]) -> set[UUID]:
        return self.meanwhile & batch.keys()

    def discard(self, points: Mapping[UUID, str | None]) -> None:
        self.discarded += points


class Rows:
    """Ten small pictures."""

    def __len__(self) -> int:
        return 10

    def read(self, start: int, stop: int) -> Iterator[Row]:
        for number in range(start, stop):
            buffer = io.BytesIO()
            Image.new("RGB", (4, 4), (number * 20, 0, 0)).save(buffer, "PNG")
            yield Row(number, f"row {number}", buffer.getvalue(), {})


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def deletions() -> Deletions:
    return Deletions()


@pytest.fixture
def ingest(tmp_path: Path, jobs: Jobs, deletions: Deletions) -> Iterator[Ingest]:
    encoder = SimpleNamespace(
        sizing=Sizing(batch_size=4, lanes=1, shard_size=64),
        steps=PixelSteps((2, 2), Resampling.NEAREST, None),
        stack=np.stack,
        embed=lambda pixels, bulk: np.ones((len(pixels), 2), np.float32),
    )
    with ThreadPoolExecutor(WRITERS) as writers:
        blobs = Blobs(str(tmp_path))
        quarantine = Quarantine(blobs, memory_ledgers().of("kindred").withheld)
        withholding = Withholding(quarantine, NoDetector())
        parts: Any = (encoder, Store(), blobs, jobs, deletions, InlineDecoders())
        rest: Any = (withholding, Limits(), lambda: False)
        yield Ingest(*parts, *rest, writers=writers)


SOURCE = DatasetSource(dataset="any")


def item(cursor: int = 0, quarantined: int = 0, crashes: int = 0) -> WorkItem:
    counts = {"embedded": cursor} if cursor else {}
    progress = Progress(cursor, 0, counts)
    return WorkItem(Lease("job", 1, "token"), "ingest", "", 0, 10, progress, quarantined, crashes)


def rejections(ingest: Ingest) -> list[Rejection]:
    return Rejections(ingest.blobs, ingest.jobs).page("job", 0, 1000)[0]


def test_every_row_is_in_hand_before_it_is_touched(ingest: Ingest, jobs: Jobs) -> None:
    assert ingest.run(item(), SOURCE, Rows())

    assert [(p.cursor, p.in_flight) for p in jobs.progress] == [(0, 8), (4, 10), (8, 10), (10, 10)]
    assert (jobs.progress[-1].counts, jobs.finished) == ({"embedded": 10}, True)


def test_after_a_crash_the_rows_that_were_in_hand_come_one_by_one(
    ingest: Ingest, jobs: Jobs
) -> None:
    assert ingest.run(item(cursor=2, quarantined=5, crashes=1), SOURCE, Rows())

    assert [(p.cursor, p.in_flight) for p in jobs.progress][:4] == [(2, 3), (3, 4), (4, 5), (5, 10)]
    assert jobs.progress[-1].counts == {"embedded": 10}


def test_a_row_that_ended_three_workers_is_rejected_by_name(ingest: Ingest, jobs: Jobs) -> None:
    assert ingest.run(item(cursor=3, quarantined=5, crashes=3), SOURCE, Rows())

    assert rejections(ingest) == [Rejection(image_id="row 3", row=3, reason=POISON)]
    last = jobs.progress[-1]
    assert (last.cursor, last.counts) == (10, {"embedded": 9, "rejected": 1})


def test_rows_deleted_before_or_meanwhile_are_rejected_and_removed(
    ingest: Ingest, jobs: Jobs, deletions: Deletions
) -> None:
    deletions.before, deletions.meanwhile = {2}, {point_id("row 5")}

    assert ingest.run(item(), SOURCE, Rows())

    assert [(r.row, r.reason) for r in rejections(ingest)] == [(2, DELETED), (5, DELETED)]
    assert jobs.progress[-1].counts == {"embedded": 8, "rejected": 2}
    assert set(deletions.discarded) == {point_id("row 2"), point_id("row 5")}


def test_a_worker_frozen_beyond_its_lease_stores_nothing_and_leaves_no_preview_of_what_is_deleted(
    ingest: Ingest, jobs: Jobs, deletions: Deletions, tmp_path: Path
) -> None:
    """Others have done its rows: what they stored can have been replaced or deleted since."""
    jobs.lost, deletions.meanwhile = True, {point_id("row 2")}

    assert not ingest.run(item(), SOURCE, Rows())

    store: Any = ingest.store
    assert (store.stored, jobs.finished) == ({}, False)
    assert [p.counts for p in jobs.progress] == [{}]
    assert deletions.discarded == [point_id("row 2")]


def test_nor_does_it_change_metadata(ingest: Ingest, jobs: Jobs) -> None:
    assert ingest.run(item(), SOURCE, Rows())
    store: Any = ingest.store
    for payload in store.stored.values():
        payload["site"] = "back"
    before = {point: dict(payload) for point, payload in store.stored.items()}
    jobs.lost = True

    assert not ingest.run(item(), SOURCE, Rows(), IngestOptions(replace_metadata=True))

    assert store.stored == before


def test_a_row_that_cannot_even_be_read_is_set_aside_by_its_number(
    ingest: Ingest, jobs: Jobs
) -> None:
    """And is not read and rejected again for ever."""

    class Unreadable(Rows):
        def read(self, start: int, stop: int) -> Iterator[Row]:
            if start <= 3 < stop:
                raise ValueError("whatever a file's parser says")
            return super().read(start, stop)

    assert ingest.run(item(cursor=3, quarantined=5, crashes=3), SOURCE, Unreadable())

    assert rejections(ingest) == [Rejection(image_id="#3", row=3, reason=POISON)]
    assert jobs.progress[-1].cursor == 10


def test_a_row_whose_reading_ends_workers_is_not_read_once_more(ingest: Ingest, jobs: Jobs) -> None:
    """A worker that dies over the row's id has touched no row, so only its death is counted."""

    class Deadly(Rows):
        def read(self, start: int, stop: int) -> Iterator[Row]:
            assert not start <= 3 < stop, "it ends the process"
            return super().read(start, stop)

    poisoned = replace(item(cursor=3, quarantined=5, crashes=3), deaths=7)
    assert ingest.run(poisoned, SOURCE, Deadly())

    assert rejections(ingest) == [Rejection(image_id="#3", row=3, reason=POISON)]


def test_a_picture_too_large_for_the_device_is_rejected_and_the_batch_goes_on(
    ingest: Ingest, jobs: Jobs
) -> None:
    encoder: Any = ingest.encoder

    def embed(pixels: np.ndarray, bulk: bool) -> np.ndarray:
        if (pixels == 100).any():
            raise TooLargeForDevice("row 5")
        return np.ones((len(pixels), 2), np.float32)

    encoder.embed = embed

    assert ingest.run(item(), SOURCE, Rows())

    assert [(r.row, r.reason) for r in rejections(ingest)] == [(5, TOO_LARGE)]
    assert jobs.progress[-1].counts == {"embedded": 9, "rejected": 1}


def test_what_is_set_aside_leaves_no_preview_and_what_is_held_keeps_its_own(
    ingest: Ingest, tmp_path: Path
) -> None:
    """Nor does a row that ends its worker in the model: nothing is kept before that."""
    encoder: Any = ingest.encoder
    ingest.blobs.write(preview_name(point_id("row 5")), b"of the indexed image")
    seen: list[int] = []

    def embed(pixels: np.ndarray, bulk: bool) -> np.ndarray:
        seen.append(len(list(tmp_path.rglob("*.jpg"))))
        if len(pixels) > 1 or pixels.max() in (60, 100):
            raise TooLargeForDevice("rows 3 and 5")
        return np.ones((len(pixels), 2), np.float32)

    encoder.embed = embed

    assert ingest.run(item(), SOURCE, Rows())

    assert seen[0] == 1
    assert not ingest.blobs.exists(preview_name(point_id("row 3")))
    assert ingest.blobs.read(preview_name(point_id("row 5"))) == b"of the indexed image"
    assert len(list(tmp_path.rglob("*.jpg"))) == 9


def test_the_previews_of_a_batch_are_written_side_by_side_before_its_points(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With slow blobs a batch takes as long as one preview, not as all of them."""
    together = threading.Barrier(4)
    written: list[str] = []

    def write(name: str, data: bytes) -> None:
        if len(written) < 8:  # the last batch has two
            together.wait(20)
        written.append(name)

    monkeypatch.setattr(ingest.blobs, "write", write)
    store: Any = ingest.store
    upsert, seen = store.upsert, []
    store.upsert = lambda points: (seen.append(len(written)), upsert(points))

    assert ingest.run(item(), SOURCE, Rows())

    assert seen == [4, 8, 10]


def test_a_preview_that_cannot_be_written_ends_the_batch_when_all_others_are(
    ingest: Ingest, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing writes any more when the error is told: what is deleted then must not come back."""
    bad = preview_name(point_id("row 0"))
    failed, never, under_way = threading.Event(), threading.Event(), []

    def write(name: str, data: bytes) -> None:
        under_way.append(name)
        if name == bad:
            failed.set()
            raise BlobsUnavailable("full")
        assert failed.wait(20)
        never.wait(0.2)  # long enough for whoever would not wait for this one
        under_way.remove(name)

    monkeypatch.setattr(ingest.blobs, "write", write)

    with pytest.raises(BlobsUnavailable):
        ingest.run(item(), SOURCE, Rows())

    assert under_way == [bad]
    store: Any = ingest.store
    assert (store.stored, jobs.progress[-1].cursor) == ({}, 0)


def test_a_row_with_a_fault_of_its_own_is_not_decoded(ingest: Ingest, jobs: Jobs) -> None:
    class Faulty(Rows):
        def read(self, start: int, stop: int) -> Iterator[Row]:
            for row in super().read(start, stop):
                yield replace(row, fault=Unusable("the fault")) if row.number == 3 else row

    decoded: list[bytes] = []
    decoders: Any = ingest.decoders
    submit = decoders.submit
    decoders.submit = lambda data, order, **how: (
        decoded.append(data),
        submit(data, order, **how),
    )[1]

    assert ingest.run(item(), SOURCE, Faulty())

    assert [(r.row, r.reason) for r in rejections(ingest)] == [(3, "the fault")]
    assert len(decoded) == 9


def test_where_no_decoder_starts_no_row_is_rejected(ingest: Ingest, jobs: Jobs) -> None:
    def submit(data: bytes, order: Any, *, suspect: bool) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(DecodersUnavailable("none starts"))
        return future

    decoders: Any = ingest.decoders
    decoders.submit = submit

    with pytest.raises(Unavailable):
        ingest.run(item(), SOURCE, Rows())

    assert (rejections(ingest), jobs.progress[-1].cursor) == ([], 0)


class HeldRows(Rows):
    """Of the ten, rows 1 and 6 must wait."""

    def read(self, start: int, stop: int) -> Iterator[Row]:
        for row in super().read(start, stop):
            yield replace(row, hold="it is ultrasound") if row.number in (1, 6) else row


@pytest.fixture
def held(ingest: Ingest) -> Iterator[tuple[Ingest, Any]]:
    """An ingest whose lease the ledger of quarantine knows."""
    ledger = memory_ledgers().of("kindred")
    ledger.workers.beat(worker(US, lanes=1))
    planned(ledger, "job", total=10, shard_size=10)
    [begun] = begin_all(ledger, US)
    quarantine = Quarantine(ingest.blobs, ledger.withheld)
    yield replace(ingest, withholding=Withholding(quarantine, NoDetector())), begun


def test_what_must_wait_is_not_embedded_and_comes_to_quarantine(
    held: tuple[Ingest, Any], jobs: Jobs
) -> None:
    ingest, begun = held
    assert ingest.run(begun, SOURCE, HeldRows())

    assert jobs.progress[-1].counts == {"embedded": 8, "quarantined": 2}
    store: Any = ingest.store
    assert {point_id("row 1"), point_id("row 6")}.isdisjoint(store.stored)
    quarantine = ingest.withholding.quarantine
    names = [each.name for each in quarantine.ledger.page(0, 10)]
    known = [quarantine.known(name) for name in names]
    assert [image and image.image_id for image in known] == ["row 1", "row 6"]
    assert not ingest.blobs.exists(preview_name(point_id("row 1")))


def test_a_repeat_of_the_shard_finds_it_waiting_and_renews_what_is_said(
    held: tuple[Ingest, Any], jobs: Jobs
) -> None:
    ingest, begun = held
    ingest.run(begun, SOURCE, HeldRows())

    class Described(HeldRows):
        def read(self, start: int, stop: int) -> Iterator[Row]:
            return (replace(row, metadata={"site": "liver"}) for row in super().read(start, stop))

    jobs.claims.clear()
    assert ingest.run(begun, SOURCE, Described())

    assert jobs.progress[-1].counts == {"embedded": 8, "quarantined": 2}
    quarantine = ingest.withholding.quarantine
    [first, _] = quarantine.ledger.page(0, 10)
    known = quarantine.known(first.name)
    assert known is not None and known.metadata["site"] == "liver"


def test_after_a_rotation_of_the_key_it_waits_under_the_id_that_it_has(
    held: tuple[Ingest, Any], jobs: Jobs
) -> None:
    ingest, begun = held
    ingest.run(begun, SOURCE, HeldRows())

    class Renamed(HeldRows):
        def read(self, start: int, stop: int) -> Iterator[Row]:
            for row in super().read(start, stop):
                former = ({"image_id": str(row.image_id)},)
                yield replace(row, image_id=f"new {row.number}", former=former)

    jobs.claims.clear()
    assert ingest.run(begun, SOURCE, Renamed())

    assert jobs.progress[-1].counts == {"embedded": 8, "quarantined": 2}
    assert ingest.withholding.quarantine.ledger.count() == 2


def test_of_a_dry_run_nothing_waits(held: tuple[Ingest, Any], jobs: Jobs) -> None:
    ingest, begun = held
    assert ingest.run(begun, SOURCE, HeldRows(), IngestOptions(dry_run=True))

    assert jobs.progress[-1].counts == {"embedded": 8, "quarantined": 2}
    assert ingest.withholding.quarantine.ledger.count() == 0


def test_what_was_deleted_meanwhile_does_not_wait(
    held: tuple[Ingest, Any], jobs: Jobs, deletions: Deletions
) -> None:
    ingest, begun = held
    deletions.meanwhile = {point_id("row 6")}
    assert ingest.run(begun, SOURCE, HeldRows())

    assert jobs.progress[-1].counts == {"embedded": 8, "quarantined": 1, "rejected": 1}
    assert ingest.withholding.quarantine.ledger.count() == 1
    assert len([*ingest.blobs.walk("quarantine")]) == 3


def test_what_was_refused_is_rejected(held: tuple[Ingest, Any], jobs: Jobs) -> None:
    ingest, begun = held
    ingest.run(begun, SOURCE, HeldRows())
    quarantine = ingest.withholding.quarantine
    quarantine.refuse([quarantine.ledger.page(0, 1)[0].name])
    jobs.claims.clear()

    assert ingest.run(begun, SOURCE, Rows())  # even if nobody suspects it any more

    assert jobs.progress[-1].counts == {"embedded": 9, "rejected": 1}
    assert quarantine.ledger.count() == 0, "what is trusted by now waits no more"
    assert [r.reason for r in rejections(ingest)] == [REFUSED]


def test_without_its_lease_a_worker_puts_nothing_into_quarantine(
    held: tuple[Ingest, Any], jobs: Jobs
) -> None:
    ingest, begun = held
    jobs.lost = True
    assert not ingest.run(begun, SOURCE, HeldRows())
    assert ingest.withholding.quarantine.ledger.count() == 0
    assert [*ingest.blobs.walk("quarantine")] == []
