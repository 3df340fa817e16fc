"""An audit of labels over a real store: what it finds, what it forgets, what people decided."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from pipeline.base.blobs import Blobs, label_audit_folder
from pipeline.base.errors import InvalidQuery, NotFound
from pipeline.base.identity import point_id
from pipeline.ledger import Ledger, WorkItem
from pipeline.lifecycle import audit_jobs
from pipeline.lifecycle.audit_jobs import AuditJobs
from pipeline.lifecycle.audit_reports import LabelAudits
from pipeline.lifecycle.tombstone_keys import keys_of_images
from pipeline.messages.label_audits import Decision, Finding, LabelAuditRequest
from pipeline.operations.label_audit import LABEL_AUDIT
from pipeline.retrieval.fields import Fields
from pipeline.store.edge import EdgeStore
from tests import planted_labels
from tests.ledger_steps import worker
from tests.memory_ledger import memory_ledgers

US = "worker"


@pytest.fixture
def ledger() -> Ledger:
    ledger = memory_ledgers().of("kindred")
    ledger.workers.beat(worker(US, lanes=1, queue=LABEL_AUDIT.queue))
    return ledger


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EdgeStore]:
    store = planted_labels.open_store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def audits(tmp_path: Path, ledger: Ledger) -> LabelAudits:
    return LabelAudits(Blobs(str(tmp_path / "blobs")), ledger)


@pytest.fixture
def auditor(store: EdgeStore, audits: LabelAudits, ledger: Ledger) -> AuditJobs:
    fields = Fields(store, planted_labels.INDEXES)
    return AuditJobs(store, fields, audits, ledger.jobs, lambda: False)


def begin(auditor: AuditJobs, **wanted: object) -> WorkItem:
    """The shard of an audit that is planned."""
    audit, jobs = str(uuid4()), auditor.jobs
    auditor.audits.write_request(audit, LabelAuditRequest(label="dx", **wanted))
    jobs.create(audit, LABEL_AUDIT.name, LABEL_AUDIT.queue, "")
    (lease,) = jobs.dispatch()
    plan = jobs.begin(lease, US)
    assert plan is not None
    total = auditor.count(audit)
    jobs.planned(plan.lease, total, total)
    return again(auditor)


def again(auditor: AuditJobs) -> WorkItem:
    (lease,) = auditor.jobs.dispatch()
    item = auditor.jobs.begin(lease, US)
    assert item is not None
    return item


def audit(auditor: AuditJobs, **wanted: object) -> str:
    item = begin(auditor, **wanted)
    assert auditor.run(item)
    record = auditor.jobs.get(item.lease.job)
    assert (record.state, record.counts) == ("succeeded", {"audited": record.total})
    return item.lease.job


def found(audits: LabelAudits, audit_id: str, kind: str) -> list[Finding]:
    return [each for each in audits.findings(audit_id) if each.kind == kind]


def ids(finding: Finding) -> set[str]:
    return {image.image_id for image in finding.images}


def test_planted_copies_and_wrong_labels_are_all_found_and_lead(
    store: EdgeStore, auditor: AuditJobs, audits: LabelAudits
) -> None:
    wrong = planted_labels.planted(store)

    done = audit(auditor)

    (conflict,) = found(audits, done, "conflicting_copies")
    assert ids(conflict) == {"I0000", "C0"}
    assert (conflict.same_bytes, conflict.hash_distance, conflict.evidence) == (True, 0, 1.0)
    same, near = found(audits, done, "copies")
    assert (ids(same), same.same_bytes) == ({"I0001", "C1"}, True)
    assert (ids(near), near.same_bytes) == ({"I0002", "C2"}, False)
    assert near.hash_distance is not None and 0 < near.hash_distance <= 8
    suspects = found(audits, done, "unlike_neighbours")
    first = suspects[: len(wrong)]
    assert {each.images[0].image_id: each.suggested for each in first} == wrong
    assert [each.rank for each in suspects] == [*range(1, len(suspects) + 1)]
    for each in suspects:
        assert len(each.neighbours) == 10
        assert all(near.label != each.images[0].label for near in each.neighbours)
        assert each.neighbours[0].similarity >= each.neighbours[-1].similarity
    assert [each.place for each in audits.findings(done)] == [*range(3 + len(suspects))]


def test_neighbours_are_neither_of_the_group_nor_copies(
    store: EdgeStore, auditor: AuditJobs, audits: LabelAudits
) -> None:
    planted_labels.planted(store)

    done = audit(auditor)

    for each in found(audits, done, "unlike_neighbours"):
        image = each.images[0]
        assert image.group not in {near.group for near in each.neighbours}
        assert image.image_id not in {near.image_id for near in each.neighbours}


def test_a_repeat_comes_to_the_same_also_after_a_kill_and_a_pause(
    store: EdgeStore,
    auditor: AuditJobs,
    audits: LabelAudits,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planted_labels.planted(store)
    once = [*audits.findings(audit(auditor))]
    monkeypatch.setattr(audit_jobs, "_TICK", 0.0)
    item = begin(auditor)

    assert not replace(auditor, stopping=lambda: True).run(item)  # SIGTERM
    ledger.jobs.release(item.lease)
    item = again(auditor)
    ledger.jobs.transition(item.lease.job, "pause")
    assert not auditor.run(item)
    ledger.jobs.release(item.lease)
    assert audits.report(item.lease.job) is None
    ledger.jobs.transition(item.lease.job, "resume")
    assert auditor.run(again(auditor))

    assert [*audits.findings(item.lease.job)] == once


def test_what_was_killed_behind_its_report_is_finished(
    store: EdgeStore, auditor: AuditJobs, audits: LabelAudits, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted_labels.planted(store)
    item = begin(auditor)
    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(type(auditor.jobs), "finish", lambda *_: (_ for _ in ()).throw(SystemExit))
        auditor.run(item)
    auditor.jobs.release(item.lease)

    assert auditor.run(again(auditor))
    assert auditor.jobs.get(item.lease.job).state == "succeeded"


def test_only_the_best_are_kept_and_the_others_are_counted(
    store: EdgeStore, auditor: AuditJobs, audits: LabelAudits
) -> None:
    wrong = planted_labels.planted(store)
    every = found(audits, audit(auditor), "unlike_neighbours")

    done = audit(auditor, most=4)

    kept = found(audits, done, "unlike_neighbours")
    assert [each.id for each in kept] == [each.id for each in every[:4]]
    report = audits.report(done)
    assert report is not None
    assert report.dropped["unlike_neighbours"] == len(every) - 4 >= len(wrong) - 4


def test_a_decision_holds_in_the_next_audit_as_long_as_the_label_does(
    store: EdgeStore, auditor: AuditJobs, audits: LabelAudits, ledger: Ledger
) -> None:
    planted_labels.planted(store)
    first = found(audits, audit(auditor), "unlike_neighbours")[0]
    decision = Decision(verdict="dismissed", by="K", at=datetime.now(UTC))
    audits.decide(first, decision)

    again = found(audits, audit(auditor), "unlike_neighbours")
    assert ledger.decisions.of([each.id for each in again]) == {first.id: decision}
    point = point_id(first.images[0].image_id)
    relabelled = store.retrieve([point])[point].payload | {"dx": "something else"}
    store.set_payloads({point: relabelled})
    later = found(audits, audit(auditor), "unlike_neighbours")
    assert first.images[0].image_id in {each.images[0].image_id for each in later}
    assert ledger.decisions.of([each.id for each in later]) == {}
    audits.decide(first, None)
    assert ledger.decisions.of([first.id]) == {}


def keys_of(ledger: Ledger) -> set[str]:
    redis = ledger.decisions._redis
    return set(redis.hkeys("kindred:kindred:decisions")) | set(
        redis.zrange("kindred:kindred:decisions:points", 0, -1)
    )


def test_a_deleted_image_is_in_no_finding_and_no_decision(
    store: EdgeStore, auditor: AuditJobs, audits: LabelAudits, ledger: Ledger, tmp_path: Path
) -> None:
    planted_labels.planted(store)
    done = audit(auditor)
    (conflict,) = found(audits, done, "conflicting_copies")
    suspects = found(audits, done, "unlike_neighbours")
    gone = ["C0", suspects[0].images[0].image_id, suspects[1].neighbours[0].image_id]
    for each in (conflict, suspects[0], suspects[1]):
        audits.decide(each, Decision(verdict="confirmed", by="K", at=datetime.now(UTC)))

    ledger.tombstones.add(keys_of_images(gone), "D")
    audits.forget(gone)
    audits.forget_deleted()

    kept = [*audits.findings(done)]
    assert not {image.image_id for each in kept for image in each.images} & {*gone}
    assert suspects[1].id in {each.id for each in kept}  # its other neighbours still speak
    pages = b"".join(path.read_bytes() for path in (tmp_path / "blobs").rglob("*.json"))
    assert not any(f'"{image_id}"'.encode() in pages for image_id in gone)
    assert keys_of(ledger) == {suspects[1].id, f"{_point(suspects[1])}:{suspects[1].id}"}
    with pytest.raises(NotFound):
        audits.finding(done, conflict.id)


def test_what_was_deleted_while_it_was_audited_is_not_written(
    store: EdgeStore, auditor: AuditJobs, audits: LabelAudits, ledger: Ledger
) -> None:
    planted_labels.planted(store)
    ledger.tombstones.add(keys_of_images(["C0"]), "D")  # the store has it still

    done = audit(auditor)

    assert found(audits, done, "conflicting_copies") == []


def test_nobody_decides_on_what_was_deleted_just_now(
    store: EdgeStore, auditor: AuditJobs, audits: LabelAudits, ledger: Ledger
) -> None:
    planted_labels.planted(store)
    (conflict,) = found(audits, audit(auditor), "conflicting_copies")
    ledger.tombstones.add(keys_of_images(["C0"]), "D")

    with pytest.raises(NotFound):
        audits.decide(conflict, Decision(verdict="confirmed", by="K", at=datetime.now(UTC)))
    assert keys_of(ledger) == set()


def test_the_filter_goes_when_the_audit_has_ended(
    store: EdgeStore, auditor: AuditJobs, audits: LabelAudits, tmp_path: Path
) -> None:
    planted_labels.planted(store)
    condition = {"must": [{"key": "lesion_id", "match": {"except": ["L77"]}}]}

    done = audit(auditor, filter=condition)

    report = audits.report(done)
    assert report is not None
    assert report.filtered
    assert report.images == 301
    folder = tmp_path / "blobs" / label_audit_folder(done)
    assert not (folder / "request.json").exists()
    assert b"except" not in (folder / "report.json").read_bytes()


def test_a_field_that_no_image_has_is_refused(store: EdgeStore, auditor: AuditJobs) -> None:
    planted_labels.planted(store, 20)
    for label in ("dxx", "source", "lesion_id"):
        audit_id = str(uuid4())
        auditor.audits.write_request(audit_id, LabelAuditRequest(label=label))
        with pytest.raises(InvalidQuery):
            auditor.count(audit_id)


def test_images_without_labels_are_copies_and_nothing_else(
    store: EdgeStore, auditor: AuditJobs, audits: LabelAudits
) -> None:
    planted_labels.planted(store, 40)
    rng = np.random.default_rng(3)
    twin = planted_labels.payload(900)
    rows = [twin, {**twin, "image_id": "C900"}]
    point = planted_labels.vectors(rng, np.array([0]))
    planted_labels.fill(store, rows, np.concatenate([point, point]))

    done = audit(auditor, most=50)

    pairs = [ids(each) for each in found(audits, done, "copies")]
    assert {"I0900", "C900"} in pairs
    assert len(found(audits, done, "conflicting_copies")) == 1


def test_where_no_image_has_a_label_it_says_so(store: EdgeStore, auditor: AuditJobs) -> None:
    planted_labels.planted(store, 20)
    found = planted_labels.vectors(np.random.default_rng(3), np.array([0]))
    planted_labels.fill(store, [planted_labels.payload(900, lesion_id="none")], found)
    condition = {"must": [{"key": "lesion_id", "match": {"value": "none"}}]}
    audit_id = str(uuid4())
    auditor.audits.write_request(audit_id, LabelAuditRequest(label="dx", filter=condition))

    with pytest.raises(InvalidQuery):
        auditor.count(audit_id)


def _point(finding: Finding) -> str:
    return str(point_id(finding.images[0].image_id))
