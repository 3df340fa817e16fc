"""Care of the collection as a user has it: audits of labels, deletions, backups, and drift."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.base.identity import point_id
from pipeline.base.keys import KeyFile, Role
from pipeline.base.states import FINAL_STATES
from tests import burned_in
from tests.story.test_parity import run
from tests.system import WAIT, System, contents, kill, until

COLOURS = {"nevus": (200, 40, 40), "melanoma": (40, 200, 40)}
WRONG, TWICE = "PLANTED-WRONG", "PLANTED-TWICE"

Said = dict[str, Any]


def picture(seed: int, colour: tuple[int, int, int]) -> bytes:
    noise = np.random.default_rng(seed).integers(-40, 40, (48, 64, 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype("uint8")).save(file, "PNG")
    return file.getvalue()


def rows(first: int, count: int, **said: str) -> list[tuple[dict[str, str], bytes]]:
    labels = [[*COLOURS][n % 2] for n in range(first + count)]
    return [
        ({"image_id": f"I{n}", "dx": labels[n], **said}, picture(n, COLOURS[labels[n]]))
        for n in range(first, first + count)
    ]


def send(system: System, sent: list[tuple[dict[str, str], bytes]]) -> Said:
    files = [("files", (f"{n}.png", data)) for n, (_, data) in enumerate(sent)]
    said = {"metadata": json.dumps([each for each, _ in sent])}
    job = system.http.post("/v1/images", files=files, data=said).raise_for_status().json()
    done = system.finished(job["id"])
    assert done["embedded"] == len(sent), done
    return done


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    """250 images, of which one has the wrong label and one is there again with another."""
    with System(tmp_path_factory.mktemp("care"), encoder, DICOM_OCR="off") as running:
        sent = rows(0, 250)
        sent[4] = ({"image_id": WRONG, "dx": "melanoma"}, sent[4][1])
        sent.append(({"image_id": TWICE, "dx": "nevus"}, sent[1][1]))
        for start in range(0, len(sent), 100):
            send(running, sent[start : start + 100])
        scan = burned_in.dicom(burned_in.scan(1, "MUSTERMANN"), burned_in.ULTRASOUND, "US")
        held = running.http.post("/v1/images", files=[("files", ("a.dcm", scan))]).json()
        assert running.finished(held["id"])["quarantined"] == 1
        yield running


def start(system: System) -> str:
    answer = system.http.post("/v1/label-audits", json={"label": "dx"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def ended(system: System, audit: str) -> Said:
    def end() -> Said | None:
        view: Said = system.http.get(f"/v1/label-audits/{audit}").raise_for_status().json()
        return view if view["job"]["state"] in FINAL_STATES else None

    found: Said = until(end, "the end of the audit")
    assert found["job"]["state"] == "succeeded", found
    return found


def findings(system: System, audit: str, **only: str) -> list[Said]:
    """All, three at a time."""
    found: list[Said] = []
    cursor: int | None = 0
    while cursor is not None:
        path = f"/v1/label-audits/{audit}/findings"
        page = system.http.get(path, params={"cursor": cursor, "limit": 3, **only}).json()
        found += page["findings"]
        cursor = page["cursor"]
    return found


def ids(finding: Said) -> set[str]:
    return {image["image_id"] for image in finding["images"]}


def test_an_audit_finds_what_is_planted_and_nothing_that_waits(system: System) -> None:
    audit = start(system)
    view = ended(system, audit)

    assert view["job"]["counts"] == {"audited": 251}  # the image in quarantine is none of them
    assert view["report"]["images"] == 251
    (pair,) = findings(system, audit, kind="conflicting_copies")
    assert (ids(pair), pair["same_bytes"]) == ({"I1", TWICE}, True)
    (waiting,) = system.http.get("/v1/quarantine").json()["images"]
    suspects = findings(system, audit, kind="unlike_neighbours")
    assert {image for each in suspects[:2] for image in ids(each)} == {WRONG, TWICE}
    assert waiting["image_id"] not in json.dumps(findings(system, audit))
    picture_of = system.http.get(pair["preview_urls"][0])
    assert picture_of.headers["content-type"] == "image/jpeg"


def test_a_worker_that_is_killed_changes_nothing(system: System) -> None:
    before = start(system)
    ended(system, before)
    audit = start(system)
    kill(system.worker)
    system.restart_worker()
    ended(system, audit)

    one, other = findings(system, before), findings(system, audit)
    assert [each["id"] for each in one] == [each["id"] for each in other]


def test_the_command_line_prints_and_exports_them(system: System, tmp_path: Path) -> None:
    printed = run(system, "audit-labels", "--label", "dx")
    assert "251 of 251 images compared" in printed
    assert WRONG in printed
    audit = printed.partition("label audit ")[2].partition(":")[0]
    (pair,) = findings(system, audit, kind="conflicting_copies")
    decided = f"/v1/label-audits/{audit}/findings/{pair['id']}"
    system.http.post(f"{decided}/dismiss").raise_for_status()

    said = run(system, "audit-labels", "--show", audit, "--csv", tmp_path / "found.csv")

    assert "findings in" in said
    with (tmp_path / "found.csv").open(encoding="utf-8-sig", newline="") as file:
        table = {(row["kind"], row["image_id"]): row for row in csv.DictReader(file)}
    row = table["conflicting_copies", "I1"]
    assert (row["other_image_id"], row["state"], row["decided_by"]) == (TWICE, "dismissed", "local")
    wrong = table["unlike_neighbours", WRONG]
    assert (wrong["suggested_label"], wrong["state"]) == ("nevus", "open")
    assert len(wrong["neighbour_ids"].split()) == 10
    served = system.http.get(f"/v1/label-audits/{audit}/findings.csv").text
    assert served.count("\r\n") == len(table) + 1
    system.http.post(f"{decided}/undo").raise_for_status()


def test_a_device_that_lies_unlike_the_collection_is_named(system: System) -> None:
    blue = [
        ({"image_id": f"B{n}", "manufacturer": "Newcam"}, picture(900 + n, (20, 20, 230)))
        for n in range(30)
    ]
    usual = send(system, rows(400, 30, manufacturer="Oldcam"))
    unlike = send(system, blue)

    def known(job: Said) -> list[Said]:
        def look() -> Said | None:
            found: Said = system.http.get(f"/v1/jobs/{job['id']}/drift").json()
            return found if found["state"] == "known" else None

        groups: list[Said] = until(look, "what is known of drift")["groups"]
        return groups

    (found,) = known(unlike)
    assert (found["values"], found["drifted"]) == ({"manufacturer": "Newcam"}, True)
    assert found["beyond"] > 25
    (found,) = known(usual)
    assert not found["drifted"]
    line = "of the 30 images sampled of manufacturer Newcam"
    assert line in run(system, "jobs", "show", unlike["id"])
    assert "unlike the collection" not in run(system, "jobs", "show", usual["id"])
    redis = system.client()
    assert not any(
        "Newcam" in str(redis.hgetall(key)) for key in redis.scan_iter("*:job:*", _type="hash")
    )
    redis.close()
    assert "Newcam" not in system.logs()


def test_of_a_deleted_image_nothing_is_left_in_findings_decisions_and_backups(
    system: System, tmp_path: Path
) -> None:
    audit = start(system)
    ended(system, audit)
    (pair,) = findings(system, audit, kind="conflicting_copies")
    path = f"/v1/label-audits/{audit}/findings/{pair['id']}"
    system.http.post(f"{path}/confirm").raise_for_status()
    assert findings(system, audit, decision="confirmed")

    gone = system.http.post("/v1/deletions", json={"image_ids": [TWICE]}, headers=WAIT).json()

    assert gone["state"] == "succeeded", gone
    assert findings(system, audit, kind="conflicting_copies") == []
    assert TWICE not in json.dumps(findings(system, audit))
    assert system.http.post(f"{path}/confirm").status_code == 404
    ended(system, audit)  # its numbers are counted again
    held = [str(file) for file, data in contents(system.blobs) if TWICE.encode() in data]
    # The receipt proves the deletion, and the list of an upload keeps the id for a retry.
    assert not [file for file in held if "deletions" not in file and "manifest" not in file]
    redis = system.client()
    assert str(point_id(TWICE)) not in str(redis.zrange("kindred:kindred:decisions:points", 0, -1))
    assert not redis.exists("kindred:kindred:decisions")
    redis.close()
    run(system, "backup", tmp_path / "backup")
    assert (tmp_path / "backup").is_dir()


def key(system: System, role: Role) -> str:
    return KeyFile(system.folder / "keys.json").create(f"ward of {role}", role)[1]


def test_only_an_admin_sees_them_and_the_audit_log_says_which(system: System) -> None:
    """The last one: from here on, calls need a key."""
    audit = start(system)
    ended(system, audit)
    searcher, admin = key(system, "ingest"), key(system, "admin")

    def get(path: str, given: str) -> Any:
        return system.http.get(path, headers={"Authorization": f"Bearer {given}"})

    until(lambda: get("/v1/session", admin).status_code == 200, "the keys")
    path = f"/v1/label-audits/{audit}/findings"
    for each in ("", "/findings", "/findings.csv"):
        assert get(f"/v1/label-audits/{audit}{each}", searcher).status_code == 403
    shown = get(path, admin).raise_for_status().json()["findings"]
    decided = system.http.post(
        f"{path}/{shown[0]['id']}/confirm", headers={"Authorization": f"Bearer {admin}"}
    ).json()["decision"]
    (used,) = [k for k in KeyFile(system.folder / "keys.json").read() if k.role == "admin"]
    assert decided["by"] == used.id
    log = (system.folder / "logs" / "audit.jsonl").read_text("utf-8").splitlines()
    lines = [json.loads(line) for line in log]
    listed = [line for line in lines if line["call"].endswith("/findings") and "shown" in line][-1]
    assert WRONG in listed["shown"]
    assert listed["job"] == audit
