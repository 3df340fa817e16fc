"""Images in quarantine: whatever ends between two steps, nothing is lost and nothing is left."""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.blobs import Blobs, withheld_folder
from pipeline.base.errors import BlobsUnavailable, Conflict, NotFound
from pipeline.base.identity import point_id
from pipeline.ledger import Lease, Ledger
from pipeline.ledger.uploads import digests_of
from pipeline.ledger.withheld import name_of
from pipeline.lifecycle.quarantine import Quarantine, Waiting
from pipeline.lifecycle.tombstone_keys import tombstone_key
from pipeline.messages import WithheldImage
from tests.ledger_steps import US, begin_all, planned
from tests.unit.conftest import Backend

INGEST = ("ingest", "ingest")
STEPS = ("picture.png", "preview.jpg", "image.json")
FEW, MANY = 200, 200_000


class Broken(Blobs):
    """A call of `name` for a blob that ends with `at` fails once."""

    at, name, calls = "", "", 0

    def _maybe(self, name: str, blob: str) -> None:
        if self.at and name == self.name and blob.endswith(self.at):
            self.at = ""
            raise BlobsUnavailable("the disk is away")

    def write(self, name: str, data: bytes) -> None:
        self._maybe("write", name)
        super().write(name, data)

    def delete(self, name: str) -> None:
        self._maybe("delete", name)
        super().delete(name)

    def read(self, name: str) -> bytes:
        self.calls += 1
        return super().read(name)


@pytest.fixture
def blobs(tmp_path: Path) -> Broken:
    return Broken(str(tmp_path))


@pytest.fixture
def quarantine(blobs: Broken, ledger: Ledger) -> Quarantine:
    return Quarantine(blobs, ledger.withheld)


@pytest.fixture
def writers() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture
def lease(ledger: Ledger) -> Lease:
    planned(ledger, "job", total=4, shard_size=4)
    [item] = begin_all(ledger, US)
    return item.lease


def image(image_id: str = "A", sha256: str = "a" * 64, **said: Any) -> Waiting:
    known = WithheldImage(
        image_id=image_id,
        sha256=sha256,
        reason="it is ultrasound",
        job="job",
        time=datetime.now(UTC),
        metadata={"image_id": image_id, "patient_id": "P1", **said},
        source={"kind": "dataset"},
        width=4,
        height=3,
    )
    return Waiting(known, b"png", b"jpeg")


def listed(quarantine: Quarantine) -> list[str]:
    return [each.name for each in quarantine.ledger.page(0, 100)]


def folders(quarantine: Quarantine) -> set[str]:
    return {name.rsplit("/", 2)[1] for name in quarantine.blobs.walk("quarantine")}


@pytest.mark.parametrize("at", STEPS)
def test_what_ends_while_it_is_written_is_found_by_deletions_and_written_again(
    quarantine: Quarantine, blobs: Broken, lease: Lease, writers: Executor, at: str
) -> None:
    blobs.at, blobs.name = at, "write"
    with pytest.raises(BlobsUnavailable):
        quarantine.put(lease, [image()], writers)

    name = image().name
    assert listed(quarantine) == []
    keys = [tombstone_key("patient_id", "P1")]
    assert [found for found, _ in quarantine.found_by_keys(keys)] == [name]
    assert quarantine.ledger.names_of([point_id("A")]) == [name]

    assert quarantine.put(lease, [image()], writers)
    assert listed(quarantine) == [name]
    known = quarantine.known(name)
    assert known is not None and known.metadata["patient_id"] == "P1"
    assert quarantine.put(lease, [image()], writers), "once more is no harm"
    assert listed(quarantine) == [name]


def test_what_is_never_finished_goes_with_the_sweep(
    quarantine: Quarantine, blobs: Broken, ledger: Ledger, lease: Lease, writers: Executor
) -> None:
    blobs.at, blobs.name = "image.json", "write"
    with pytest.raises(BlobsUnavailable):
        quarantine.put(lease, [image()], writers)
    quarantine.sweep()
    assert folders(quarantine), "somebody may be at it"

    redis: Any = ledger.jobs._script.redis
    redis.zadd(f"{ledger.namespace}:withheld:unfinished", {image().name: time.time() - 3700})
    quarantine.sweep()

    assert folders(quarantine) == set()
    assert list(quarantine.ledger.all()) == []
    assert quarantine.ledger.names_of([point_id("A")]) == []


def test_a_folder_that_nobody_knows_goes_when_it_is_old(
    quarantine: Quarantine, blobs: Broken, lease: Lease, writers: Executor, tmp_path: Path
) -> None:
    quarantine.put(lease, [image("A"), image("B")], writers)
    orphan = name_of(point_id("C"), "c" * 64)
    blobs.write(f"{withheld_folder(orphan)}/picture.png", b"of a frozen worker")
    quarantine.sweep()
    assert orphan in folders(quarantine)

    long_ago = time.time() - 3700
    for file in tmp_path.rglob("*"):
        os.utime(file, (long_ago, long_ago))
    quarantine.sweep()

    assert folders(quarantine) == {image("A").name, image("B").name}


def test_a_worker_that_has_lost_its_lease_lists_nothing_and_leaves_nothing(
    quarantine: Quarantine, blobs: Broken, ledger: Ledger, lease: Lease, writers: Executor
) -> None:
    stale = Lease(lease.job, lease.item, "stale")
    assert not quarantine.put(stale, [image()], writers)
    assert folders(quarantine) == set()

    write = blobs.write

    def lose(name: str, data: bytes) -> None:
        """Another worker has done the row, and an admin has refused it, all in this moment."""
        write(name, data)
        if name.endswith("image.json"):
            ledger.jobs.release(lease)
            quarantine.ledger.unlist([image().name])
            quarantine.ledger.forget([image().name])

    blobs.write = lose  # type: ignore[method-assign]
    assert not quarantine.put(lease, [image()], writers)
    assert (listed(quarantine), folders(quarantine)) == ([], set())


def test_another_file_of_an_image_takes_its_place(
    quarantine: Quarantine, lease: Lease, writers: Executor
) -> None:
    quarantine.put(lease, [image(sha256="a" * 64)], writers)
    quarantine.put(lease, [image(sha256="b" * 64)], writers)

    assert listed(quarantine) == [image(sha256="b" * 64).name]
    assert folders(quarantine) == {image(sha256="b" * 64).name}


def test_a_removal_that_ends_half_way_is_completed(
    quarantine: Quarantine, blobs: Broken, lease: Lease, writers: Executor
) -> None:
    quarantine.put(lease, [image("A"), image("B")], writers)
    blobs.at, blobs.name = image("B").name, "delete"
    names = [image("A").name, image("B").name]
    with pytest.raises(BlobsUnavailable):
        quarantine.remove(names)
    assert listed(quarantine) == [], "nobody sees half of it"
    assert set(quarantine.ledger.unfinished(-1, 10)) == set(names), "the sweep will find it"

    quarantine.remove(quarantine.ledger.names_of([point_id("A"), point_id("B")]))

    assert folders(quarantine) == set()
    assert list(quarantine.ledger.all()) == []


def test_a_release_is_of_all_or_none_and_one_at_a_time(
    quarantine: Quarantine, ledger: Ledger, lease: Lease, writers: Executor
) -> None:
    quarantine.put(lease, [image("A"), image("B")], writers)
    a, b, c = (image(each).name for each in "ABC")
    with pytest.raises(NotFound):
        quarantine.ledger.release([a, c], "r0", INGEST, "{}")
    assert ledger.jobs.unknown(["r0"]) == ["r0"]

    quarantine.ledger.release([a], "r1", INGEST, "{}")
    assert [each.releasing for each in quarantine.ledger.page(0, 9)] == ["r1", None]
    for impossible in ([a], [b, a]):
        with pytest.raises(Conflict, match="r1"):
            quarantine.ledger.release(impossible, "r2", INGEST, "{}")
        with pytest.raises(Conflict):
            quarantine.refuse(impossible)
    assert listed(quarantine) == [a, b]

    ledger.jobs.transition("r1", "cancel")
    with pytest.raises(Conflict):  # it is not put away: the image may be indexed
        quarantine.refuse([a])
    ledger.jobs.tidied("r1")
    quarantine.ledger.release([a, b], "r3", INGEST, "{}")
    assert [each.releasing for each in quarantine.ledger.page(0, 9)] == ["r3", "r3"]


def test_what_was_refused_is_known_by_its_picture_until_it_is_allowed(
    quarantine: Quarantine, lease: Lease, writers: Executor
) -> None:
    quarantine.put(lease, [image("A")], writers)
    quarantine.refuse([image("A").name])

    assert (listed(quarantine), folders(quarantine)) == ([], set())
    same, other = image("elsewhere").name, image("A", "b" * 64).name
    assert quarantine.ledger.look([same, other]) == (set(), {same})
    assert quarantine.ledger.allow([point_id("B")]) == 0
    assert quarantine.ledger.allow([point_id("A")]) == 1
    assert quarantine.ledger.look([same]) == (set(), set())


def test_pages_have_all_in_their_order_whatever_leaves_meanwhile(
    quarantine: Quarantine, lease: Lease, writers: Executor
) -> None:
    names = [image(str(n)).name for n in range(10)]
    for n in range(0, 10, 2):
        quarantine.put(lease, [image(str(n)), image(str(n + 1))], writers)
    assert listed(quarantine) == names
    first = quarantine.ledger.page(0, 4)
    quarantine.remove([first[3].name, names[5]])
    rest = quarantine.ledger.page(first[3].place, 100)
    assert [each.name for each in [*first, *rest]] == [*names[:5], *names[6:]]


@pytest.mark.story
@pytest.mark.parametrize("_backend", ["redis"], indirect=True)
def test_looking_costs_the_same_for_200_and_200_000(backend: Backend, ledger: Ledger) -> None:
    seen = []
    for many in (FEW, MANY):
        backend.redis.flushall()
        _fill(backend, ledger, many)
        backend.redis.config_resetstat()
        assert len(ledger.withheld.page(0, 50)) == 50
        assert ledger.withheld.count() == many
        points = [point_id(str(n)) for n in range(100)]
        assert len(ledger.withheld.find(points)) == 100
        assert len(ledger.withheld.names_of(points)) == 100
        ledger.withheld.look([name_of(point, "a" * 64) for point in points])
        stats = backend.redis.info("commandstats")
        seen.append({name: one["calls"] for name, one in stats.items()})
    assert seen[0] == seen[1]
    assert not any(name in seen[1] for name in ("cmdstat_hgetall", "cmdstat_hscan"))
    # What has to look at all of them does so in pages.
    [found] = [*ledger.withheld.mentioning([tombstone_key("image_id", "7")])]
    assert found == name_of(point_id("7"), "a" * 64)


def _fill(backend: Backend, ledger: Ledger, many: int) -> None:
    """As if so many had come, without a job that brings them."""
    key, page = f"{ledger.namespace}:withheld", 10_000
    for start in range(0, many, page):
        ids = [str(n) for n in range(start, min(many, start + page))]
        names = {name_of(point_id(each), "a" * 64): each for each in ids}
        backend.redis.zadd(key, {name: int(each) + 1 for name, each in names.items()})
        points = {name.partition("-")[0]: name for name in names}
        backend.redis.hset(f"{key}:points", mapping=points)
        entries = {name: _entry(each) for name, each in names.items()}
        backend.redis.hset(f"{key}:entries", mapping=entries)


def _entry(image_id: str) -> str:
    keys = digests_of([tombstone_key("image_id", image_id), tombstone_key("patient_id", "P")])
    return json.dumps({"reason": "it is ultrasound", "job": "j", "keys": keys})
