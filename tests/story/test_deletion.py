"""Deleted is deleted: from store, previews and uploads, and it does not come back."""

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from cli.client import Client
from cli.deletions import confirm, make_deletion
from pipeline.base.identity import point_id
from pipeline.lifecycle.deletion import deleted_by
from tests.story.test_parity import run
from tests.system import WAIT, System, kill, until

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rows(drawn: Path) -> Rows:
    return list(datasets.load_dataset(str(drawn), split="train").remove_columns("image"))


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, encoder: Path, drawn: Path
) -> Iterator[System]:
    """One image a batch, so that a job can be met in the middle."""
    with System(tmp_path_factory.mktemp("deletion"), encoder, BATCH_SIZE="1", LANES="1") as running:
        running.ingest(drawn)
        yield running


def indexed(system: System) -> set[str]:
    return {image["image_id"] for image in system.indexed()}


def delete(system: System, **wanted: Any) -> Any:
    answer = system.http.post("/v1/deletions", json=wanted, headers=WAIT)
    assert answer.status_code == 200, answer.text
    return answer.json()


def rejections(system: System, job: dict[str, Any]) -> dict[str, str]:
    found = system.http.get(f"/v1/jobs/{job['id']}/rejections", params={"limit": 1000}).json()
    return {r["image_id"]: r["reason"] for r in found["rejections"]}


def test_an_image_is_gone_and_the_next_ingest_does_not_bring_it_back(
    system: System, rows: Rows, drawn: Path
) -> None:
    image_id = rows[3]["image_id"]
    preview = system.blobs / "previews" / point_id(image_id).hex[:2]
    assert list(preview.glob(f"{point_id(image_id)}*"))

    gone = delete(system, image_ids=[image_id])

    assert (gone["count"], gone["image_ids"]) == (1, [image_id])
    assert system.http.get(f"/v1/images/{image_id}").status_code == 404
    assert system.http.get(f"/v1/images/{image_id}/preview").status_code == 404
    assert not list(preview.glob(f"{point_id(image_id)}*"))
    again = system.ingest(drawn)
    assert again["state"] == "completed_with_rejections"
    assert (again["embedded"], again["unchanged"], again["rejected"]) == (0, 199, 1)
    assert rejections(system, again) == {image_id: deleted_by(gone["id"])}

    lifted = system.http.post(f"/v1/deletions/{gone['id']}/lift").json()
    assert lifted["image_ids"] == [image_id]
    back = system.ingest(drawn)
    assert (back["embedded"], back["unchanged"], back["rejected"]) == (1, 199, 0)


def test_a_lesion_stays_away_with_images_that_come_later(system: System, rows: Rows) -> None:
    lesion = rows[5]["lesion_id"]
    own = {row["image_id"] for row in rows if row["lesion_id"] == lesion}
    assert len(own) > 1

    gone = delete(system, field="lesion_id", value=lesion)
    assert set(gone["image_ids"]) == own
    late = upload(system, image_id="LATE", lesion_id=lesion)

    assert rejections(system, late) == {"LATE": deleted_by(gone["id"])}
    assert not indexed(system) & {*own, "LATE"}
    assert not list((system.blobs / "uploads" / late["id"]).glob("0"))


@pytest.mark.parametrize("field", ["patient_id", "lesion_id"])  # without and with an index
def test_a_number_is_one_as_text_as_number_and_from_a_column_with_gaps(
    system: System, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    numbers = {"A": 123, "B": "123", "C": 123.0, "D": 1230}
    for name, number in numbers.items():
        upload(system, image_id=f"{field} {name}", **{field: number})

    wanted = make_deletion([], f"{field}=123", None)
    asked: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda question: asked.append(question) or True)
    with Client(f"http://127.0.0.1:{system.port}") as client:
        confirm(client, wanted)
    gone = delete(system, **wanted)

    assert asked == ["Delete 3 images for good?"]
    assert gone["image_ids"] == [f"{field} {name}" for name in "ABC"]
    late = upload(system, image_id="LATE", **{field: 123.0})
    assert rejections(system, late) == {"LATE": deleted_by(gone["id"])}
    delete(system, image_ids=[f"{field} D"])


def test_a_filter_s_worth_goes_also_what_a_running_job_brings_meanwhile(
    system: System, rows: Rows, drawn: Path
) -> None:
    delete(system, filter={"must_not": [{"is_empty": {"key": "image_id"}}]})
    everything = system.http.get("/v1/jobs").json()["jobs"]
    for job in everything:
        assert job["finished_at"]
    lift_all(system)
    melanoma = {row["image_id"] for row in rows if row["dx"] == "melanoma"}

    job = system.submit(drawn)
    until(lambda: system.job(job["id"])["embedded"] > 20, "a job in the middle")
    system.http.post(f"/v1/jobs/{job['id']}/pause").raise_for_status()
    system.wait_until_still()
    here = melanoma & indexed(system)
    gone = delete(system, filter={"must": [{"key": "dx", "match": {"value": "melanoma"}}]})
    assert here <= set(gone["image_ids"])
    system.http.post(f"/v1/jobs/{job['id']}/resume").raise_for_status()
    done = system.finished(job["id"])

    assert not melanoma & indexed(system)
    assert done["total"] == done["embedded"] + done["unchanged"] + done["rejected"] == 200
    assert done["rejected"] == len(melanoma - here) > 0
    receipt = system.http.get(f"/v1/deletions/{gone['id']}").json()
    assert set(receipt["image_ids"]) == melanoma
    # A later job is not touched by the filter, only by the tombstones that it left.
    delete_free = upload(system, image_id="NEW", dx="melanoma")
    assert delete_free["embedded"] == 1


def test_a_worker_killed_in_the_middle_leaves_nothing_half_deleted(
    system: System, rows: Rows
) -> None:
    before = indexed(system)
    answer = system.http.post(
        "/v1/deletions", json={"filter": {"must": [{"key": "sex", "match": {"value": "male"}}]}}
    )
    assert answer.status_code == 202
    kill(system.worker)
    system.restart_worker()
    where = answer.headers["Location"]
    finished = until(
        lambda: (d := system.http.get(where).json())["state"] == "succeeded" and d, "the receipt"
    )

    male = {row["image_id"] for row in rows if row["sex"] == "male"} & before
    assert set(finished["image_ids"]) == male
    assert indexed(system) == before - male
    for image_id in male:
        assert system.http.get(f"/v1/images/{image_id}/preview").status_code == 404


def test_of_an_image_that_came_three_times_nothing_is_left(system: System) -> None:
    """Twice the same, then with other pixels: only the last upload is the image's own."""
    sent = [upload(system, image_id="TWICE", shade=shade) for shade in (1, 1, 2)]
    kept = [list((system.blobs / "uploads" / job["id"]).glob("0")) for job in sent]
    assert [len(files) for files in kept] == [0, 0, 1]
    assert [job["embedded"] for job in sent] == [1, 0, 1]

    delete(system, image_ids=["TWICE"])

    assert not kept[2][0].exists()


def test_images_of_several_patients_stay_away_with_each_of_them(system: System) -> None:
    upload(system, image_id="BOTH", patient_id=["P1", "P2"])
    gone = delete(system, field="patient_id", value="P2")
    assert gone["image_ids"] == ["BOTH"]
    late = upload(system, image_id="LATER", patient_id=["P2", "P3"])
    assert rejections(system, late) == {"LATER": deleted_by(gone["id"])}


def test_the_command_line_deletes_and_undoes(system: System, tmp_path: Path) -> None:
    upload(system, image_id="CLI", dx="nevus")
    file = tmp_path / "receipt.json"

    said = run(system, "delete", "CLI", "--yes", "--receipt", file)

    assert "1 images deleted" in said
    receipt = json.loads(file.read_text())
    assert receipt["image_ids"] == ["CLI"]
    assert upload(system, image_id="CLI", dx="nevus")["rejected"] == 1
    assert "may be ingested again" in run(system, "undelete", receipt["id"])
    assert upload(system, image_id="CLI", dx="nevus")["embedded"] == 1


def test_a_receipt_is_read_without_a_worker(system: System) -> None:
    upload(system, image_id="RECEIPT")
    gone = delete(system, image_ids=["RECEIPT"])
    kill(system.worker)

    answer = system.http.get(f"/v1/deletions/{gone['id']}")

    system.restart_worker()
    assert (answer.status_code, answer.json()) == (200, gone)


def test_a_deletion_outlives_the_time_that_a_search_may_wait(
    tmp_path: Path, encoder: Path, drawn: Path
) -> None:
    with System(tmp_path / "data", encoder, SEARCH_TTL="1", RESULT_TTL="1") as short:
        short.ingest(drawn, limit=20)
        kill(short.worker)
        everything = {"must_not": [{"is_empty": {"key": "image_id"}}]}
        asked = short.http.post("/v1/deletions", json={"filter": everything})
        time.sleep(2.5)  # longer than anything of a search is kept
        short.restart_worker()

        where = asked.headers["Location"]
        done = until(lambda: (d := short.http.get(where).json())["final"] and d, "the receipt")
        jobs = short.http.get("/v1/jobs").json()["jobs"]

    assert (done["state"], done["total"], done["deleted"], done["count"]) == (
        "succeeded", 20, 20, 20,
    )  # fmt: skip
    assert [(job["operation"], job["counts"]) for job in jobs if job["operation"] == "delete"] == [
        ("delete", {"deleted": 20})
    ]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({}, "expected one of"),
        ({"filter": {}}, "would delete everything"),
        ({"field": "lesion_id"}, "belong together"),
        ({"image_ids": ["a"], "field": "lesion_id", "value": "b"}, "expected one of"),
    ],
)
def test_a_deletion_that_could_be_a_mistake_is_refused(
    system: System, wanted: dict[str, Any], says: str
) -> None:
    answer = system.http.post("/v1/deletions", json=wanted)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


def test_only_an_identifier_can_be_buried_by_its_value(system: System) -> None:
    refused = delete(system, field="dx", value="nevus")
    assert (refused["state"], refused["error"]["status"]) == ("failed", 422)
    assert "must be an identifier" in refused["error"]["detail"]
    assert system.http.get("/v1/deletions/nobody").status_code == 404
    assert system.http.post("/v1/deletions/nobody/lift").status_code == 404
    assert system.http.delete("/v1/images/nobody").status_code == 404


def upload(system: System, shade: int = 90, **metadata: Any) -> dict[str, Any]:
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), (len(str(metadata)), 90, shade)).save(picture, "PNG")
    answer = system.http.post(
        "/v1/images",
        files={"files": picture.getvalue()},
        data={"metadata": json.dumps([metadata])},
    )
    assert answer.status_code == 202, answer.text
    return system.finished(answer.json()["id"])


def lift_all(system: System) -> None:
    for folder in (system.blobs / "deletions").iterdir():
        system.http.post(f"/v1/deletions/{folder.name}/lift").raise_for_status()
