"""What a job's report says of drift, over a real store: whom it compares with whom."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.base.blobs import Blobs
from pipeline.ledger import JobRecord
from pipeline.lifecycle.drift import DriftWatch
from pipeline.lifecycle.drift_reports import forget_drift, read_drift
from pipeline.messages.drift import GroupDrift
from pipeline.store.edge import EdgeStore
from tests import planted_labels
from tests.planted_labels import DIMENSIONS

FIELDS = ("site", "manufacturer", "model")
KNOWN = {"manufacturer": "Siemens", "model": "Artis"}
NEW = {"manufacturer": "Canon", "model": "Alphenix"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EdgeStore]:
    store = planted_labels.open_store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def watch(tmp_path: Path, store: EdgeStore) -> DriftWatch:
    return DriftWatch(store, Blobs(str(tmp_path / "blobs")), FIELDS, "lesion_id")


def bring(
    store: EdgeStore, job: str, first: int, count: int, shift: float = 0.0, **said: Any
) -> None:
    """Images of a job; `shift` moves all their vectors, as another camera does."""
    rng = np.random.default_rng(first)
    found = planted_labels.vectors(rng, rng.integers(0, 3, count))
    found[:, 0] += shift * np.sqrt(DIMENSIONS) / 4
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    rows = [
        planted_labels.payload(first + n, source={"job": job}, lesion_id=f"L{first + n}", **said)
        for n in range(count)
    ]
    planted_labels.fill(store, rows, found)


def ended(job: str, embedded: int, **request: Any) -> JobRecord:
    return JobRecord(
        id=job,
        operation="ingest",
        queue="ingest",
        request=json.dumps(request),
        state="succeeded",
        total=embedded,
        counts={"embedded": embedded},
        images_per_second=None,
        created_at=0,
        started_at=0,
        finished_at=0,
        error=None,
    )


def said(watch: DriftWatch, job: str, embedded: int = 100, **request: Any) -> list[GroupDrift]:
    watch.look(ended(job, embedded, **request))
    report = read_drift(watch.blobs, job)
    assert report is not None
    return list(report.groups)


def test_a_new_camera_is_named_and_the_known_one_is_not(
    store: EdgeStore, watch: DriftWatch
) -> None:
    bring(store, "old", 0, 600, **KNOWN)
    bring(store, "new", 1000, 100, **KNOWN)
    bring(store, "new", 2000, 60, shift=1.0, **NEW)

    unlike, usual = said(watch, "new")

    assert (unlike.values, unlike.drifted, unlike.sampled) == (NEW, True, 60)
    assert unlike.beyond > 40
    assert not unlike.own  # there are no others of this camera
    assert (usual.values, usual.drifted, usual.own) == (KNOWN, False, True)


def test_a_camera_that_breaks_is_compared_with_itself(store: EdgeStore, watch: DriftWatch) -> None:
    """The collection has another camera, whose images lie as far out as those of the broken one."""
    bring(store, "old", 0, 500, **KNOWN)
    bring(store, "other", 3000, 300, shift=2.0, **NEW)
    bring(store, "new", 1000, 100, shift=2.0, **KNOWN)
    bring(store, "fine", 5000, 100, shift=2.0, **NEW)

    (broken,) = said(watch, "new")
    (fine,) = said(watch, "fine")

    assert (broken.own, fine.own, fine.drifted) == (True, True, False)


def test_the_first_job_of_a_collection_says_nothing(store: EdgeStore, watch: DriftWatch) -> None:
    bring(store, "first", 0, 300, **KNOWN)

    assert said(watch, "first") == []


@pytest.mark.parametrize(("embedded", "request_"), [(19, {}), (100, {"dry_run": True})])
def test_a_job_that_brought_little_or_nothing_costs_nothing(
    store: EdgeStore, watch: DriftWatch, embedded: int, request_: dict[str, Any]
) -> None:
    bring(store, "old", 0, 600)
    watch.look(ended("new", embedded, **request_))

    assert read_drift(watch.blobs, "new") is None


def test_many_images_of_one_patient_count_once(store: EdgeStore, watch: DriftWatch) -> None:
    bring(store, "old", 0, 600)
    bring(store, "new", 1000, 100, shift=1.0, patient_id="one")

    assert said(watch, "new") == []


def test_without_a_device_the_job_is_compared_as_a_whole(
    store: EdgeStore, watch: DriftWatch
) -> None:
    bring(store, "old", 0, 600)
    bring(store, "new", 1000, 100, shift=1.0)

    (all_,) = said(watch, "new")

    assert (all_.values, all_.drifted) == ({}, True)


def test_it_is_said_once_and_again_after_a_retry(store: EdgeStore, watch: DriftWatch) -> None:
    bring(store, "old", 0, 600)
    bring(store, "new", 1000, 100)
    before = said(watch, "new")
    bring(store, "new", 2000, 100, shift=1.0)

    assert said(watch, "new") == before
    forget_drift(watch.blobs, "new")
    assert said(watch, "new") != before


def test_a_store_that_fails_ends_nothing_and_no_value_is_logged(
    store: EdgeStore,
    watch: DriftWatch,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("Siemens Artis")

    monkeypatch.setattr(EdgeStore, "scroll", fails)
    with caplog.at_level(logging.WARNING, "kindred.drift"):
        watch.look(ended("new", 100))

    assert read_drift(watch.blobs, "new") is None
    (record,) = caplog.records
    assert "Siemens" not in json.dumps({k: str(v) for k, v in vars(record).items()})


@pytest.mark.parametrize("seed", range(20))
def test_a_job_like_the_others_is_not_called_unlike(
    store: EdgeStore, watch: DriftWatch, seed: int
) -> None:
    bring(store, "old", 10_000 * seed, 500, **KNOWN)
    bring(store, "new", 10_000 * seed + 5000, 80, **KNOWN)

    assert not any(each.drifted for each in said(watch, "new"))
